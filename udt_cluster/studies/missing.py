"""What a study still lacks: trainings without scores, and cases that a training did not score."""

from collections.abc import Sequence
from dataclasses import dataclass

from udt_cluster.studies.design import Design
from udt_cluster.studies.table import RunKey, ScoreTable

_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What is not there.

    Attributes:
        runs_expected: Trainings of a whole study.
        runs_found: Those of them that have scores.
        notes: A sentence for each gap, and for what makes scores hard to compare.
    """

    runs_expected: int
    runs_found: int
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every training has scores."""
        return self.runs_found == self.runs_expected


def find_missing(table: ScoreTable, design: Design) -> Missing:
    """Compare the scores with what the design expects; what it does not state is taken from the scores."""
    expected = _expected(table, design)
    found = [run for run in expected if run in table.runs]
    strays = sorted({row.arm for row in table.rows} - {arm.name for arm in design.arms})
    notes = [*_runs(expected, table.runs), *_cases(table), *_fold_changes(table)]
    notes += [f"scores of {name} are there, but the study has no such arm" for name in strays]
    notes += [f"no scores of the metric {name}" for name in design.metrics if table.rows and name not in table.metrics]
    return Missing(runs_expected=len(expected), runs_found=len(found), notes=tuple(notes))


def _expected(table: ScoreTable, design: Design) -> list[RunKey]:
    keys = []
    for dataset in design.datasets or tuple(table.by_dataset):
        seen = [run for run in table.runs if run.dataset == dataset]
        folds = range(design.folds) if design.folds else sorted({run.fold for run in seen})
        seeds = design.seeds or sorted({run.seed for run in seen})
        keys += [
            RunKey(dataset=dataset, arm=arm.name, fold=fold, seed=seed)
            for arm in design.arms
            for fold in folds or (0,)
            for seed in seeds or (0,)
        ]
    return keys


def _runs(expected: Sequence[RunKey], found: frozenset[RunKey]) -> list[str]:
    notes = []
    for dataset, arm in dict.fromkeys((run.dataset, run.arm) for run in expected):
        wanted = [run for run in expected if (run.dataset, run.arm) == (dataset, arm)]
        lacking = [run for run in wanted if run not in found]
        if len(lacking) == len(wanted):
            notes.append(f"{dataset}: {arm} has no scores yet")
        elif lacking:
            names = [f"fold {run.fold} seed {run.seed}" for run in lacking]
            notes.append(f"{dataset}: {arm} lacks {_listed(names)} ({len(lacking)} of {len(wanted)} trainings)")
    return notes


def _cases(table: ScoreTable) -> list[str]:
    """Cases that other trainings of the same fold have scored, and this one has not."""
    scored: dict[RunKey, set[str]] = {}
    for row in table.rows:
        scored.setdefault(row.run, set()).add(row.case)
    of_fold: dict[tuple[str, int], set[str]] = {}
    for run, cases in scored.items():
        of_fold.setdefault((run.dataset, run.fold), set()).update(cases)
    notes = []
    for run in sorted(scored):
        lacking = sorted(of_fold[run.dataset, run.fold] - scored[run])
        if lacking:
            where = f"{run.dataset}: {run.arm}, fold {run.fold} seed {run.seed}"
            notes.append(f"{where} lacks {len(lacking)} case{'' if len(lacking) == 1 else 's'}: {_listed(lacking)}")
    return notes


def _fold_changes(table: ScoreTable) -> list[str]:
    notes = []
    for dataset, rows in table.by_dataset.items():
        folds: dict[str, set[int]] = {}
        for row in rows:
            folds.setdefault(row.case, set()).add(row.fold)
        changed = sum(len(found) > 1 for found in folds.values())
        if changed:
            text = "its arms or seeds did not share their folds, so seed noise and fold noise cannot be told apart"
            notes.append(f"{dataset}: {changed} cases were held out in different folds; {text}")
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown
