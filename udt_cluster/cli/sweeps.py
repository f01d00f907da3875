"""A sweep in words and tables; every function is given what it shows and asks nobody."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from udt_cluster.cli.output import Rows, ago, counted, say, show, show_pairs, show_table
from udt_cluster.cli.reports import short, where

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from udt_cluster.search.report import Allowance, Sweep
    from udt_cluster.search.trials import Trial

_BAR = 20
_MOST_NUMBERS = 8
_MOST_RUNNING = 20


@dataclass(frozen=True)
class View:
    """What is shown of a sweep.

    Attributes:
        pairs: Labels and values.
        leaderboard: Columns and rows; no rows before the first trial has finished.
        running: The same of the trials that run.
    """

    pairs: tuple[tuple[str, str], ...]
    leaderboard: tuple[Sequence[str], Rows]
    running: tuple[Sequence[str], Rows]


def view(sweep: "Sweep", top: int) -> View:
    """What is shown of a sweep, with so many of its best trials."""
    from udt_cluster.search.report import answer

    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts.items() if count)
    began = counted(len(sweep.trials), "trial")
    pairs = [
        ("sweep", sweep.job or sweep.name),
        ("state", sweep.state),
        ("answer", _plain(answer(sweep).sentence)),
        ("trials", f"{began}: {counts}" if counts else "none yet"),
        ("budget", "\n".join(_budget(sweep))),
        *_failures(sweep),
    ]
    return View(tuple(pairs), _leaderboard(sweep, top), _running(sweep))


def printed(shown: View) -> None:
    """Print it where the output goes to a file or another program."""
    show_pairs(shown.pairs)
    for columns, rows in (shown.leaderboard, shown.running):
        if rows:
            show("")
            show_table(columns, rows)


def drawn(shown: View) -> "Group":
    """The same for a terminal of any width: what is long is folded."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    pairs = Table.grid(padding=(0, 2))
    pairs.add_column(no_wrap=True)
    pairs.add_column(overflow="fold")
    for label, value in shown.pairs:
        if value:
            pairs.add_row(label, Text(value, style="bold" if label == "answer" else ""))
    tables = [_table(*shown.leaderboard, best="bold green"), _table(*shown.running, best="")]
    return Group(pairs, *(part for table in tables if table.row_count for part in (Text(), table)))


def line(sweep: "Sweep") -> str:
    """`31 of 60 trials: 12 finished, 3 running; best 0.8421 of trial 17`."""
    from udt_cluster.search.report.sweep import score
    from udt_cluster.search.report.wording import score_text

    limit = sweep.budget.trials.limit
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts.items() if count)
    of = f" of {limit:.0f}" if limit is not None else ""
    best = next(iter(sweep.finished), None)
    told = "" if best is None else f"; best {score_text(score(best))} of trial {best.number}"
    return f"{len(sweep.trials)}{of} trials{': ' if counts else ''}{counts}{told}"


def show_next(sweep: "Sweep", target: str | None) -> None:
    """What a person would type now."""
    from udt_cluster.search.report.wording import command

    name, on = short(sweep.job), where(target)
    best = next(iter(sweep.finished), None)
    say("\nNext:")
    if sweep.state == "running":
        say(f"  udt-cluster tune show {name} --watch{on}    until it has ended")
    say(f"  udt-cluster tune show {name} --report FOLDER{on}    figures, tables, a page")
    if best is not None:
        say(f"  {command(best)}{on}    the best settings{' so far' if sweep.state == 'running' else ''}")


def as_plain(sweep: "Sweep") -> dict[str, Any]:
    """Everything that is known of a sweep, for a program."""
    from udt_cluster.search.report import answer, score, spread
    from udt_cluster.search.report.answer import failures
    from udt_cluster.search.report.wording import command

    found = answer(sweep)
    ranks = {trial.number: rank for rank, trial in enumerate(sweep.finished, start=1)}
    facts = {name: getattr(sweep, name) for name in ("job", "name", "metric", "state", "method", "counts")}
    return {
        **facts,
        "answer": {
            "sentence": found.sentence,
            "best": _number(found.best),
            "second": _number(found.second),
            "lead": found.lead,
            "spread": found.spread,
            "is_clear": found.is_clear,
            "as_good": [trial.number for trial in found.as_good],
            "smallest": _number(found.smallest),
        },
        "command": None if found.best is None else command(found.best),
        "budget": asdict(sweep.budget),
        "failures": [{"state": state, "message": why, "trials": which} for state, why, which in failures(sweep)],
        "spaces": [asdict(space) for space in sweep.spaces],
        "trials": [
            {**asdict(t), "rank": ranks.get(t.number), "score": score(t), "spread": spread(t), "epochs": t.epochs}
            for t in sweep.ranked
        ],
    }


