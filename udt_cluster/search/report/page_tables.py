"""The tables of the page of a sweep, as HTML: what was searched, the leaderboard, the budget, what failed."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from html import escape

from udt_cluster.search.report.answer import failures
from udt_cluster.search.report.sweep import Allowance, Parameter, Sweep, label, score, spread
from udt_cluster.search.report.wording import counted, duration, large, levels_text, score_text, space_text, spread_text
from udt_cluster.search.trials import Trial

_MOST_ROWS = 500
_MOST_NUMBERS = 12
Column = tuple[str, Callable[[Trial], str], Callable[[Trial], object] | None]
"""Name, what is shown, and what a number is sorted by."""


def searched(sweep: Sweep, best: Trial | None) -> str:
    """A row for each space, with what the best trial has."""
    if not sweep.spaces:
        return '<p class="faint">The spaces of this sweep are not known.</p>'
    rows = [
        f"<tr><td><code>{text(space.field)}</code></td><td>{text(space_text(space))}</td>"
        f"<td>{_of_best(space.field, best)}</td></tr>"
        for space in sweep.spaces
    ]
    return table(["setting", "searched", "best"], rows)


def _of_best(path: str, best: Trial | None) -> str:
    if best is None:
        return ""
    return text(label(best.settings[path])) if path in best.settings else '<span class="faint">not set</span>'


def leaderboard(sweep: Sweep, most: int) -> str:
    """The best trials that finished."""
    columns = [column for column in _columns(sweep, whole=True) if column[0] not in ("state", "GB")]
    rows = [_row(trial, columns, is_best=rank == 1) for rank, trial in enumerate(sweep.finished[:most], start=1)]
    return _board(columns, rows, kind="board", name="The best trials")


def everything(sweep: Sweep) -> str:
    """Every trial, the best first, to be sorted by any column; at most 500."""
    columns = _columns(sweep)
    best = sweep.finished[:1]
    rows = [_row(trial, columns, is_best=trial in best) for trial in sweep.ranked[:_MOST_ROWS]]
    left = len(sweep.trials) - len(rows)
    more = f'<p class="faint">and {counted(left, "more trial")}; trials.csv has them all</p>' if left else ""
    return _board(columns, rows, kind="board sortable", name="All trials") + more


def budget(sweep: Sweep) -> str:
    """What was allowed and what was used, with a bar."""
    budget = sweep.budget
    lines: list[tuple[str, Allowance, Callable[[float], str]]] = [
        ("trials", budget.trials, "{:,.0f}".format),
        ("GPU-hours", budget.gpu_hours, "{:.3g}".format),
        ("time", budget.seconds, duration),
    ]
    rows = []
    for name, part, shown in lines:
        limit = "no limit" if part.limit is None else shown(part.limit)
        share = min(1.0, part.used / part.limit) if part.limit else 0.0
        track = f'<div class="track"><span class="bar" style="width:{100 * share:.1f}%"></span></div>'
        cells = f'<td class="number">{shown(part.used)}</td><td class="number">{limit}</td>'
        rows.append(f'<tr><td>{name}</td>{cells}<td style="width:40%">{track if part.limit else ""}</td></tr>')
    return table(["", "used", "allowed", ""], rows, numbers=(1, 2))


def failed(sweep: Sweep) -> str:
    """Why trials diverged or failed, one row for each message."""
    rows = []
    for state, message, numbers in failures(sweep):
        named = ", ".join(map(str, numbers[:_MOST_NUMBERS]))
        more = f" and {len(numbers) - _MOST_NUMBERS} more" if len(numbers) > _MOST_NUMBERS else ""
        count = f'<td class="number">{len(numbers)}</td>'
        rows.append(f"<tr><td>{_tag(state)}</td>{count}<td>{text(message)}</td><td>{named}{more}</td></tr>")
    return table(["", "trials", "why", "numbers"], rows, numbers=(1,)) if rows else ""


def table(names: Sequence[str], rows: Sequence[str], *, numbers: Sequence[int] = ()) -> str:
    """A table in a card."""
    return f'<div class="card wide">{_table(names, rows, numbers=numbers)}</div>'


def text(value: str) -> str:
    """Escaped, wherever it stands; what cannot be printed is shown as a question mark."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in value.replace("\n", " ")))


