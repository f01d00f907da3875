"""Several studies of the same arms, each on a data set of its own, as one: does the answer depend on the data set?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from udt_cluster.errors import DataError
from udt_cluster.studies.design import Arm, Contrast, Design, Measurement
from udt_cluster.studies.table import ScoreTable

T = TypeVar("T")

Study = tuple[Design, ScoreTable]


def joined(studies: Sequence[Study], *, name: str, question: str) -> Study:
    """The design and the scores of all; `analyze` then compares within and between their data sets.

    Arms are those of all studies, the metrics those that all have. What an arm costs is taken from the first.

    Args:
        studies: At least two.
        name: Of the new study.
        question: Of the new study.

    Raises:
        DataError: two studies are of one data set, an arm has other settings, or the references differ.
    """
    designs = [_named(design, table) for design, table in studies]
    if problems := [*_twice(designs), *_other_settings(designs), *_other_references(designs)]:
        raise DataError("these studies cannot be joined", problems)
    first = designs[0]
    design = replace(
        first,
        name=name,
        question=question,
        arms=_arms(designs),
        metrics=tuple(name for name in first.metrics if all(name in one.metrics for one in designs)),
        comparisons=_comparisons(designs),
        datasets=tuple(name for one in designs for name in one.datasets),
        folds=_same([one.folds for one in designs], 0),
        seeds=_same([one.seeds for one in designs], ()),
        margin=_same([one.margin for one in designs], None),
        measurements=tuple(found for one in designs for found in one.measurements),
        gaps=tuple(gap for one in designs for gap in one.gaps),
    )
    return design, ScoreTable(tuple(row for _, table in studies for row in table.rows))


def _named(design: Design, table: ScoreTable) -> Design:
    """The design with its data sets, and its measurements marked with the only one."""
    datasets = design.datasets or tuple(table.by_dataset)
    if len(datasets) != 1:
        return replace(design, datasets=datasets)
    measured = (_on(found, datasets[0]) for found in design.measurements)
    return replace(design, datasets=datasets, measurements=tuple(measured))


def _on(found: Measurement, dataset: str) -> Measurement:
    return replace(found, dataset=found.dataset or dataset)


def _twice(designs: Sequence[Design]) -> Iterator[str]:
    names = [name for design in designs for name in design.datasets]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"the data set {name} is in two of them; join one study per data set"


def _other_settings(designs: Sequence[Design]) -> Iterator[str]:
    known: dict[str, Arm] = {}
    for design in designs:
        for arm in design.arms:
            before = known.setdefault(arm.name, arm)
            if dict(before.settings) != dict(arm.settings):
                shown = f"{dict(before.settings)} and {dict(arm.settings)}"
                yield f"{design.name}: arm {arm.name!r} has other settings than in a study before it: {shown}"


def _other_references(designs: Sequence[Design]) -> Iterator[str]:
    references = list(dict.fromkeys(design.reference for design in designs))
    if len(references) > 1:
        yield f"their references differ: {', '.join(references)}"


def _arms(designs: Sequence[Design]) -> tuple[Arm, ...]:
    found: dict[str, Arm] = {}
    for design in designs:
        for arm in design.arms:
            found.setdefault(arm.name, arm)
    return tuple(found.values())


def _comparisons(designs: Sequence[Design]) -> tuple[Contrast, ...]:
    """Named ones of all studies; none where none has any, which means all against the reference."""
    if not any(design.comparisons for design in designs):
        return ()
    found: dict[str, Contrast] = {}
    for design in designs:
        for contrast in design.contrasts:
            found.setdefault(contrast.name, contrast)
    return tuple(found.values())


def _same(values: Sequence[T], otherwise: T) -> T:
    return values[0] if all(value == values[0] for value in values) else otherwise
