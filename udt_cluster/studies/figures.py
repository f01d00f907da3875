"""The figures of a study's page: differences with intervals, the network with its skips."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from udt_cluster.studies.columns import SKIP_KINDS
from udt_cluster.studies.conclusion import common_reference, is_shown, short_name
from udt_cluster.studies.design import Metric
from udt_cluster.studies.drawing import Box, Dot, Drawing, Line, Role, Shape, Words, shortened
from udt_cluster.studies.findings import ComparisonResult, Findings, InteractionResult
from udt_cluster.studies.scales import span, ticks
from udt_cluster.studies.wording import MINUS, bracket, double_effect, effect, signed

_WIDE = 820.0
_PLOT = (236.0, 632.0)  # from, to
_ROW, _TOP, _BOTTOM = 26.0, 44.0, 40.0
_MOST_LABEL = 34
_MOST_ROWS = 24

Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot."""

    label: str
    value: float
    low: float
    high: float
    text: str
    role: Role


def role_of(result: ComparisonResult) -> Role:
    """Blue for a gain that is shown, orange for a loss, grey for neither."""
    if not is_shown(result):
        return "plain"
    return "good" if result.verdict == "better" else "bad"


def comparison_forest(findings: Findings, dataset: str) -> Drawing:
    """Every comparison of the first metric on one data set."""
    design, metric = findings.design, findings.design.metric
    rows = [
        ForestRow(
            label=short_name(one.name, design),
            value=one.difference,
            low=one.low,
            high=one.high,
            text=f"{signed(one.difference, metric)} {bracket(one.low, one.high, metric)}",
            role=role_of(one),
        )
        for one in findings.of(dataset=dataset)
    ]
    against = common_reference(design)
    title = f"{metric.label}, difference from {against}" if against else f"{metric.label}, difference of arms"
    sides = (
        (f"{against} is better", "the arm is better") if against else ("the second is better", "the first is better")
    )
    return forest(rows, name="differences", title=f"{dataset}: {title}", metric=metric, sides=sides)


def interaction_forest(findings: Findings) -> Drawing:
    """Double differences between data sets: of the skips where there are some, else of the arms; the surest first."""
    metric = findings.design.metric
    kinds = {one.kind for one in findings.interactions}
    kind = next((kind for kind in SKIP_KINDS if kind in kinds), "comparison")
    found = [one for one in findings.interactions if one.kind == kind]
    ordered = sorted(found, key=lambda one: (math.isnan(one.p), one.p)) if len(found) > _MOST_ROWS else found
    rows = [_interaction_row(one, findings) for one in ordered[:_MOST_ROWS]]
    more = f" (the {_MOST_ROWS} surest of {len(ordered)})" if len(ordered) > _MOST_ROWS else ""
    title = f"Effect in one data set minus effect in another, {metric.label}{more}"
    return forest(rows, name="interaction", title=title, metric=metric, sides=("", ""))


def forest(
    rows: Sequence[ForestRow], *, name: str, title: str, metric: Metric, sides: tuple[str, str] = ("", "")
) -> Drawing:
    """A row for each value with its interval, and a line at 0.

    Args:
        rows: From above.
        name: Of its files.
        title: Above it.
        metric: Says which way is better.
        sides: What stands below the axis at its worse and its better end.
    """
    height = _TOP + _ROW * max(len(rows), 1) + _BOTTOM
    low, high = span([end for row in rows for end in (row.low, row.high, row.value, 0.0)])

    def x(value: float) -> float:
        return _PLOT[0] + (_PLOT[1] - _PLOT[0]) * (value - low) / (high - low)

    floor = height - _BOTTOM
    shapes: list[Shape] = [Words(x=0, y=16, text=title, role="ink", size=14, bold=True)]
    shapes += [Box(x=0, y=_TOP + _ROW * row, width=_WIDE, height=_ROW, role="band") for row in _striped(rows)]
    for tick in ticks(low, high):
        shapes.append(Line(points=((x(tick), _TOP - 6), (x(tick), floor))))
        shapes.append(Words(x=x(tick), y=floor + 16, text=_tick_text(tick), anchor="middle", size=11))
    shapes.append(Line(points=((x(0), _TOP - 8), (x(0), floor + 4)), role="ink", width=1.4))
    for at, row in enumerate(rows):
        shapes += _forest_row(row, _TOP + _ROW * at + _ROW / 2, x)
    left, right = sides if metric.higher_is_better else sides[::-1]
    shapes.append(Words(x=_PLOT[0], y=floor + 33, text=f"← {left}" if left else "", size=11))
    shapes.append(Words(x=_PLOT[1], y=floor + 33, text=f"{right} →" if right else "", anchor="end", size=11))
    return Drawing(name=name, title=title, width=_WIDE, height=height, shapes=tuple(shapes))