def _table(names: Sequence[str], rows: Sequence[str], *, numbers: Sequence[int] = (), kind: str = "") -> str:
    heads = "".join(
        f'<th scope="col"{" class=number" if at in numbers else ""}>{text(name)}</th>' for at, name in enumerate(names)
    )
    return f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _board(columns: Sequence[Column], rows: Sequence[str], *, kind: str, name: str) -> str:
    if not rows:
        return '<p class="faint">None yet.</p>'
    numbers = [at for at, (_, _, number) in enumerate(columns) if number is not None]
    made = _table([name for name, _, _ in columns], rows, numbers=numbers, kind=kind)
    return f'<div class="card wide" role="region" aria-label="{name}" tabindex="0">{made}</div>'


def _columns(sweep: Sweep, *, whole: bool = False) -> list[Column]:
    """What every trial has, what some have of costs, and the settings; lists as one column each if `whole`."""
    ranks = {trial.number: rank for rank, trial in enumerate(sweep.finished, start=1)}
    always: list[Column] = [
        ("rank", lambda t: str(ranks.get(t.number, "")), lambda t: ranks.get(t.number)),
        ("trial", lambda t: str(t.number), lambda t: t.number),
        ("state", lambda t: t.state, None),
        (sweep.metric, lambda t: score_text(score(t)), score),
    ]
    sometimes: list[Column] = [
        ("±", lambda t: spread_text(spread(t)), spread),
        ("epochs", lambda t: f"{t.epochs:,}", lambda t: t.epochs or None),
        ("parameters", lambda t: large(t.parameters), lambda t: t.parameters or None),
        ("GMAC", lambda t: f"{t.gmac:.3g}", lambda t: t.gmac or None),
        ("time", lambda t: duration(t.seconds), lambda t: t.seconds or None),
        ("GB", lambda t: f"{t.memory_gb:.1f}", lambda t: t.memory_gb),
    ]
    known = [c for c in sometimes if c[2] is not None and any(c[2](trial) is not None for trial in sweep.trials)]
    return [*always, *known, *(_whole_settings(sweep) if whole else map(_setting, sweep.varying))]


def _whole_settings(sweep: Sweep) -> list[Column]:
    """A column for each setting that varies; the levels of a list are one, after the others."""
    single, lists = list[Column](), dict[str, Column]()
    for parameter in sweep.varying:
        path = parameter.field.rpartition(".")[0]
        if any(parameter.field not in t.settings and path in t.settings for t in sweep.trials):
            lists[path] = (path.rpartition(".")[2], partial(_levels, path), None)
        else:
            single.append(_setting(parameter))
    return [*single, *lists.values()]


def _levels(path: str, trial: Trial) -> str:
    return levels_text(trial.settings[path]) if path in trial.settings else ""


def _setting(parameter: Parameter) -> Column:
    def shown(trial: Trial) -> str:
        value = parameter.of(trial)
        return "" if value is None else label(value)

    return (parameter.name, shown, None if parameter.kind == "category" else parameter.of)


def _row(trial: Trial, columns: Sequence[Column], *, is_best: bool) -> str:
    cells = "".join(_cell(trial, column) for column in columns)
    return f'<tr class="best">{cells}</tr>' if is_best else f"<tr>{cells}</tr>"


def _cell(trial: Trial, column: Column) -> str:
    name, shown, number = column
    if name == "state":
        return f"<td>{_tag(trial.state)}</td>"
    if number is None:
        return f"<td>{text(shown(trial))}</td>"
    value = number(trial)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return '<td class="number"></td>'
    return f'<td class="number" data-value="{text(str(value))}">{text(shown(trial))}</td>'


def _tag(state: str) -> str:
    return f'<span class="tag {state}">{state}</span>'
