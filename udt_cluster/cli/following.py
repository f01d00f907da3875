"""Live progress of a job on stderr, and what Ctrl-C says."""

import sys
from typing import TYPE_CHECKING

import typer

from udt_cluster.cli.output import say
from udt_cluster.cli.reports import progress_line, short, where
from udt_cluster.errors import INTERRUPTED_EXIT_CODE, UdtError

if TYPE_CHECKING:
    from udt_cluster.cluster.client.jobs import JobStatus
    from udt_cluster.cluster.client.targets import Target

_ERASE_LINE = "\r\x1b[2K"


class LeftError(UdtError):
    """A person stopped watching a job, which lives on."""

    exit_code = INTERRUPTED_EXIT_CODE


class ProgressLines:
    """Prints the progress of one job: a line that is rewritten on a terminal, else a line for each change."""

    def __init__(self) -> None:
        self._stage = ""
        self._line = ""
        self._rewrites = sys.stderr.isatty()

    def update(self, status: "JobStatus") -> None:
        """Show the newest status."""
        line = progress_line(status)
        if line == self._line:
            return
        if self._rewrites:
            end = "\n" if self._stage and status.stage != self._stage else ""
            typer.echo(f"{end}{_ERASE_LINE}{line}", nl=False, err=True)
        else:
            say(line)
        self._line, self._stage = line, status.stage

    def close(self) -> None:
        """End the line that was being rewritten."""
        if self._rewrites and self._line:
            say("")


def follow_to_end(status: "JobStatus", target: "Target", target_name: str | None) -> "JobStatus":
    """Show live progress until the job has ended.

    Raises:
        LeftError: Ctrl-C; the job lives on.
    """
    from udt_cluster.cluster.client.jobs import follow

    lines = ProgressLines()
    try:
        return follow(target, status.id, on_update=lines.update)
    except KeyboardInterrupt:
        raise left(status.id, target_name) from None
    finally:
        lines.close()


def left(job_id: str, target: str | None) -> LeftError:
    """The error to raise when a person stops watching: the job lives on, and how to return to it."""
    name, on = short(job_id), where(target)
    return LeftError(
        f"You have left; job {job_id} lives on.\n"
        f"  udt-cluster status {name} --follow{on}    return to it\n"
        f"  udt-cluster stop {name}{on}               end it"
    )
