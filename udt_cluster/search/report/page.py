"""The page of a sweep: one HTML file that needs nothing else, with everything that came from elsewhere escaped."""

import base64
from collections.abc import Iterator, Sequence
from hashlib import sha256

from udt_cluster.search.report.answer import Answer, answer
from udt_cluster.search.report.canvas import Chart, png, svg
from udt_cluster.search.report.drawings import Drawings
from udt_cluster.search.report.importance import FEWEST_TRIALS, FORESTS, MOST_TRIALS, Importances
from udt_cluster.search.report.page_style import CSS, SCRIPT
from udt_cluster.search.report.page_tables import budget, everything, failed, leaderboard, searched, text
from udt_cluster.search.report.sweep import Sweep
from udt_cluster.search.report.wording import command, counted, duration, large, score_text

_MOST_DRAWN_BYTES = 2_000_000
_TOP = 10
_HASH = base64.b64encode(sha256(SCRIPT.encode()).digest()).decode()
_POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'"


def render(sweep: Sweep, drawn: Drawings) -> str:
    """The page; figures are drawn into it as SVG up to 2 MB of them, then as pictures.

    Args:
        sweep: The sweep.
        drawn: Its figures; call it in :func:`udt_cluster.search.report.canvas.house_style`.
    """
    found = answer(sweep)
    figures = _Figures()
    body = "".join([_header(sweep, found), '<main id="main">', *_sections(sweep, found, drawn, figures), "</main>"])
    title = text(f"Sweep: {sweep.name}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        f"<style>{CSS}</style></head><body>{body}"
        f"<footer>udt-cluster, report of a sweep. The numbers are in trials.csv, runs.csv and data/, the figures in "
        f"figures/.</footer><script>{SCRIPT}</script></body></html>\n"
    )


class _Figures:
    """Puts figures into the page."""

    def __init__(self) -> None:
        self._left = _MOST_DRAWN_BYTES

    def card(self, chart: Chart, *, is_wide: bool = False, note: str = "") -> str:
        """A card with the figure, its files, and what to know of it; the note is HTML."""
        drawing = svg(chart)
        self._left -= len(drawing)
        if self._left < 0:
            data = base64.b64encode(png(chart, dots_per_inch=110, titled=False)).decode()
            drawing = f'<img alt="{text(chart.title)}" src="data:image/png;base64,{data}">'
        name = text(chart.name)
        files = f'<a href="figures/{name}.png">PNG</a><a href="data/{name}.csv">CSV</a>'
        if is_wide:
            drawing = f'<div class="wide" role="region" aria-label="{text(chart.title)}" tabindex="0">{drawing}</div>'
        caption = f"<figcaption>{files}{text(chart.caption)}{note}</figcaption>"
        return f'<figure class="card"><h3>{text(chart.title)}</h3>{drawing}{caption}</figure>'

    def grid(self, charts: Sequence[Chart], kind: str = "") -> str:
        """Cards side by side."""
        return f'<div class="grid {kind}">{"".join(self.card(chart) for chart in charts)}</div>'


def _header(sweep: Sweep, found: Answer) -> str:
    counts = sweep.counts
    bad = counts["diverged"] + counts["failed"]
    tiles = [
        (f"{len(sweep.trials):,}", "trials"),
        *((f"{counts[state]:,}", state) for state in ("finished", "pruned", "running") if counts[state]),
        *([(f"{bad:,}", "diverged or failed")] if bad else []),
        (f"{sum(trial.epochs for trial in sweep.trials):,}", "epochs"),
        *([(f"{sweep.budget.gpu_hours.used:.3g}", "GPU-hours")] if sweep.budget.gpu_hours.used else []),
        *([(_short(sweep.budget.seconds.used), "time")] if sweep.budget.seconds.used else []),
    ]
    items = "".join(f"<li><b>{text(value)}</b><span>{text(name)}</span></li>" for value, name in tiles)
    kind = "passed" if found.is_clear else "note" if found.best or sweep.state == "running" else "warning"
    of = f"job <code>{text(sweep.job)}</code>, " if sweep.job else ""
    return (
        f'<header><a class="skip" href="#main">Skip to the results</a><h1>Sweep {text(sweep.name)}</h1>'
        f'<p class="source">{of}{text(sweep.state)}, by <code>{text(sweep.metric)}</code></p>'
        f'<p class="verdict {kind}" role="status">{text(found.sentence)}</p><ul class="tiles">{items}</ul></header>'
    )


