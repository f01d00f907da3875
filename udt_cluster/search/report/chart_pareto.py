"""What a better score costs: the trials that no other one beats at both."""

from collections.abc import Callable, Sequence

from udt_cluster.search.report.canvas import PASSED, SMALL, Canvas, Chart, best_of
from udt_cluster.search.report.sweep import Sweep, score
from udt_cluster.search.report.tables import as_table
from udt_cluster.search.report.wording import large
from udt_cluster.search.trials import Trial

_MOST_NAMED = 8
_WIDE_RANGE = 10.0
_UNITS = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))
Cost = tuple[str, str, Callable[[Trial], float]]
COSTS: tuple[Cost, ...] = (
    ("parameters", "parameters", lambda trial: float(trial.parameters)),
    ("gmac", "GMAC of one image", lambda trial: trial.gmac),
    ("seconds", "time of the trial", lambda trial: trial.seconds),
)


def fronts(sweep: Sweep) -> list[Chart]:
    """Score against parameters, multiply-adds and time, where they are known and differ."""
    charts = [_front(sweep, cost) for cost in COSTS]
    return [chart for chart in charts if chart is not None]


def front(points: Sequence[tuple[float, float]], *, larger_is_better: bool = True) -> list[int]:
    """Which of the points (cost, score) no other one beats: none costs less and scores as well or better.

    Returns:
        Their places in `points`, the cheapest first.
    """
    sign = 1.0 if larger_is_better else -1.0
    order = sorted(range(len(points)), key=lambda at: (points[at][0], -sign * points[at][1], at))
    kept: list[int] = []
    for at in order:
        if not kept or sign * points[at][1] > sign * points[kept[-1]][1]:
            kept.append(at)
    return kept


def _front(sweep: Sweep, cost: Cost) -> Chart | None:
    name, words, of = cost
    trials = [trial for trial in sweep.finished if of(trial) > 0]
    if len({of(trial) for trial in trials}) < 2:
        return None
    points = [(of(trial), score(trial) or 0.0) for trial in trials]
    kept = front(points, larger_is_better=sweep.larger_is_better)
    canvas = Canvas(SMALL)
    unit, letters = _unit(max(x for x, _ in points)) if name == "seconds" else (1.0, "")
    _draw(canvas, sweep, trials, [(x / unit, y) for x, y in points], kept)
    _label_axis(canvas, [x / unit for x, _ in points])
    canvas.axes.set(xlabel=f"{words} ({letters})" if letters else words, ylabel=sweep.metric)
    rows = [(t.number, y, x, at in kept) for at, (t, (x, y)) in enumerate(zip(trials, points, strict=True))]
    table = as_table(("trial", "score", name, "on_front"), rows)
    return canvas.chart(f"pareto_{name}", f"{sweep.metric} against {words}", table)


def _draw(
    canvas: Canvas, sweep: Sweep, trials: Sequence[Trial], points: Sequence[tuple[float, float]], kept: Sequence[int]
) -> None:
    xs, ys = [points[at][0] for at in kept], [points[at][1] for at in kept]
    canvas.axes.plot(xs, ys, drawstyle="steps-post", color=PASSED, linewidth=1.6)
    canvas.scatter(trials, [x for x, _ in points], [y for _, y in points], "finished")
    top = best_of(sweep)
    if top is not None and top in trials:
        canvas.best(top, *points[list(trials).index(top)])
    for at in _apart(points, kept)[:_MOST_NAMED]:
        canvas.axes.annotate(
            str(trials[at].number), points[at], xytext=(-5, 5), textcoords="offset points", fontsize=10, ha="right"
        )
    canvas.axes.margins(0.07, 0.1)


def _apart(points: Sequence[tuple[float, float]], kept: Sequence[int]) -> list[int]:
    """Those of the front whose numbers do not lie upon one another, the best first."""
    wide, high = (max(values) - min(values) or 1.0 for values in zip(*points, strict=True))
    named: list[int] = []
    for at in reversed(kept):
        x, y = points[at]
        if all(abs(x - points[o][0]) > 0.08 * wide or abs(y - points[o][1]) > 0.07 * high for o in named):
            named.append(at)
    return named


def _unit(most: float) -> tuple[float, str]:
    """Seconds in the unit in which such times are read, and its name."""
    return next((unit, letters) for least, unit, letters in _UNITS if most >= least)


def _label_axis(canvas: Canvas, costs: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axis = canvas.axes.xaxis
    if max(costs) / min(costs) > _WIDE_RANGE:
        canvas.axes.set_xscale("log")
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: large(value)))
