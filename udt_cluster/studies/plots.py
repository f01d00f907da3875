"""Figures of columns: a curve over ordered arms, and two columns against each other."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from udt_cluster.studies.drawing import SERIES, Dot, Drawing, Line, Role, Shape, Words, shortened
from udt_cluster.studies.findings import CurvePoint, ScatterResult
from udt_cluster.studies.scales import span, ticks
from udt_cluster.studies.wording import MINUS, correlation, p_text

_WIDE, _HIGH = 720.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 20.0, 66.0, 52.0
_LETTER = 6.2  # mean width of a letter of a label
_LEGEND_COLUMNS = 3

Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """An area with axes.

    Attributes:
        x: From a value to the sheet.
        y: The same.
        shapes: Axes, grid and labels.
        height: Of the sheet.
    """

    x: Scale
    y: Scale
    height: float
    shapes: tuple[Shape, ...]


def curve(
    points: Sequence[CurvePoint], *, title: str, x_label: str, y_label: str, name: str = "curve", is_log: bool = False
) -> Drawing:
    """A line with intervals for each data set and series; series after the first are dashed.

    Args:
        points: At least one.
        title: Above.
        x_label: Of the positions.
        y_label: Of the values.
        name: Of its files.
        is_log: Whether positions, all above 0, are set on a logarithmic axis.
    """
    positions = sorted({point.position for point in points})
    values = [end for point in points for end in (point.value, point.low, point.high)]
    datasets = list(dict.fromkeys(point.dataset for point in points))
    kinds = list(dict.fromkeys(point.series for point in points))
    kinds.sort(key=lambda kind: all(math.isnan(point.low) for point in points if point.series == kind))
    pairs = [(dataset, kind) for dataset in datasets for kind in kinds]
    entries = len(pairs) if len(pairs) > 1 else 0
    labels = (x_label, y_label)
    frame = _frame(positions, values, title=title, labels=labels, is_log=is_log, marked=positions, entries=entries)
    shapes: list[Shape] = list(frame.shapes)
    for at, (dataset, kind) in enumerate(pairs):
        role = SERIES[(datasets.index(dataset) if len(datasets) > 1 else kinds.index(kind)) % len(SERIES)]
        mine = sorted((p for p in points if (p.dataset, p.series) == (dataset, kind)), key=lambda p: p.position)
        shapes += _curve_line(mine, frame, role, dashed=kind != kinds[0])
        label = " ".join(
            part for part in (dataset if len(datasets) > 1 else "", kind if len(kinds) > 1 else "") if part
        )
        if label:
            shapes += _legend(at, label, role, dashed=kind != kinds[0])
    return Drawing(name=name, title=title, width=_WIDE, height=frame.height, shapes=tuple(shapes))


def scatter_plot(result: ScatterResult) -> Drawing:
    """A dot for each point, with its interval and label, and the rank correlation in words."""
    values = [end for point in result.points for end in (point.y, point.low, point.high)]
    labels = (result.x_label, result.y_label)
    datasets = list(dict.fromkeys(point.dataset for point in result.points))
    entries = len(datasets) if len(datasets) > 1 else 0
    frame = _frame([point.x for point in result.points], values, title=result.title, labels=labels, entries=entries)
    shapes: list[Shape] = list(frame.shapes)
    for point in result.points:
        role = SERIES[datasets.index(point.dataset) % len(SERIES)]
        x, y = frame.x(point.x), frame.y(point.y)
        if not math.isnan(point.low):
            shapes.append(Line(points=((x, frame.y(point.low)), (x, frame.y(point.high))), role=role, width=1.6))
        shapes.append(Dot(x=x, y=y, role=role, title=f"{point.dataset} {point.label}"))
    spots = [(frame.x(point.x), frame.y(point.y), shortened(point.label, 26)) for point in result.points]
    shapes += _labels(spots)
    if len(datasets) > 1:
        for at, dataset in enumerate(datasets):
            shapes += _legend(at, dataset, SERIES[at % len(SERIES)], dashed=False)
    shapes.append(Words(x=_WIDE - _RIGHT, y=36, text=correlation_text(result), anchor="end", role="ink"))
    return Drawing(name=result.name, title=result.title, width=_WIDE, height=frame.height, shapes=tuple(shapes))


def correlation_text(result: ScatterResult) -> str:
    """Spearman +0.80 [+0.10, +0.97], p 0.03, 8 points."""
    known = not math.isnan(result.low)
    interval = f" [{correlation(result.low)}, {correlation(result.high)}]" if known else ""
    return f"Spearman {correlation(result.spearman)}{interval}, p {p_text(result.p)}, {len(result.points)} points"


def _labels(spots: Sequence[tuple[float, float, str]]) -> Iterator[Shape]:
    """A label beside each dot, where it covers no other; one that has no room is left to the dot's own title."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in spots]
    for x, y, text in spots:
        wide = _LETTER * len(text)
        for right, up in ((True, 4.0), (False, 4.0), (True, -9.0), (False, -9.0), (True, 16.0), (False, 16.0)):
            left = x + 9 if right else x - 9 - wide
            box = (left, y + up - 9, left + wide, y + up + 2)
            inside = left > _LEFT and left + wide < _WIDE
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield Words(
                    x=x + 9 if right else x - 9, y=y + up, text=text, size=11, anchor="start" if right else "end"
                )
                break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _curve_line(points: Sequence[CurvePoint], frame: Frame, role: Role, *, dashed: bool) -> Iterator[Shape]:
    path = tuple((frame.x(point.position), frame.y(point.value)) for point in points)
    if len(path) > 1:
        yield Line(points=path, role=role, width=2, dashed=dashed)
    for point, (x, y) in zip(points, path, strict=True):
        if not math.isnan(point.low):
            yield Line(points=((x, frame.y(point.low)), (x, frame.y(point.high))), role=role, width=1.6)
        yield Dot(x=x, y=y, role=role, title=f"{point.dataset} {point.arm}, {point.series}: {point.value:.4g}")


