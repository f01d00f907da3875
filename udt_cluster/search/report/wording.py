"""Numbers and settings in words, the same in the terminal, on the page and in the figures."""

import math
from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Any

from udt_cluster.config.problems import flow
from udt_cluster.search.report.sweep import Parameter, Space, Sweep, label
from udt_cluster.search.trials import Trial

_NO_SEARCH = ("tune=null", "stages=[prepare,train,evaluate,register]")
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def score_text(value: float | None, digits: int = 4) -> str:
    """`0.8421`; `-` where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def spread_text(value: float | None, digits: int = 4) -> str:
    """`0.0113`; empty where one run says nothing of it."""
    return "" if value is None else f"{value:.{digits}f}"


def large(number: float) -> str:
    """Three digits and a unit: `28.4 M`."""
    for unit, letter in _UNITS:
        if abs(number) >= unit:
            return f"{number / unit:.3g} {letter}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def overrides(trial: Trial) -> list[str]:
    """What to write after each `--set`, to train with the trial's settings."""
    return [f"{path}={flow(value)}" for path, value in trial.settings.items()]


def command(trial: Trial, file: str = "JOB.yaml") -> str:
    """The command that trains the sweep's job with a trial's settings, without searching again."""
    options = " ".join(f"--set {quote(text)}" for text in (*_NO_SEARCH, *overrides(trial)))
    return f"udt-cluster submit {quote(file)} {options}"


def settings_text(trial: Trial, sweep: Sweep, *, only: Iterable[str] | None = None) -> str:
    """`num_heads 4, lr 0.00032, skips dra_channel 1 2, none 3 4`: by name, the levels of a list of skips together."""
    wanted = None if only is None else set(only)
    shown, parts = set[str](), []
    for parameter in sweep.parameters:
        whole = parameter.field.rpartition(".")[0]
        path = whole if whole in trial.settings and parameter.field not in trial.settings else parameter.field
        if path in shown or path not in trial.settings or (wanted is not None and parameter.field not in wanted):
            continue
        shown.add(path)
        parts.append(_setting(path, parameter, trial.settings[path]))
    return ", ".join(parts)


def _setting(path: str, parameter: Parameter, value: Any) -> str:
    if path == parameter.field:
        return f"{parameter.name} {label(value)}"
    return f"{path.rpartition('.')[2]} {levels_text(value)}"


def levels_text(kinds: Sequence[Any]) -> str:
    """`dra_channel 1 3, none 2 4`, or `all none`: the levels of each kind."""
    levels: dict[str, list[str]] = {}
    for level, kind in enumerate(kinds, start=1):
        levels.setdefault(label(kind), []).append(str(level))
    if len(levels) == 1:
        return f"all {next(iter(levels))}"
    return ", ".join(f"{kind} {' '.join(at)}" for kind, at in levels.items())


def space_text(space: Space) -> str:
    """`one of 1, 2, 4`, `1 to 8`, `0.0001 to 0.01, logarithmic`, `each level one of none, dat`."""
    choices = " | ".join(label(value) for value in space.values)
    low_high = " to ".join(label(value) for value in space.values)
    return {
        "choice": choices,
        "subsets": f"at each level {choices}",
        "int": f"{low_high}, whole numbers",
        "uniform": low_high,
        "log": f"{low_high}, logarithmic",
    }[space.kind]
