"""The tables of a study."""

import math
from collections.abc import Sequence
from dataclasses import fields

from udt_cluster.studies.columns import SKIP_KINDS
from udt_cluster.studies.conclusion import short_name
from udt_cluster.studies.design import Arm, metric_named
from udt_cluster.studies.findings import (
    ArmResult,
    ComparisonResult,
    CurvePoint,
    Findings,
    InteractionResult,
    OrderResult,
    Regression,
    ScatterPoint,
)
from udt_cluster.studies.sheets import Cell, Sheet
from udt_cluster.studies.wording import (
    UNDEFINED,
    bracket,
    correlation,
    counted,
    double_effect,
    mean_text,
    number,
    p_text,
    signed,
    unit_text,
)

_FEW_COMPARISONS = 4  # of which all regressions are listed
_MARKS = {"better": "gain", "worse": "loss"}
_KIND = {"left out": "all against all but it", "alone": "alone against none", "shapley": "mean over all subsets"}
_SHOWN = {"no difference shown": "not shown"}
_HELP = {**_SHOWN, "better": "helps", "worse": "hurts"}

Record = ArmResult | ComparisonResult | InteractionResult | OrderResult | CurvePoint | ScatterPoint


def arm_sheet(findings: Findings, dataset: str) -> Sheet:
    """Arms with their scores, rank and cost."""
    design, unit = findings.design, findings.facts(dataset).unit
    metrics = [name for name in design.metrics if findings.arms_of(dataset, metric=name)]
    columns = [findings.arms_of(dataset, metric=name) for name in metrics]
    titles = [f"{(metric := metric_named(name)).label}{unit_text(metric, unit)} [95 %]" for name in metrics]
    costs = [title for title, _ in _cost(design.arms[0]) if any(dict(_cost(arm))[title] for arm in design.arms)]
    rows = []
    for arm, *results in zip(design.arms, *columns, strict=True):
        first = results[0]
        rank = f"{first.rank} ({first.rank_low}–{first.rank_high})" if first.rank else UNDEFINED
        reference = " (reference)" if arm.name == design.reference else ""
        cost = [text for title, text in _cost(arm) if title in costs]
        scores = [mean_text(one) if one.groups else "no scores yet" for one in results]
        rows.append((arm.name + reference, *scores, rank, *cost, str(first.cases)))
    found = [one for column in columns for one in column]
    shared, most = max(one.rank_groups for one in columns[0]), max(one.groups for one in columns[0])
    ranked = f"; ranks are on the {counted(shared, design.group)} that all arms have" if 0 < shared < most else ""
    return Sheet(
        name="arms",
        title=f"{dataset}: arms{ranked}",
        header=("arm", *titles, "rank (95 %)", *costs, "cases"),
        rows=tuple(rows),
        numbers=frozenset(range(1, len(metrics) + len(costs) + 3)),
        raw_header=_names(ArmResult),
        raw_rows=raw(found),
    )


def comparison_sheet(
    findings: Findings, results: Sequence[ComparisonResult], *, name: str, title: str, unit: str = ""
) -> Sheet:
    """Comparisons with their interval, tests and effect sizes."""
    several = {"class": {one.class_name for one in results}, "metric": {one.metric for one in results}}
    extra = [column for column, values in several.items() if len(values) > 1]
    header = ("difference [95 %]", "corrected p", "Wilcoxon p", "dz", "rank-biserial", "better / equal / worse")
    rows = tuple(
        (
            short_name(one.name, findings.design),
            *_extra(one, extra),
            *_effects(one, unit),
            _SHOWN.get(one.verdict, one.verdict),
        )
        for one in results
    )
    first = len(extra) + 1
    return Sheet(
        name=name,
        title=title,
        header=("comparison", *extra, *header, "shown"),
        rows=rows,
        numbers=frozenset(range(first, first + len(header))),
        marks=_marked(results),
        raw_header=_names(ComparisonResult),
        raw_rows=raw(results),
    )


def skip_sheet(findings: Findings, dataset: str) -> Sheet | None:
    """What each skip contributes, in each way that the arms allow."""
    results = [one for kind in SKIP_KINDS for one in findings.of(kind, dataset=dataset)]
    if not results:
        return None
    rows = tuple(
        (f"skip {one.level}", _KIND[one.kind], *_effects(one, ""), _HELP.get(one.verdict, one.verdict))
        for one in results
    )
    header = ("difference [95 %]", "corrected p", "Wilcoxon p", "dz", "rank-biserial", "better / equal / worse")
    return Sheet(
        name="skips",
        title=f"{dataset}: what each skip contributes",
        header=("skip", "how", *header, "shown"),
        rows=rows,
        numbers=frozenset(range(2, 8)),
        marks=_marked(results),
        raw_header=_names(ComparisonResult),
        raw_rows=raw(results),
    )


def regression_sheet(findings: Findings, dataset: str) -> Sheet | None:
    """The cases that lose most in each comparison of the first metric."""
    metric = findings.design.metric
    comparisons = findings.of(dataset=dataset)
    most = None if len(comparisons) <= _FEW_COMPARISONS else 2
    found = [(one, worst) for one in comparisons for worst in one.regressions[:most]]
    if not found:
        return None
    cells = [
        (short_name(one.name, findings.design), worst.case, worst.group, signed(worst.difference, metric))
        for one, worst in found
    ]
    return Sheet(
        name="regressions",
        title=f"{dataset}: the cases that lose most",
        header=("comparison", "case", findings.design.group, metric.label),
        rows=tuple(cells),
        numbers=frozenset({3}),
        raw_header=("comparison", *_names(Regression)),
        raw_rows=tuple((one.name, worst.case, worst.group, worst.difference) for one, worst in found),
    )