def _short(seconds: float) -> str:
    """A time that fits into a tile."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else duration(seconds)


def _sections(sweep: Sweep, found: Answer, drawn: Drawings, figures: _Figures) -> Iterator[str]:
    yield _section("What was searched", searched(sweep, found.best) + _use(sweep, found))
    shown = min(_TOP, len(sweep.finished))
    every = f"<details><summary>Every trial ({len(sweep.trials):,})</summary>{everything(sweep)}</details>"
    head = f"The best {shown}" if len(sweep.finished) > shown else "Leaderboard"
    yield _section(head, leaderboard(sweep, _TOP) + (every if sweep.trials else ""))
    if not sweep.trials:
        yield _section("Method and budget", _method(sweep))
        return
    yield _section("Which settings matter", _importance(drawn, figures))
    wide = "".join(figures.card(one, is_wide=True) for one in drawn.rungs)
    yield _section("How the search went", figures.grid(drawn.history) + wide)
    if drawn.parallel:
        yield _section("All settings side by side", "".join(figures.card(one, is_wide=True) for one in drawn.parallel))
    if drawn.slices:
        yield _section("Each setting by itself", _SLICES + figures.grid(drawn.slices, "small"))
    if drawn.pareto:
        yield _section("What a better score costs", _PARETO + figures.grid(drawn.pareto, "small"))
    none = '<p class="faint">No trial diverged or failed.</p>'
    yield _section("What went wrong", failed(sweep) or none)
    yield _section("Method and budget", _method(sweep))


_SLICES = (
    '<p class="faint">Filled: finished; a line is their mean. Hollow: pruned, with the last value at a rung, which is '
    "not the score of a whole training. A slice does not hold the other settings fixed.</p>"
)

_PARETO = (
    '<p class="faint">The line joins the trials that no other one beats: none costs less and scores as well. Only '
    "trials that finished are drawn; the numbers name them.</p>"
)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def _use(sweep: Sweep, found: Answer) -> str:
    if found.best is None:
        return ""
    more = ""
    if len(found.as_good) > 1 and found.smallest is not None and found.spread is not None:
        small = found.smallest
        size = f", {large(small.parameters)} parameters" if small.parameters else ""
        near = f"{counted(len(found.as_good), 'trial')} lie within the spread of the best ({score_text(found.spread)})"
        more = f"<p>{near}; the smallest network among them is that of trial {small.number}{size}.</p>"
    words = text(command(found.best))
    return f'{more}<div class="card"><h3>To train with the best settings</h3><pre>{words}</pre></div>'


def _importance(drawn: Drawings, figures: _Figures) -> str:
    parts = []
    for found, chart in drawn.importances:
        empty = f'<div class="card"><h3>Importance for {text(found.of)}</h3><p>{text(found.refused)}</p></div>'
        parts.append(figures.card(chart, note=_said(found)) if chart is not None else empty)
    return f'<div class="grid">{"".join(parts)}</div>'


def _said(found: Importances) -> str:
    sentences = []
    if not found.is_sound:
        sentences.append(
            f"The settings do not explain these scores: a forest predicts those of trials that it has not seen no "
            f"better than their mean does (R² {found.explained:.2f}). Do not read an order into the bars."
        )
    else:
        sentences.append(f"A forest predicts trials that it has not seen with R² {found.explained:.2f}.")
    if found.is_sound and found.rest is not None and found.rest >= 0.05:
        sentences.append(f"{100 * found.rest:.0f} % takes two or more settings together.")
    if found.left_out:
        names = ", ".join(one.name for one in found.left_out)
        sentences.append(f"Not judged, for want of trials with different values: {names}.")
    return f"<p>{text(' '.join(sentences))}</p>"


def _method(sweep: Sweep) -> str:
    runs = max((len(trial.runs) for trial in sweep.trials), default=0)
    scores = (
        f"The score of a trial is the mean {sweep.metric} of its runs (up to {counted(runs, 'run')}: folds, seeds), "
        "each at its best epoch, on validation cases; ± is their sample standard deviation. No test case was looked at."
    )
    lines = [f"Searched with {sweep.method}." if sweep.method else "", scores if runs else "", _LUCK, _IMPORTANCE]
    return budget(sweep) + "".join(f'<p class="faint">{text(line)}</p>' for line in lines if line)


_LUCK = (
    "The best of many trials is in part the luckiest: expect a little less of it when it is trained again, and report "
    "the score of that training."
)
_IMPORTANCE = (
    f"Importance: functional ANOVA (Hutter et al., ICML 2014) by Optuna, of at least {FEWEST_TRIALS} trials; bars are "
    f"the mean of {FORESTS} random forests, each of its own seed and 80 % of the trials (at most {MOST_TRIALS}), "
    "whiskers the lowest and the highest of them. Settings that only some trials have are judged among these."
)