def network(findings: Findings, dataset: str, skips: Sequence[ComparisonResult]) -> Drawing:
    """The U with a line for each skip: as thick as what it contributes, in the colour of what is shown.

    Args:
        findings: For the metric.
        dataset: For the title.
        skips: One for each level that is known.
    """
    metric = findings.design.metric
    how = {"shapley": "mean over all subsets", "left out": "lost when left out", "alone": "gained when alone"}
    title = f"{dataset}: what each skip contributes to {metric.label} ({how[skips[0].kind]})"
    shapes: list[Shape] = [Words(x=0, y=16, text=title, role="ink", size=14, bold=True), *_network_boxes()]
    most = max(abs(one.difference) for one in skips) or 1.0
    for one in skips:
        shapes += _skip_line(one, metric, most)
    legend: list[tuple[Role, str]] = [("good", "helps"), ("bad", "hurts"), ("plain", "no contribution shown")]
    for at, (role, text) in enumerate(legend):
        shapes.append(Line(points=((290 + 120 * at, 388), (314 + 120 * at, 388)), role=role, width=5))
        shapes.append(Words(x=320 + 120 * at, y=392, text=text))
    return Drawing(name="network", title=title, width=_WIDE, height=404, shapes=tuple(shapes))


_LEVEL_Y = {1: 62.0, 2: 130.0, 3: 198.0, 4: 266.0}
_LEVEL_X = {1: 20.0, 2: 56.0, 3: 92.0, 4: 128.0}
_BLOCK = (84.0, 30.0)


def _network_boxes() -> Iterator[Shape]:
    wide, high = _BLOCK
    names = {1: "full size", 2: "1/2", 3: "1/4", 4: "1/8"}
    for level, y in _LEVEL_Y.items():
        left, right = _LEVEL_X[level], _WIDE - _LEVEL_X[level] - wide
        following = _LEVEL_X.get(level + 1, 164.0)
        below = _LEVEL_Y.get(level + 1, 334.0)
        for x, side in ((left, "encoder"), (right, "decoder")):
            start = (left + wide / 2, y + high) if side == "encoder" else (right + wide / 2, y + high)
            end_x = following + wide / 2 if side == "encoder" else _WIDE - following - wide / 2
            yield Line(
                points=(start, (start[0], (y + high + below) / 2), (end_x, (y + high + below) / 2), (end_x, below))
            )
            yield Box(x=x, y=y, width=wide, height=high, title=f"{side}, {names[level]}")
            yield Words(x=x + wide / 2, y=y + 19, text=names[level], role="ink", anchor="middle")
    yield Line(points=((164 + wide, 349), (_WIDE - 164 - wide, 349)), width=1)
    for x in (164.0, _WIDE - 164 - wide):
        yield Box(x=x, y=334, width=wide, height=high)
        yield Words(x=x + wide / 2, y=353, text="1/16", role="ink", anchor="middle")
    yield Words(x=20, y=48, text="encoder")
    yield Words(x=_WIDE - 20, y=48, text="decoder", anchor="end")


def _skip_line(one: ComparisonResult, metric: Metric, most: float) -> Iterator[Shape]:
    y = _LEVEL_Y[one.level] + _BLOCK[1] / 2
    left, right = _LEVEL_X[one.level] + _BLOCK[0], _WIDE - _LEVEL_X[one.level] - _BLOCK[0]
    width = 1.5 + 11 * abs(one.difference) / most
    text = f"skip {one.level}   {signed(one.difference, metric)} {bracket(one.low, one.high, metric)}"
    yield Line(
        points=((left, y), (right, y)),
        role=role_of(one),
        width=width,
        dashed=not is_shown(one),
        title=f"{one.name}: {effect(one)}, {one.verdict}",
    )
    yield Words(x=_WIDE / 2, y=y - width / 2 - 7, text=text, role="ink", anchor="middle", size=13)


def _interaction_row(one: InteractionResult, findings: Findings) -> ForestRow:
    shown = one.verdict == "depends on the data set"
    what = f"skip {one.level}" if one.level else short_name(one.name, findings.design)
    return ForestRow(
        label=f"{what}: {one.first} {MINUS} {one.second}",
        value=one.difference,
        low=one.low,
        high=one.high,
        text=double_effect(one),
        role="good" if shown else "plain",
    )


def _forest_row(row: ForestRow, y: float, x: Scale) -> Iterator[Shape]:
    yield Words(x=4, y=y + 4, text=shortened(row.label, _MOST_LABEL), role="ink", title=row.label)
    yield Words(x=_WIDE - 4, y=y + 4, text=row.text, role="ink", anchor="end")
    if math.isnan(row.value):
        return
    if not math.isnan(row.low):
        yield Line(points=((x(row.low), y), (x(row.high), y)), role=row.role, width=2.4, title=row.text)
    yield Dot(x=x(row.value), y=y, radius=4.6, role=row.role, title=row.text)


def _striped(rows: Sequence[ForestRow]) -> range:
    return range(0, 0) if len(rows) < 4 else range(1, len(rows), 2)


def _tick_text(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)
