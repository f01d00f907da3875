"""Verbs about sweeps: tune show."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udt_cluster.cli import sweeps
from udt_cluster.cli.following import left
from udt_cluster.cli.options import AsJson, JobId, TargetName
from udt_cluster.cli.output import is_terminal, say, show, show_json

if TYPE_CHECKING:
    from rich.console import Console

    from udt_cluster.cluster.client.targets import Target
    from udt_cluster.search.report import Sweep

app = typer.Typer(no_args_is_help=True, help="Look at sweeps.")
_POLL_SECONDS = 3.0


@app.callback()
def _group() -> None:
    """Look at sweeps."""


@app.command("show")
def show_one(
    job: JobId = "last",
    watch: Annotated[bool, typer.Option("--watch", "-f", help="Go on until the sweep has ended.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many of the best trials.")] = 10,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Write figures, tables and a page there.", show_default=False),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show a sweep: the best trials, those that run, the budget.

    With --json there are all trials, with their rungs, folds and seeds. What the figures of --report draw lies beside
    them as CSV.
    """
    from udt_cluster.cluster.client.sweeps import find_sweep
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = find_sweep(place, job)
    if watch and found.state == "running":
        found = _watched(found, place, target=target, top=top)
    if as_json:
        show_json(sweeps.as_plain(found))
    elif is_terminal():
        _console().print(sweeps.drawn(sweeps.view(found, top)))
    else:
        sweeps.printed(sweeps.view(found, top))
    if not as_json:
        sweeps.show_next(found, target)
    if report is not None:
        _write(found, report, as_json=as_json)


def _watched(found: "Sweep", place: "Target", *, target: str | None, top: int) -> "Sweep":
    """Show every change until the sweep has ended: redrawn on a terminal, else a line on stderr for each."""
    try:
        return _redrawn(found, place, top) if is_terminal() else _told(found, place)
    except KeyboardInterrupt:
        raise left(found.job, target) from None


def _redrawn(found: "Sweep", place: "Target", top: int) -> "Sweep":
    from rich.live import Live

    from udt_cluster.cluster.client.sweeps import find_sweep

    with Live(sweeps.drawn(sweeps.view(found, top)), console=_console(), auto_refresh=False, transient=True) as live:
        while found.state == "running":
            time.sleep(_POLL_SECONDS)
            found = find_sweep(place, found.job)
            live.update(sweeps.drawn(sweeps.view(found, top)), refresh=True)
    return found


def _told(found: "Sweep", place: "Target") -> "Sweep":
    from udt_cluster.cluster.client.sweeps import find_sweep

    last = ""
    while found.state == "running":
        if (line := sweeps.line(found)) != last:
            say(line)
            last = line
        time.sleep(_POLL_SECONDS)
        found = find_sweep(place, found.job)
    return found


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _write(found: "Sweep", folder: Path, *, as_json: bool) -> None:
    from udt_cluster.errors import UsageError
    from udt_cluster.search.report import write_report

    try:
        page = write_report(found, folder)
    except OSError as error:
        raise UsageError(f"--report {folder}: {error.strerror}; name a folder that can be written") from error
    (say if as_json else show)(f"report  {page}")