def noise_sheet(findings: Findings, dataset: str) -> Sheet | None:
    """How much means vary between folds and between seeds."""
    results = [one for one in findings.arms_of(dataset) if not math.isnan(one.seed_sd) or not math.isnan(one.fold_sd)]
    if not results:
        return None
    metric = findings.design.metric
    rows = tuple((one.arm, _sd(one.seed_sd, metric.name), _sd(one.fold_sd, metric.name)) for one in results)
    one_seed = findings.facts(dataset).seeds == 1
    fold = "between folds, beyond patients" + (" (holds seeds too)" if one_seed else "")
    return Sheet(
        name="noise",
        title=f"{dataset}: standard deviation of a fold's mean {metric.label}",
        header=("arm", "from seed to seed", fold),
        rows=rows,
        numbers=frozenset({1, 2}),
    )


def interaction_sheet(findings: Findings) -> Sheet:
    """Double differences between data sets."""
    results = findings.interactions
    rows = tuple(
        (
            short_name(one.name, findings.design),
            f"{one.first} − {one.second}",
            double_effect(one),
            p_text(one.corrected_p),
            f"{one.groups[0]} / {one.groups[1]}",
            one.verdict,
        )
        for one in results
    )
    label = findings.design.metric.label
    return Sheet(
        name="interactions",
        title=f"Does the effect on {label} depend on the data set?",
        header=(
            "comparison",
            "data sets",
            "double difference [95 %]",
            "corrected p",
            f"{findings.design.group}s",
            "shown",
        ),
        rows=rows,
        numbers=frozenset({2, 3, 4}),
        marks={at: "gain" for at, one in enumerate(results) if one.verdict == "depends on the data set"},
        raw_header=_names(InteractionResult),
        raw_rows=raw(results),
    )


def order_sheet(findings: Findings) -> Sheet:
    """Rank correlations of the arms' order."""
    rows = tuple(
        (
            f"{one.first} and {one.second}",
            str(one.arms),
            correlation(one.spearman),
            "no interval" if math.isnan(one.low) else f"[{correlation(one.low)}, {correlation(one.high)}]",
            correlation(one.kendall),
        )
        for one in findings.orders
    )
    return Sheet(
        name="orders",
        title="Do the data sets put the arms into the same order?",
        header=("data sets", "arms", "Spearman", "95 %", "Kendall"),
        rows=rows,
        numbers=frozenset({1, 2, 3, 4}),
        raw_header=_names(OrderResult),
        raw_rows=raw(findings.orders),
    )


def choice_sheet(findings: Findings) -> Sheet:
    """What was tuned, and what was fixed for all."""
    rows = tuple((one.dataset, one.part, one.tuned, one.fixed) for one in findings.choices)
    header = ("data set", "held out", "best on its other parts", "best on all data sets' other parts")
    return Sheet(name="choices", title="Arms chosen without the cases that score them", header=header, rows=rows)


def _cost(arm: Arm) -> list[tuple[str, str]]:
    """Columns of the cost; empty where it is not known."""
    parameters = f"{arm.parameters / 1e6:.2f}" if arm.parameters else ""
    return [("parameters, M", parameters), ("GMAC", f"{arm.gmac:.2f}" if arm.gmac else "")]


def raw(results: Sequence[Record]) -> tuple[tuple[Cell, ...], ...]:
    """Every field of records at full precision; fields that hold several values are joined."""
    return tuple(tuple(_cell(getattr(one, name)) for name in _names(type(one))) for one in results)


def raw_header(results: Sequence[Record]) -> tuple[str, ...]:
    """Names of the fields of records; none without records."""
    return _names(type(results[0])) if results else ()


def _names(kind: type[Record] | type[Regression]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name != "regressions")


def _cell(value: object) -> Cell:
    if isinstance(value, tuple):
        return " ".join(str(part) for part in value)
    return value if isinstance(value, int | float | str) else str(value)


def _extra(one: ComparisonResult, columns: Sequence[str]) -> list[str]:
    cells = {"class": one.class_name or "all", "metric": metric_named(one.metric).label}
    return [cells[column] for column in columns]


def _effects(one: ComparisonResult, unit: str) -> tuple[str, ...]:
    if not one.groups:
        return ("no scores of both", "", "", "", "", "")
    metric = metric_named(one.metric)
    return (
        f"{signed(one.difference, metric)}{unit_text(metric, unit)} {bracket(one.low, one.high, metric)}",
        p_text(one.corrected_p),
        p_text(one.wilcoxon_p),
        correlation(one.cohens_dz),
        correlation(one.rank_biserial),
        f"{one.wins} / {one.ties} / {one.losses}",
    )


def _marked(results: Sequence[ComparisonResult]) -> dict[int, str]:
    return {at: _MARKS[one.verdict] for at, one in enumerate(results) if one.verdict in _MARKS}


def _sd(value: float, metric: str) -> str:
    known = metric_named(metric)
    return UNDEFINED if math.isnan(value) else f"{value:.4f}" if known.high <= 1 else number(value, known)
