"""What commands print: data on stdout (a table for people, JSON for programs), progress on stderr."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from udt_cluster.errors import UsageError

STATE_COLOURS = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "FAILED": "red",
    "LOST": "red",
    "STOPPED": "magenta",
}
Rows = Sequence[Sequence[str]]


def say(message: str) -> None:
    """A line of progress or advice, for people: stderr."""
    typer.echo(message, err=True)


def show(text: str) -> None:
    """A line of the answer: stdout."""
    typer.echo(text)


def show_json(value: object) -> None:
    """The answer for a program: one JSON document on stdout; an undefined number is null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def show_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels and values, one pair a line, without those that have no value."""
    filled = [(label, text) for label, text in pairs if text]
    width = max((len(label) for label, _ in filled), default=0)
    for label, text in filled:
        for index, line in enumerate(text.splitlines()):
            show(f"{label if index == 0 else '':<{width}}  {line}")


def show_table(columns: Sequence[str], rows: Rows) -> None:
    """A table: drawn by rich on a terminal, plain aligned columns where the output goes elsewhere."""
    if is_terminal():
        _draw(columns, rows)
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        show("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def is_terminal() -> bool:
    """Whether a person is looking at stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str, *, err: bool = False) -> str:
    """The text in colour where the stream is a terminal and NO_COLOR is not set."""
    stream = sys.stderr if err else sys.stdout
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return typer.style(text, fg=colour, bold=True) if wanted else text


def number(value: object, digits: int = 3) -> str:
    """A score; `-` where it is undefined."""
    if isinstance(value, int | float) and math.isfinite(value):
        return f"{value:.{digits}f}"
    return "-"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 12 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def ago(timestamp: str, *, now: datetime | None = None) -> str:
    """How long ago an ISO time was; the text itself if it is none."""
    then = _time(timestamp)
    if then is None:
        return timestamp
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    if seconds < 86400:
        return f"{duration(seconds)} ago"
    return f"{counted(int(seconds // 86400), 'day')} ago"


def between(start: str, end: str) -> str:
    """The time from one ISO time to another; empty when there is no end yet."""
    first, last = _time(start), _time(end)
    return duration((last - first).total_seconds()) if first and last else ""


def confirmed(question: str, *, yes: bool) -> None:
    """Go on only where a person says yes, or has said `--yes`.

    Raises:
        UsageError: there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is nobody to ask; say --yes")
    typer.confirm(question, abort=True, err=True)


def counted(count: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes as people read them: `12.3 MB`."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _time(timestamp: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _draw(columns: Sequence[str], rows: Rows) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)


def _plain(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | None) else str(value)
