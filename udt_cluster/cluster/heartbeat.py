"""The driver's signs of life in storage, by which a job counts as running wherever its cluster has gone."""

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
    """Signs of life from a thread of its own, and a look at whether the job has been given to another driver.

    Args:
        record: The job's.
        life: Which of the job's lives this driver is.
        superseded: Called once when a later life has begun.
        every: Seconds from sign to sign.
    """

    def __init__(
        self, record: JobRecord, life: int, *, superseded: Callable[[], None], every: float = EVERY_SECONDS
    ) -> None:
        self._record, self._life = record, life
        self._superseded, self._every = superseded, every
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
                if self._record.state().life > self._life:
                    self._superseded()
                    return
                self._record.write_alive(self._life)
            self._stop.wait(self._every)


def silence(record: JobRecord) -> float:
    """Seconds since the driver's last sign of life, by this machine's clock."""
    then = datetime.fromisoformat(record.alive_at())
    return max(0.0, (datetime.now(UTC) - then).total_seconds())
