"""What MLflow has not got yet: in the spool on disk, and in memory only as much as the disk does not take."""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from udt_cluster.tracking.spool import Record, Spool

_log = logging.getLogger(__name__)

BATCH_POINTS = 1000
"""MLflow's limit for one request."""
MEMORY_POINTS = 100_000
"""Points kept in memory where the disk takes none; about 50 MB."""
_COMPACT_BYTES = 16 * 2**20


class Backlog:
    """Records in the order in which they came. One thread puts, another takes; neither waits for MLflow.

    Args:
        path: The spool's file. Where it cannot be written, records are kept in memory, as many as there may be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._read = 0  # up to here the spool's records have been delivered
        self._loose: deque[Record] = deque()  # not in the spool; each comes after the spool's records up to its `end`
        self._loose_points = 0
        self._full = False

    @property
    def pictures(self) -> Path:
        """Folder for pictures that wait."""
        return self.path.with_name(f"{self.path.name}.pictures")

    def open(self) -> int:
        """Open the spool.

        Returns:
            Points that an earlier process has left in it.
        """
        try:
            with self._lock:
                self._spool = Spool(self.path)
                self._read = self._spool.sent
                return sum(points_of(record) for record in self._spool.unsent())
        except OSError as error:
            _log.warning("metrics are kept in memory only: %s cannot be written (%s)", self.path, error)
            return 0

    def put(self, values: Sequence[dict[str, Any]]) -> int:
        """Append records.

        Returns:
            Points that were dropped, because the disk is full and so is the memory that may be used instead.
        """
        with self._lock:
            end = 0
            if self._spool is not None:
                try:
                    self._spool.append(values)
                except OSError as error:
                    end = self._spool.size
                    self._say_full(error)
                else:
                    self._full = False
                    return 0
            return sum(self._keep(Record(end, value)) for value in values)

    def batch(self) -> list[Record]:
        """The oldest records that go together; empty where there are none. They stay until :meth:`done`."""
        with self._lock:
            if self._loose and self._loose[0].end <= self._read:
                return together(takewhile(lambda record: record.end <= self._read, self._loose))
            if self._spool is None:
                return []
            try:
                return together(self._spool.read(self._read, self._loose[0].end if self._loose else None))
            except OSError as error:
                _log.warning("metrics that waited in %s are lost: %s", self.path, error)
                self._read = self._spool.size
                return []

    def done(self, batch: Sequence[Record]) -> None:
        """Forget what :meth:`batch` gave: it was delivered."""
        with self._lock:
            if self._loose and batch[0] is self._loose[0]:
                for _ in batch:
                    self._loose_points -= points_of(self._loose.popleft())
            elif self._spool is not None:
                self._mark(self._spool, batch[-1].end)

    def close(self, *, remove: bool) -> None:
        """Close the spool; delete it and the pictures where everything was delivered."""
        with self._lock:
            if self._spool is None:
                return
            if remove:
                self._spool.remove()
                shutil.rmtree(self.pictures, ignore_errors=True)
            else:
                self._spool.close()

    def _mark(self, spool: Spool, end: int) -> None:
        self._read = end
        try:
            spool.mark_sent(end)
            dropped = spool.compact() if end >= _COMPACT_BYTES else 0
        except OSError as error:
            _log.warning("what was sent cannot be marked in %s: %s", self.path, error)
            return
        if dropped:
            self._read -= dropped
            self._loose = deque(Record(record.end - dropped, record.value) for record in self._loose)

    def _keep(self, record: Record) -> int:
        points = points_of(record)
        if self._loose_points + points > MEMORY_POINTS:
            return points
        self._loose.append(record)
        self._loose_points += points
        return 0

    def _say_full(self, error: OSError) -> None:
        if not self._full:
            _log.warning("metrics are kept in memory for now: %s cannot be written (%s)", self.path, error)
        self._full = True


def together(records: Iterable[Record]) -> list[Record]:
    """A picture alone, or metrics up to what one request may hold."""
    batch: list[Record] = []
    points = 0
    for record in records:
        is_picture = "picture" in record.value
        points += points_of(record)
        if batch and (is_picture or points > BATCH_POINTS):
            break
        batch.append(record)
        if is_picture:
            break
    return batch


def points_of(record: Record) -> int:
    """Metrics in a record; a picture counts as one."""
    return len(record.value.get("metrics", (0,)))
