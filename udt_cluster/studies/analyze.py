"""From scores to findings."""

from collections.abc import Iterator

from udt_cluster.studies.across import interactions, orders, tuned_against_fixed
from udt_cluster.studies.columns import curve_points, scatter_results
from udt_cluster.studies.compare import arm_results, compare, with_verdicts
from udt_cluster.studies.conclusion import conclude
from udt_cluster.studies.design import Design
from udt_cluster.studies.findings import ArmResult, ComparisonResult, DatasetFacts, Findings
from udt_cluster.studies.missing import find_missing
from udt_cluster.studies.skips import skip_contrasts
from udt_cluster.studies.table import ScoreRow, ScoreTable
from udt_cluster.studies.values import Scores, scores_of


def analyze(table: ScoreTable, design: Design) -> Findings:
    """Answer the question as far as the scores go.

    Arms are compared on the cases, classes and seeds that both have. An incomplete table is analysed, and what is
    missing is listed.

    Args:
        table: Out-of-fold scores: never those of a test split.
        design: What is asked.
    """
    names = [name for name in design.datasets or table.by_dataset if name in table.by_dataset]
    arm_names = [arm.name for arm in design.arms]
    arms: list[ArmResult] = []
    comparisons: list[ComparisonResult] = []
    first: list[Scores] = []
    for name in names:
        for metric in (metric for metric in design.metrics if metric in table.metrics):
            scores = scores_of(table.by_dataset[name], metric, arm_names)
            if metric == design.metrics[0] and scores.cases:
                first.append(scores)
            for class_name in _classes(scores):
                arms += arm_results(scores, design, class_name=class_name)
                comparisons += _comparisons(scores, design, class_name)
    tuned, choices = tuned_against_fixed(first, design)
    decided = with_verdicts([*comparisons, *tuned], design)
    findings = Findings(
        design=design,
        missing=find_missing(table, design),
        datasets=tuple(_facts(name, table.by_dataset[name], design) for name in names),
        arms=tuple(arms),
        comparisons=tuple(decided),
        interactions=tuple(interactions(first, design)),
        orders=tuple(orders(first, design)),
        choices=tuple(choices),
        curve=tuple(curve_points(arms, design)),
        scatters=tuple(scatter_results(arms, decided, design)),
    )
    return conclude(findings)


def _classes(scores: Scores) -> list[str]:
    """All together, and each where there are several."""
    return ["", *(scores.classes if len(scores.classes) > 1 else ())] if scores.cases else []


def _comparisons(scores: Scores, design: Design, class_name: str) -> Iterator[ComparisonResult]:
    for contrast in design.contrasts:
        yield compare(scores, contrast, design, class_name=class_name)
    if class_name or scores.metric != design.metrics[0]:
        return
    for kind, level, contrast in skip_contrasts(design):
        yield compare(scores, contrast, design, kind=kind, level=level)


def _facts(name: str, rows: tuple[ScoreRow, ...], design: Design) -> DatasetFacts:
    known = {arm.name for arm in design.arms}
    rows = tuple(row for row in rows if row.arm in known)
    units = sorted({row.unit for row in rows})
    return DatasetFacts(
        name=name,
        cases=len({row.case for row in rows}),
        groups=len({row.group for row in rows}),
        folds=len({row.fold for row in rows}),
        seeds=len({row.seed for row in rows}),
        classes=tuple(dict(sorted({row.class_index: row.class_name for row in rows}.items())).values()),
        unit=units[0] if len(units) == 1 else "mixed" if units else "",
    )
