"""How the search went: scores in the order of the trials and of the epochs that were spent, and values at the rungs."""

import math
from collections.abc import Sequence
from itertools import accumulate

from udt_cluster.search.report.canvas import (
    ACCENT,
    FAINT,
    HALF,
    MARKS,
    PASSED,
    REFUSED,
    WARNING,
    WIDE,
    Canvas,
    Chart,
    best_of,
    tip,
)
from udt_cluster.search.report.sweep import Sweep, score
from udt_cluster.search.report.tables import Table, as_table, rungs_table
from udt_cluster.search.trials import Trial, TrialState

_SOLID = 60  # lines that can be told apart without being seen through
_LINES = {"finished": ACCENT, "pruned": FAINT, "running": ACCENT, "diverged": REFUSED, "failed": WARNING}


def by_trial(sweep: Sweep) -> Chart:
    """Score of each trial in the order in which they were proposed."""
    trials = sorted(sweep.trials, key=lambda trial: trial.number)
    places = [float(trial.number) for trial in trials]
    columns = ("trial", "state", "score", "best_so_far")
    rows = [(t.number, t.state, score(t), top) for t, top in zip(trials, best_so_far(sweep, trials), strict=True)]
    return _history(sweep, trials, places, "trial", as_table(columns, rows)).chart(
        "history", f"{sweep.metric} by trial", as_table(columns, rows)
    )


def by_epochs(sweep: Sweep) -> Chart:
    """Score of each trial against the epochs that all trials had cost when it ended."""
    trials = sorted((t for t in sweep.trials if t.has_ended), key=lambda trial: (trial.ended_at, trial.number))
    spent = list(accumulate(trial.epochs for trial in trials))
    columns = ("epochs_spent", "trial", "state", "epochs", "score", "best_so_far")
    tops = best_so_far(sweep, trials)
    rows = [(at, t.number, t.state, t.epochs, score(t), top) for at, t, top in zip(spent, trials, tops, strict=True)]
    table = as_table(columns, rows)
    canvas = _history(sweep, trials, [float(at) for at in spent], "epochs spent on all trials", table)
    return canvas.chart("history_epochs", f"{sweep.metric} by epochs spent", table)


def best_so_far(sweep: Sweep, trials: Sequence[Trial]) -> list[float | None]:
    """The best score of the finished ones up to each of these trials; None before the first."""
    tops: list[float | None] = []
    top: float | None = None
    for trial in trials:
        value = score(trial) if trial.state == "finished" else None
        if value is not None and (top is None or sweep.better(value, top)):
            top = value
        tops.append(top)
    return tops


def _history(sweep: Sweep, trials: Sequence[Trial], places: Sequence[float], name: str, table: Table) -> Canvas:
    canvas = Canvas()
    axes = canvas.axes
    steps = [(at, top) for at, top in zip(places, table.column("best_so_far"), strict=True) if top is not None]
    if steps:
        axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", color=PASSED, linewidth=1.6, label="best so far")
    for state in MARKS:
        _points(canvas, trials, places, state)
    top = best_of(sweep)
    if top is not None and top in trials:
        found = score(top)
        assert found is not None
        canvas.best(top, places[list(trials).index(top)], found)
    axes.set(xlabel=name, ylabel=sweep.metric)
    axes.locator_params(axis="x", integer=True)
    axes.margins(0.03, 0.08)
    if len(set(places)) == 1:
        axes.set_xlim(places[0] - 1, places[0] + 1)
    canvas.legend()
    return canvas


def _points(canvas: Canvas, trials: Sequence[Trial], places: Sequence[float], state: TrialState) -> None:
    """Trials of a state; those without a score are marked at the lower edge."""
    from matplotlib.transforms import blended_transform_factory

    those = [(trial, at, score(trial)) for trial, at in zip(trials, places, strict=True) if trial.state == state]
    scored = [(trial, at, value) for trial, at, value in those if value is not None]
    canvas.scatter([t for t, _, _ in scored], [at for _, at, _ in scored], [v for _, _, v in scored], state)
    others = [(trial, at) for trial, at, value in those if value is None]
    if not others:
        return
    edge = blended_transform_factory(canvas.axes.transData, canvas.axes.transAxes)
    text = f"{state}, no score ({len(others)})"
    places_only, low = [at for _, at in others], [0.025] * len(others)
    found = canvas.axes.scatter(places_only, low, transform=edge, label=text, zorder=4, **MARKS[state].options)
    canvas.tip(found, [tip(trial) for trial, _ in others])


def at_rungs(sweep: Sweep) -> Chart | None:
    """The value of each trial at the epochs at which it was compared; None where none was."""
    table = rungs_table(sweep)
    if not table.rows:
        return None
    canvas = Canvas((WIDE[0], HALF[1]))
    for state in ("pruned", "running", "diverged", "failed", "finished"):
        _lines(canvas, [trial for trial in sweep.trials if trial.state == state and _points_of(trial)], state)
    top = best_of(sweep)
    if top is not None and (points := _points_of(top)):
        canvas.axes.plot(*zip(*points, strict=True), color=PASSED, linewidth=2.4, label=f"best: {top.number}")
    canvas.axes.autoscale_view()
    canvas.axes.set(xlabel="epochs of the trial, over all its folds", ylabel=f"{sweep.metric} when compared")
    canvas.axes.locator_params(axis="x", integer=True)
    canvas.legend(6)
    return canvas.chart("rungs", "Learning, as compared at the rungs", table)


def _lines(canvas: Canvas, trials: Sequence[Trial], state: TrialState) -> None:
    """A line for each trial of a state, with a point at its end."""
    from matplotlib.collections import LineCollection

    if not trials:
        return
    width, alpha = (1.4, 0.75) if state == "finished" else (1.0, 0.5)
    lines = LineCollection(
        [_points_of(trial) for trial in trials],
        colors=_LINES[state],
        linewidths=width,
        alpha=alpha * min(1.0, max(0.3, _SOLID / len(trials))),
        label=f"{state} ({len(trials)})",
        capstyle="round",
    )
    canvas.axes.add_collection(lines)
    canvas.tip(lines, [tip(trial) for trial in trials])
    ends = [_points_of(trial)[-1] for trial in trials]
    canvas.axes.scatter([x for x, _ in ends], [y for _, y in ends], s=9, c=_LINES[state], zorder=3)


def _points_of(trial: Trial) -> list[tuple[float, float]]:
    return [(float(rung.epochs), rung.value) for rung in trial.rungs if math.isfinite(rung.value)]
