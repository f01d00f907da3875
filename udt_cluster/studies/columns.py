"""Curves over ordered arms, and columns set against each other."""

import math
from collections.abc import Callable, Sequence

from udt_cluster.statistics import rank_correlation
from udt_cluster.studies.design import Design, metric_named
from udt_cluster.studies.findings import ArmResult, ComparisonResult, CurvePoint, Kind, ScatterPoint, ScatterResult

_COST = {"parameters": "parameters, millions", "gmac": "multiply-adds, 1e9"}
SKIP_KINDS: tuple[Kind, ...] = ("shapley", "left out", "alone")
"""Which number of a skip is shown where one is: the first of these that there is."""


def curve_points(arms: Sequence[ArmResult], design: Design) -> list[CurvePoint]:
    """The first metric over the arms' positions, and measurements called `train_<metric>` beside it, with their gap."""
    if not design.has_curve:
        return []
    name = design.metrics[0]
    shown = [one for one in arms if one.metric == name and not one.class_name and not math.isnan(one.mean)]
    points = []
    for one in shown:
        position = design.arm(one.arm).position
        assert position is not None, "all arms have one"
        place = (one.dataset, one.arm, position)
        points.append(_point("held-out cases", place, one.mean, one.low, one.high))
        trained = _measured(design, f"train_{name}", one.arm, one.dataset)
        if trained is not None:
            points.append(_point("training cases", place, trained))
            points.append(_point("gap: training - held-out", place, trained - one.mean))
    return sorted(points, key=lambda point: (point.dataset, point.series, point.position))


def scatter_results(
    arms: Sequence[ArmResult], comparisons: Sequence[ComparisonResult], design: Design
) -> list[ScatterResult]:
    """What the design asks for, arm by arm, and the gaps of skips against what the skips contribute."""
    results = [_of_arms(x, y, arms, design) for x, y in design.scatters]
    if design.gaps:
        results.append(_of_gaps(comparisons, design))
    return [result for result in results if len(result.points) > 1]


def scatter(
    points: Sequence[ScatterPoint], *, name: str, title: str, x_label: str, y_label: str, seed: int
) -> ScatterResult:
    """Two columns against each other, with the correlation of their ranks."""
    found = rank_correlation([point.x for point in points], [point.y for point in points], seed=seed)
    return ScatterResult(
        name=name,
        title=title,
        x_label=x_label,
        y_label=y_label,
        points=tuple(points),
        spearman=found.spearman,
        kendall=found.kendall,
        low=found.interval.low,
        high=found.interval.high,
        p=found.p,
    )


def shown_skips(comparisons: Sequence[ComparisonResult], design: Design, dataset: str) -> list[ComparisonResult]:
    """One number for each skip of a data set, for the first metric: Shapley's where all subsets are there."""
    here = [one for one in comparisons if (one.dataset, one.metric) == (dataset, design.metrics[0]) and one.level]
    found = ([one for one in here if one.kind == kind and one.groups and not one.class_name] for kind in SKIP_KINDS)
    return next((skips for skips in found if skips), [])


def _point(
    series: str, place: tuple[str, str, float], value: float, low: float = math.nan, high: float = math.nan
) -> CurvePoint:
    dataset, arm, position = place
    return CurvePoint(dataset=dataset, series=series, arm=arm, position=position, value=value, low=low, high=high)


def _of_arms(x: str, y: str, arms: Sequence[ArmResult], design: Design) -> ScatterResult:
    datasets = list(dict.fromkeys(one.dataset for one in arms))
    along, up = _column(x, arms, design), _column(y, arms, design)
    points = []
    for dataset in datasets:
        for arm in design.arms:
            at, value = along(arm.name, dataset), up(arm.name, dataset)
            if not math.isnan(at) and not math.isnan(value):
                points.append(ScatterPoint(dataset=dataset, label=arm.name, x=at, y=value))
    labels = [_COST.get(name, metric_named(name).label) for name in (x, y)]
    title = f"{labels[1]} against {labels[0]}"
    return scatter(points, name=f"{y}-against-{x}", title=title, x_label=labels[0], y_label=labels[1], seed=design.seed)


def _column(name: str, arms: Sequence[ArmResult], design: Design) -> Callable[[str, str], float]:
    """A number by arm and data set; NaN where there is none."""
    if name == "parameters":
        return lambda arm, dataset: design.arm(arm).parameters / 1e6 or math.nan
    if name == "gmac":
        return lambda arm, dataset: design.arm(arm).gmac or math.nan
    means = {(one.arm, one.dataset): one.mean for one in arms if one.metric == name and not one.class_name}
    if means:
        return lambda arm, dataset: means.get((arm, dataset), math.nan)

    def measured(arm: str, dataset: str) -> float:
        value = _measured(design, name, arm, dataset)
        return math.nan if value is None else value

    return measured


def _measured(design: Design, name: str, arm: str, dataset: str) -> float | None:
    for one in design.measurements:
        if (one.name, one.arm) == (name, arm) and one.dataset in ("", dataset):
            return one.value
    return None


def _of_gaps(comparisons: Sequence[ComparisonResult], design: Design) -> ScatterResult:
    sign = design.metric.sign
    points = []
    for gap in design.gaps:
        for one in shown_skips(comparisons, design, gap.dataset):
            if one.level == gap.level:
                ends = sorted((sign * one.low, sign * one.high)) if not math.isnan(one.low) else [math.nan, math.nan]
                label = f"skip {gap.level}"
                y = sign * one.difference
                points.append(
                    ScatterPoint(dataset=gap.dataset, label=label, x=gap.value, y=y, low=ends[0], high=ends[1])
                )
    return scatter(
        points,
        name="gap-against-benefit",
        title="Does a skip help less where encoder and decoder are less alike?",
        x_label="gap between encoder and decoder, 1 - CKA",
        y_label=f"gain in {design.metric.label} by the skip",
        seed=design.seed,
    )