def _legend(at: int, label: str, role: Role, *, dashed: bool) -> Iterator[Shape]:
    x, y = _LEFT + 214 * (at % _LEGEND_COLUMNS), 54 + 17 * (at // _LEGEND_COLUMNS)
    yield Line(points=((x, y - 4), (x + 23, y - 4)), role=role, width=2.4, dashed=dashed)
    yield Words(x=x + 28, y=y, text=shortened(label, 30), role="ink")


def _frame(
    along: Sequence[float],
    up: Sequence[float],
    *,
    title: str,
    labels: tuple[str, str],
    is_log: bool = False,
    marked: Sequence[float] = (),
    entries: int = 0,
) -> Frame:
    """Axes that hold all values; `marked` are the ticks of the horizontal one, else round numbers.

    `entries` of a legend have their place above the area.
    """
    placed = [math.log10(value) if is_log else value for value in along]
    (left, right), (low, high) = span(placed), span(up)
    top = _TOP + 17 * (-(-entries // _LEGEND_COLUMNS))
    height = _HIGH + top - _TOP
    floor = height - _BOTTOM

    def x(value: float) -> float:
        at = math.log10(value) if is_log else value
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * (at - left) / (right - left)

    def y(value: float) -> float:
        return floor - (floor - top) * (value - low) / (high - low)

    shapes: list[Shape] = [Words(x=0, y=16, text=title, role="ink", size=14, bold=True)]
    for tick in ticks(low, high):
        shapes.append(Line(points=((_LEFT, y(tick)), (_WIDE - _RIGHT, y(tick)))))
        shapes.append(Words(x=_LEFT - 8, y=y(tick) + 4, text=_text(tick), anchor="end", size=11))
    for tick in marked or ticks(left, right):
        shapes.append(Line(points=((x(tick), floor), (x(tick), floor + 5)), role="faint"))
        shapes.append(Words(x=x(tick), y=floor + 19, text=_text(tick), anchor="middle", size=11))
    shapes.append(Line(points=((_LEFT, floor), (_WIDE - _RIGHT, floor)), role="faint"))
    shapes.append(Words(x=(_LEFT + _WIDE - _RIGHT) / 2, y=height - 10, text=labels[0], anchor="middle"))
    shapes.append(Words(x=0, y=top - 10, text=f"↑ {labels[1]}"))
    return Frame(x=x, y=y, height=height, shapes=tuple(shapes))


def _text(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)
