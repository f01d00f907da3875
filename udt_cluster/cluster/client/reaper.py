"""Ends runs in MLflow whose jobs have ended without telling it: nothing stays RUNNING there for ever.

A driver tells MLflow how its job ended. One that was killed, or that ended while MLflow was away, did not; so whoever
lists jobs, looks at one or submits the next does it, in a few seconds or not at all.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from udt_cluster.cluster.record import STOPPED, SUCCEEDED, TERMINAL, JobRecord
from udt_cluster.config.home import read_state, write_state
from udt_cluster.errors import UdtError

_FILE = "reaper.json"
_AGAIN_SECONDS = 60.0
"""An MLflow that was away is left alone for so long, so that listing jobs does not become slow."""


@dataclass(frozen=True)
class Ended:
    """A job that is over, as the reaper needs it."""

    record: JobRecord
    run_id: str
    state: str
    life: int
    run_ended: bool

    @property
    def status(self) -> Literal["FINISHED", "FAILED", "KILLED"]:
        """What its runs become."""
        return "FINISHED" if self.state == SUCCEEDED else "KILLED" if self.state == STOPPED else "FAILED"


def reap(jobs: Iterable[Ended], tracking: str | None, *, seconds: float = 3.0) -> None:
    """End the runs of those jobs whose driver did not; silent, and given up after `seconds`.

    Args:
        jobs: Any jobs; those that still run are passed over.
        tracking: URI of the MLflow server; None where there is none.
        seconds: How long the caller may be held.
    """
    due = [job for job in jobs if job.state in TERMINAL and not job.run_ended and not job.record.is_reaped(job.life)]
    if not due or tracking is None or _was_away(tracking):
        return
    from udt_cluster.tracking import Tracker

    tracker, end = Tracker(tracking), time.monotonic() + seconds
    for job in due:
        left = end - time.monotonic()
        if left <= 0 or tracker.end_stale(job.run_id, job.status, seconds=left).problem:
            _note_away(tracking)
            return
        with suppress(UdtError, OSError):  # one who may only look: it is done again next time
            job.record.write_reaped(job.life)


def _was_away(tracking: str) -> bool:
    return time.time() < float(read_state(_FILE).get(tracking, 0.0)) + _AGAIN_SECONDS


def _note_away(tracking: str) -> None:
    write_state(_FILE, {tracking: time.time()})
