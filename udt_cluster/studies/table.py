"""The scores of a study: one row for each case, class, arm, fold and seed, read from the tables of its runs."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_PLAIN = ("case", "group", "class", "class_name")
_OTHER = ("prediction_voxels", "reference_voxels", "unit")
_KEY = ("dataset", "arm", "fold", "seed")
_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """Scores of one class of one case by one training.

    Attributes:
        dataset: Name of the data set.
        arm: Name of the configuration.
        fold: The one that the case was held out in, from 0.
        seed: Of the training.
        case: Id.
        group: What must not be split over folds: the patient.
        class_index: 1 is the first that is not background.
        class_name: Its name.
        values: By metric; NaN = undefined.
        unit: Of distances.
    """

    dataset: str
    arm: str
    fold: int
    seed: int
    case: str
    group: str
    class_index: int
    class_name: str
    values: Mapping[str, float]
    unit: str = "px"

    @property
    def run(self) -> "RunKey":
        """The training it came from."""
        return RunKey(dataset=self.dataset, arm=self.arm, fold=self.fold, seed=self.seed)


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class RunKey:
    """One training of a study."""

    dataset: str
    arm: str
    fold: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class ScoreFile:
    """Where the scores of one training are.

    Attributes:
        run: Which training.
        location: Its `per_case.csv`: what `evaluation.score` wrote for the cases that the training did not see.
    """

    run: RunKey
    location: Location


@dataclass(frozen=True)
class ScoreTable:
    """All scores of a study.

    Raises:
        DataError: a case was scored twice by the same arm and seed, or is in two groups; every case is named.
    """

    rows: tuple[ScoreRow, ...]

    def __post_init__(self) -> None:
        problems = [*_scored_twice(self.rows), *_in_two_groups(self.rows)]
        if problems:
            shown = problems[:_MOST_NAMED]
            rest = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
            raise DataError("the scores of the study contradict each other", [*shown, *rest])

    @classmethod
    def from_files(cls, files: Iterable[ScoreFile]) -> "ScoreTable":
        """Read the tables of runs; each is whole or is not there.

        Raises:
            DataError: a table that is none, or scores that contradict each other.
            FileNotFoundError: no such table: leave out what is not finished.
        """
        rows: list[ScoreRow] = []
        for file in files:
            text = file.location.read_bytes().decode("utf-8")
            rows += read_scores(text, run=file.run, where=file.location.uri)
        return cls(tuple(rows))

    @classmethod
    def from_csv(cls, text: str) -> "ScoreTable":
        """The inverse of :meth:`to_csv`."""
        rows = []
        for number, cells in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            run = RunKey(dataset=cells["dataset"], arm=cells["arm"], fold=int(cells["fold"]), seed=int(cells["seed"]))
            rest = {name: cell for name, cell in cells.items() if name not in _KEY}
            rows.append(_row(rest, run, f"line {number}"))
        return cls(tuple(rows))

    def to_csv(self) -> str:
        """One line per row; an undefined score is an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_KEY, *_PLAIN, *self.metrics, "unit"])
        for row in self.rows:
            scores = [row.values.get(name, math.nan) for name in self.metrics]
            cells = ["" if math.isnan(score) else f"{score:.9g}" for score in scores]
            key = [row.dataset, row.arm, row.fold, row.seed, row.case, row.group, row.class_index, row.class_name]
            writer.writerow([*key, *cells, row.unit])
        return text.getvalue()

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Columns of scores, in the order in which they come first."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.values))

    @cached_property
    def by_dataset(self) -> Mapping[str, tuple[ScoreRow, ...]]:
        """Rows of each data set, in the order in which they come first."""
        found: dict[str, list[ScoreRow]] = {}
        for row in self.rows:
            found.setdefault(row.dataset, []).append(row)
        return {name: tuple(rows) for name, rows in found.items()}

    @cached_property
    def runs(self) -> frozenset[RunKey]:
        """Trainings that have scores."""
        return frozenset(row.run for row in self.rows)


def read_scores(text: str, *, run: RunKey, where: str) -> list[ScoreRow]:
    """Read a `per_case.csv`.

    Args:
        text: Of the file; every column that is not known is a metric.
        run: The training that it is of.
        where: For messages.

    Raises:
        DataError: a column is missing, or a cell is no number.
    """
    reader = csv.DictReader(io.StringIO(text))
    names = reader.fieldnames or []
    if missing := [name for name in _PLAIN if name not in names]:
        raise DataError(f"{where} is no table of scores: it lacks the columns {', '.join(missing)}")
    return [_row(cells, run, f"{where}, line {number}") for number, cells in enumerate(reader, start=2)]


def _row(cells: Mapping[str, str], run: RunKey, where: str) -> ScoreRow:
    metrics = {name: cell for name, cell in cells.items() if name not in (*_PLAIN, *_OTHER)}
    try:
        values = {name: float(cell) if cell else math.nan for name, cell in metrics.items()}
        index = int(cells["class"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: a cell is no number ({error}); score the run again") from error
    return ScoreRow(
        dataset=run.dataset,
        arm=run.arm,
        fold=run.fold,
        seed=run.seed,
        case=cells["case"],
        group=cells["group"],
        class_index=index,
        class_name=cells["class_name"],
        values=values,
        unit=cells.get("unit") or "px",
    )


def _scored_twice(rows: Sequence[ScoreRow]) -> list[str]:
    counts = Counter((row.dataset, row.arm, row.seed, row.case, row.class_index) for row in rows)
    found = sorted({key[:4] for key, count in counts.items() if count > 1})
    return [
        f"{dataset}, {arm}, seed {seed}: case {case} was scored twice; every case is held out in exactly one fold"
        for dataset, arm, seed, case in found
    ]


def _in_two_groups(rows: Sequence[ScoreRow]) -> list[str]:
    groups: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.case), set()).add(row.group)
    return [
        f"{dataset}: case {case} is in the groups {', '.join(sorted(found))}; all runs must use one version of the data"
        for (dataset, case), found in sorted(groups.items())
        if len(found) > 1
    ]
