"""Scores and settings: what each setting explains, and a slice through each."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from udt_cluster.search.report.canvas import BAR, HALF, INK, SMALL, SOFT, Canvas, Chart, best_of, shortened
from udt_cluster.search.report.importance import Importances
from udt_cluster.search.report.sweep import Parameter, Sweep, label, score
from udt_cluster.search.report.tables import as_table
from udt_cluster.search.report.wording import score_text
from udt_cluster.search.trials import Trial, TrialState

_MOST_BARS = 20
SCORED: tuple[TrialState, ...] = ("pruned", "finished")


def importance(found: Importances, name: str) -> Chart | None:
    """A bar for each setting, with the range over the forests; None where nothing can be said."""
    if not found.found:
        return None
    shown = list(found.found[:_MOST_BARS])[::-1]
    every = max(one.trials for one in shown)
    canvas = Canvas((HALF[0], 70 + 26 * len(shown)))
    means = np.array([one.mean for one in shown])
    reach = np.abs(np.array([[one.low, one.high] for one in shown]).T - means)
    names = [one.parameter.name + ("" if one.trials == every else f" ({one.trials} trials)") for one in shown]
    bars = canvas.axes.barh(
        range(len(shown)), means, xerr=reach, height=0.62, color=BAR if found.is_sound else SOFT,
        error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
    )  # fmt: skip
    for bar, one in zip(bars, shown, strict=True):
        canvas.tip(bar, [f"{one.parameter.field}: {one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"])
    canvas.axes.set_yticks(range(len(shown)), [shortened(text, 30) for text in names], color=INK)
    canvas.axes.set(xlabel="share of the variance explained by the setting alone", xlim=(0, None))
    canvas.axes.grid(visible=False, axis="y")
    return canvas.chart(name, f"Importance for {found.of}", found.table())


def file_name(parameter: Parameter) -> str:
    """`slice_model.num_heads`: letters that every file system takes."""
    return f"slice_{re.sub(r'[^A-Za-z0-9._-]+', '_', parameter.field)}"


def slices(sweep: Sweep) -> list[Chart]:
    """Scores against each setting that varies."""
    values = [found for trial in sweep.trials if trial.state in SCORED and (found := score(trial)) is not None]
    return [_slice(sweep, parameter, values) for parameter in sweep.varying] if values else []


def _slice(sweep: Sweep, parameter: Parameter, values: Sequence[float]) -> Chart:
    trials = [t for t in sweep.trials if t.state in SCORED and score(t) is not None]
    having = [trial for trial in trials if parameter.of(trial) is not None]
    rows = [(t.number, t.state, score(t), parameter.of(t)) for t in having]
    canvas = Canvas(SMALL)
    places = _x_axis(canvas, parameter, having)
    for state in SCORED:
        those = [trial for trial in having if trial.state == state]
        canvas.scatter(those, [places[t.number] for t in those], [score(t) or 0.0 for t in those], state)
    if parameter.is_choice:
        _means(canvas, parameter, having)
    top = best_of(sweep)
    if top in having and top is not None:
        canvas.best(top, places[top.number], score(top) or 0.0)
    pad = 0.06 * (max(values) - min(values)) or 0.01
    canvas.axes.set(xlabel=parameter.name, ylabel=sweep.metric, ylim=(min(values) - pad, max(values) + pad))
    lacking = len(trials) - len(having)
    caption = f"{lacking} of {len(trials)} trials do not have it." if lacking else ""
    table = as_table(("trial", "state", "score", parameter.field), rows)
    return canvas.chart(file_name(parameter), f"{sweep.metric} by {parameter.field}", table, caption)


def _x_axis(canvas: Canvas, parameter: Parameter, trials: Sequence[Trial]) -> dict[int, float]:
    """Where each trial lies; choices are spread a little, so that equal ones can be told apart."""
    if not parameter.is_choice:
        if parameter.kind == "log":
            canvas.axes.set_xscale("log")
            _plain_decades(canvas)
        elif parameter.kind == "int":
            canvas.axes.locator_params(axis="x", integer=True, nbins=8)
        else:
            canvas.axes.locator_params(axis="x", nbins=5)
        apart_by = 0.8 if parameter.kind == "int" else 0.0
        return {t.number: float(parameter.of(t) or 0.0) + apart_by * apart(t.number) for t in trials}
    names = parameter.choices(trials)
    most = max(4, 36 // max(1, len(names)))
    turned: dict[str, Any] = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if any(len(n) > most for n in names) else {}
    )
    canvas.axes.set_xticks(range(len(names)), [shortened(name, 20) for name in names], **turned)
    canvas.axes.set_xlim(-0.6, len(names) - 0.4)
    canvas.axes.grid(visible=False, axis="x")
    return {t.number: names.index(label(parameter.of(t))) + apart(t.number) for t in trials}


def _plain_decades(canvas: Canvas) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = canvas.axes.xaxis
    axis.set_major_locator(LogLocator(numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def apart(number: int) -> float:
    """A shift between -0.2 and 0.2 that is the same in every drawing of a trial."""
    return 0.4 * ((number * 0.6180339887) % 1.0 - 0.5)


def _means(canvas: Canvas, parameter: Parameter, trials: Sequence[Trial]) -> None:
    """A line at the mean of the finished trials of each choice."""
    for at, name in enumerate(parameter.choices(trials)):
        found = [score(t) for t in trials if t.state == "finished" and label(parameter.of(t)) == name]
        values = [value for value in found if value is not None]
        if values:
            (line,) = canvas.axes.plot(
                [at - 0.32, at + 0.32], [np.mean(values)] * 2, color=INK, linewidth=1.6, zorder=4
            )
            canvas.tip(line, [f"{name}: mean {score_text(float(np.mean(values)))} of {len(values)} finished"])