def _number(trial: "Trial | None") -> int | None:
    return None if trial is None else trial.number


def _plain(text: str) -> str:
    """In letters that every terminal has."""
    return text.replace("±", "+-")


def _table(columns: Sequence[str], rows: Rows, *, best: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        is_text = column == "SETTINGS"
        table.add_column(column, no_wrap=not is_text, overflow="fold", justify="left" if is_text else "right")
    for at, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style=best if at == 0 else "")
    return table


def _leaderboard(sweep: "Sweep", top: int) -> tuple[Sequence[str], Rows]:
    from udt_cluster.search.report import score, spread
    from udt_cluster.search.report.wording import duration, large, score_text, settings_text, spread_text

    only = [parameter.field for parameter in sweep.varying]
    rows = [
        (
            *(str(rank), str(trial.number), score_text(score(trial)), spread_text(spread(trial))),
            *(str(trial.epochs), large(trial.parameters) if trial.parameters else "", duration(trial.seconds)),
            settings_text(trial, sweep, only=only),
        )
        for rank, trial in enumerate(sweep.finished[:top], start=1)
    ]
    return ("#", "TRIAL", "SCORE", "+-", "EPOCHS", "PARAMS", "TIME", "SETTINGS"), rows


def _running(sweep: "Sweep") -> tuple[Sequence[str], Rows]:
    from udt_cluster.search.report.wording import score_text, settings_text

    only = [parameter.field for parameter in sweep.varying]
    running = [trial for trial in sweep.ranked if trial.state == "running"]
    rows = [
        (
            *(str(trial.number), str(len(trial.rungs)), str(trial.epochs), score_text(trial.score)),
            *(ago(trial.began_at) if trial.began_at else "", settings_text(trial, sweep, only=only)),
        )
        for trial in running[:_MOST_RUNNING]
    ]
    return ("RUNNING", "RUNGS", "EPOCHS", "LAST", "BEGAN", "SETTINGS"), rows


def _budget(sweep: "Sweep") -> Iterator[str]:
    from udt_cluster.search.report.wording import duration

    budget = sweep.budget
    yield _used("trials", budget.trials, f"{budget.trials.used:.0f}", _limit(budget.trials, "{:.0f}".format))
    if budget.gpu_hours.used or budget.gpu_hours.limit is not None:
        used = f"{budget.gpu_hours.used:.3g}"
        yield _used("GPU-hours", budget.gpu_hours, used, _limit(budget.gpu_hours, "{:g}".format))
    yield _used("time", budget.seconds, duration(budget.seconds.used), _limit(budget.seconds, duration))


def _limit(part: "Allowance", shown: Any) -> str:
    return "" if part.limit is None else str(shown(part.limit))


def _used(name: str, part: "Allowance", used: str, limit: str) -> str:
    """`trials     [########............] 24 of 60`."""
    if part.limit is None:
        return f"{name:<9}  {used}, no limit"
    filled = min(_BAR, int(_BAR * part.used / part.limit)) if part.limit else _BAR
    return f"{name:<9}  [{'#' * filled}{'.' * (_BAR - filled)}] {used} of {limit}"


def _failures(sweep: "Sweep") -> Iterator[tuple[str, str]]:
    from udt_cluster.search.report.answer import failures

    told: dict[str, list[str]] = {}
    for state, message, numbers in failures(sweep):
        more = f" and {len(numbers) - _MOST_NUMBERS} more" if len(numbers) > _MOST_NUMBERS else ""
        named = f"{', '.join(map(str, numbers[:_MOST_NUMBERS]))}{more}"
        told.setdefault(state, []).append(f"{_first(message)} (trial{'s' if len(numbers) > 1 else ''} {named})")
    yield from ((state, "\n".join(lines)) for state, lines in told.items())


def _first(message: str) -> str:
    return (message.strip().splitlines() or [""])[0]
