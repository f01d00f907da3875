"""All settings side by side: an axis for each, a line for each trial, the score at the right."""

from collections.abc import Sequence
from typing import Any

from udt_cluster.search.report.canvas import (
    FAINT,
    INK,
    LINE,
    PAPER,
    PASSED,
    STEPS,
    WIDE,
    Canvas,
    Chart,
    shortened,
    tip,
)
from udt_cluster.search.report.chart_settings import SCORED, apart
from udt_cluster.search.report.importance import place
from udt_cluster.search.report.sweep import Parameter, Sweep, label, score
from udt_cluster.search.report.tables import as_table
from udt_cluster.search.report.wording import score_text
from udt_cluster.search.trials import Trial

MOST_AXES = 12
_SOLID = 120  # lines that can be told apart without being seen through
_ABSENT = -0.14  # height of a setting that a trial has not, below the axes


def parallel(sweep: Sweep, order: Sequence[Parameter] = ()) -> Chart | None:
    """A line for each trial through an axis for each setting that varies, the score at the right.

    Args:
        sweep: The sweep.
        order: Settings in the order of importance; at most 12 are drawn.
    """
    varying = sweep.varying
    axes = [one for one in (*order, *(p for p in varying if p not in order)) if one in varying][:MOST_AXES]
    drawn = [t for t in sweep.trials if t.state in SCORED]
    if not axes or not drawn:
        return None
    canvas = Canvas(WIDE)
    heights = {one.field: _heights(one, sweep.trials) for one in axes}
    scale = _score_scale(sweep)
    for trials, color, width in _bundles(sweep, drawn):
        solid = 1.0 if color == PASSED else min(1.0, max(0.2, _SOLID / len(drawn)))
        _lines(canvas, [(t, _path(t, axes, heights, scale)) for t in trials], color=color, width=width, alpha=solid)
    _draw_axes(canvas, sweep, axes, scale)
    rows = [(t.number, t.state, score(t), *(one.of(t) for one in axes)) for t in drawn]
    table = as_table(("trial", "state", "score", *(one.field for one in axes)), rows)
    more = f" {len(varying) - len(axes)} settings of less weight are left out." if len(varying) > len(axes) else ""
    rank = "The stronger the blue of a line, the better its rank; green is the best."
    caption = f"{rank} Pruned trials are grey and have no end.{more}"
    return canvas.chart("parallel", "Settings and scores side by side", table, caption)


def _bundles(sweep: Sweep, drawn: Sequence[Trial]) -> list[tuple[list[Trial], str, float]]:
    """Trials that are drawn alike, the best last, so that it lies on top."""
    order = list(reversed(sweep.finished))
    bundles: list[tuple[list[Trial], str, float]] = [([t for t in drawn if t.state == "pruned"], LINE, 0.8)]
    for fifth, color in enumerate(STEPS):
        part = order[fifth * len(order) // 5 : (fifth + 1) * len(order) // 5]
        bundles.append((part, color, 1.0 + 0.15 * fifth))
    return [*bundles, (order[-1:], PASSED, 2.6)]


def _lines(
    canvas: Canvas,
    paths: Sequence[tuple[Trial, list[tuple[float, float]]]],
    *,
    color: str,
    width: float,
    alpha: float,
) -> None:
    from matplotlib.collections import LineCollection

    if not paths:
        return
    lines = LineCollection([points for _, points in paths], colors=color, linewidths=width, alpha=alpha, clip_on=False)
    canvas.axes.add_collection(lines)
    canvas.tip(lines, [tip(trial) for trial, _ in paths])


def _heights(parameter: Parameter, trials: Sequence[Trial]) -> dict[int, float]:
    """Height of each trial on the axis of a setting, 0 to 1; below it where the trial has none."""
    having = [trial for trial in trials if parameter.of(trial) is not None]
    found = {trial.number: _ABSENT + 0.05 * apart(trial.number) for trial in trials}
    if parameter.is_choice:
        names = parameter.choices(trials)
        last = max(1, len(names) - 1)
        raw = {t.number: (names.index(label(parameter.of(t))) + 0.3 * apart(t.number)) / last for t in having}
        return found | (raw if len(names) > 1 else dict.fromkeys(raw, 0.5))
    low, high = _ends(parameter, having)
    return found | {t.number: (place(parameter, t) - low) / ((high - low) or 1.0) for t in having}


def _ends(parameter: Parameter, trials: Sequence[Trial]) -> tuple[float, float]:
    values = [place(parameter, trial) for trial in trials]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _score_scale(sweep: Sweep) -> tuple[float, float]:
    values = [value for trial in sweep.finished if (value := score(trial)) is not None] or [0.0, 1.0]
    return min(values), max(values)


def _path(
    trial: Trial, axes: Sequence[Parameter], heights: dict[str, dict[int, float]], scale: tuple[float, float]
) -> list[tuple[float, float]]:
    points = [(float(at), heights[one.field][trial.number]) for at, one in enumerate(axes)]
    value = score(trial)
    if trial.state != "finished" or value is None:
        return points if len(points) > 1 else [points[0], (0.2, points[0][1])]
    low, high = scale
    return [*points, (float(len(axes)), (value - low) / (high - low) if high > low else 0.5)]


def _draw_axes(canvas: Canvas, sweep: Sweep, axes: Sequence[Parameter], scale: tuple[float, float]) -> None:
    plot = canvas.axes
    plot.set_axis_off()
    plot.set(xlim=(-0.25, len(axes) + 0.45), ylim=(-0.2, 1.13))
    most = max(9, min(30, 110 // (len(axes) + 1)))
    for at, one in enumerate(axes):
        marks = _marks(one, sweep.trials)
        lacking = any(one.of(trial) is None for trial in sweep.trials)
        _draw_axis(canvas, at, shortened(one.name, most), [*marks, *([(_ABSENT, "not set")] if lacking else [])], most)
    low, high = scale
    ends = [(0.0, score_text(low)), (1.0, score_text(high))] if high > low else [(0.5, score_text(low))]
    _draw_axis(canvas, len(axes), sweep.metric, ends, most)


def _draw_axis(canvas: Canvas, at: int, name: str, marks: Sequence[tuple[float, str]], most: int) -> None:
    plot = canvas.axes
    plot.plot([at, at], [0, 1], color=FAINT, linewidth=1.2, zorder=4)
    plot.text(at, 1.07, name, ha="center", va="bottom", color=INK, fontweight="bold")
    for height, text in marks:
        paper: dict[str, Any] = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none",
                                 "alpha": 0.8}  # fmt: skip
        plot.text(at + 0.03, height, shortened(text, most), va="center", color=FAINT, zorder=6, fontsize=10, bbox=paper)


def _marks(parameter: Parameter, trials: Sequence[Trial]) -> list[tuple[float, str]]:
    if parameter.is_choice:
        names = parameter.choices(trials)
        last = len(names) - 1
        return [(at / last if last else 0.5, name) for at, name in enumerate(names)]
    low, high = _ends(parameter, [trial for trial in trials if parameter.of(trial) is not None])
    ends = (10**low, 10**high) if parameter.kind == "log" else (low, high)
    return [(float(at), label(int(end) if parameter.kind == "int" else float(end))) for at, end in enumerate(ends)]
