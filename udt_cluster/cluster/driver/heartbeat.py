"""The driver's signs of life in storage, by which a job counts as running wherever its cluster has gone."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from udt_cluster.cluster.record import JobRecord
from udt_cluster.errors import UdtError

EVERY_SECONDS = 5.0
LOST_SECONDS = 45.0
"""A driver that was silent for so long, and that no cluster knows, counts as dead."""


class Heartbeat:
    """Signs of life from a thread of its own, for as long as this driver is the job's and its cluster is there.

    Args:
        record: The job's.
        life: Which of the job's lives this driver is.
        ended: Called once with the reason when a later life has begun, or when the process that Ray started this one
            from is gone: a driver outlives its head, waiting for it, and would count as running for ever.
        every: Seconds from sign to sign.
    """

    def __init__(
        self, record: JobRecord, life: int, *, ended: Callable[[str], None], every: float = EVERY_SECONDS
    ) -> None:
        self._record, self._life = record, life
        self._ended, self._every = ended, every
        self._parent = os.getppid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="udt-heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop giving signs."""
        self._stop.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(UdtError, OSError):  # storage that is away: the next sign may reach it
                if reason := self._over():
                    self._ended(reason)
                    return
                self._record.write_alive(self._life)
            self._stop.wait(self._every)

    def _over(self) -> str:
        if os.getppid() != self._parent:
            return "the cluster that started this driver is gone"
        if self._record.state().life > self._life:
            return "the job was resumed elsewhere"
        return ""


def silence(record: JobRecord) -> float:
    """Seconds since the driver's last sign of life, by this machine's clock."""
    then = datetime.fromisoformat(record.alive_at())
    return max(0.0, (datetime.now(UTC) - then).total_seconds())
