"""Metrics on their way to MLflow: the training loop hands them over and goes on, whatever the server does.

Two threads: one writes what comes in to a spool on disk, the other sends from there in batches. A server that refuses,
hangs or restarts delays the points and loses none; the next process with the same spool sends what the last one left.
Memory holds what is being written and what is being sent; the rest waits on disk.
"""

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from udt_cluster.errors import AuthError, UnreachableError
from udt_cluster.tracking.backlog import BATCH_POINTS, MEMORY_POINTS, Backlog, points_of
from udt_cluster.tracking.delivery import Delivery
from udt_cluster.tracking.runs import ChildRun, Tracker
from udt_cluster.tracking.spool import Record

_log = logging.getLogger(__name__)

_LINGER_SECONDS = 0.3  # a batch waits so long for more points
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # between attempts to reach a server; the last one repeats
_GATHER_SECONDS = 0.02  # a write to the disk waits so long for more: a thousand of them a second cost 4 % of a core
_AT_ONCE = 1000  # records written to the disk together
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class _Incoming:
    """What the caller handed over; a picture has `png`, a set of metrics has `metrics`."""

    time_ms: int
    step: int
    metrics: Mapping[str, float] | None = None
    name: str = ""
    png: bytes = b""

    @property
    def points(self) -> int:
        return 1 if self.metrics is None else len(self.metrics)


class MetricLog:
    """Metrics and pictures of one run, each (metric, step) in MLflow exactly once.

    The steps that MLflow has already are asked for once, before the first batch; so a resumed run may report again what
    it is not sure of.

    Args:
        uri: URL of the MLflow server; it need not be up.
        run: The run's id; or, where the server was away when the run should have been made, what to make it from: it is
            made, or found, when the server answers.
        spool: File for what has not been sent yet. The same path after a restart sends what was left.
    """

    def __init__(self, uri: str, run: str | ChildRun, spool: Path) -> None:
        self._delivery = Delivery(Tracker(uri), run)
        self._name = self._delivery.name
        self._backlog = Backlog(spool)
        self._incoming: SimpleQueue[_Incoming | None] = SimpleQueue()
        self._state = threading.Condition()
        self._waiting = 0  # points handed over and not written
        self._stored = 0  # points written and not sent
        self._dropped = 0
        self._closing = False
        self._written = False
        self._given_up = False
        self._threads = 2
        self._writer = threading.Thread(target=self._write, name="metric-spool", daemon=True)
        self._sender = threading.Thread(target=self._send, name="metric-sender", daemon=True)
        self._writer.start()
        self._sender.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand over the metrics of a step. Returns at once and never raises."""
        self._accept(_Incoming(_now(), step, metrics=dict(metrics)))

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Hand over a PNG; it becomes `pictures/NAME/step-00000012.png` of the run. Returns at once, never raises."""
        self._accept(_Incoming(_now(), step, name=name, png=png))

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until the disk has all that was handed over, some hundredths of a second: before a checkpoint counts.

        What a process has flushed is sent by the next one with the same spool, even if this one is killed now.

        Returns:
            Whether it has; false when the time was up.
        """
        with self._state:
            return self._state.wait_for(lambda: not self._waiting, timeout=timeout)

    @property
    def unsent(self) -> int:
        """Points and pictures that MLflow has not confirmed yet."""
        return self._waiting + self._stored

    @property
    def dropped(self) -> int:
        """Points and pictures that are lost: no numbers, or neither the disk nor the memory set aside had room."""
        return self._dropped

    def close(self, timeout: float = 30.0) -> int:
        """Send what is left, for at most `timeout` seconds.

        Returns:
            Points and pictures that could not be sent; they stay in the spool.
        """
        deadline = time.monotonic() + timeout
        if not self._closing:
            self._closing = True
            self._incoming.put(None)
        self._writer.join(max(0.0, deadline - time.monotonic()))
        self._sender.join(max(0.0, deadline - time.monotonic()))
        with self._state:
            self._given_up = True
            self._state.notify_all()
        if left := self.unsent:
            _log.warning(
                "%d metrics of run %s are not in MLflow; they wait in %s", left, self._name, self._backlog.path
            )
        if self._dropped:
            _log.warning("%d metrics of run %s were dropped", self._dropped, self._name)
        return left

    def _accept(self, item: _Incoming) -> None:
        if self._closing:
            _log.warning("step %d of run %s was reported after the end; it is not logged", item.step, self._name)
            return
        with self._state:
            if self._waiting + item.points > MEMORY_POINTS:  # the disk hangs
                self._dropped += item.points
                return
            self._waiting += item.points
        self._incoming.put(item)

    # The writer's thread: from the queue to the spool.

    def _write(self) -> None:
        left = self._backlog.open()
        with self._state:
            self._stored += left
            self._state.notify_all()
        finished = False
        while not finished:
            items = self._next_items()
            finished = None in items
            self._put([item for item in items if item is not None])
        with self._state:
            self._written = True
            self._state.notify_all()
        self._end_thread()

    def _next_items(self) -> list[_Incoming | None]:
        """What is in the queue, when there is something; a burst is written in pieces, not call by call."""
        items = [self._incoming.get()]
        if items[0] is not None and not self._closing:
            time.sleep(_GATHER_SECONDS)
        while len(items) < _AT_ONCE:
            try:
                items.append(self._incoming.get_nowait())
            except Empty:
                break
        return items

    def _put(self, items: list[_Incoming]) -> None:
        values = [value for item in items if (value := self._value(item)) is not None]
        handed_over = sum(item.points for item in items)
        lines = sum(points_of(Record(0, value)) for value in values)
        lost = self._backlog.put(values) if values else 0
        with self._state:
            self._waiting -= handed_over
            idle = self._stored <= 0
            self._stored += lines - lost
            self._dropped += handed_over - lines + lost
            if idle or self._stored >= BATCH_POINTS or not self._waiting:
                self._state.notify_all()

    def _value(self, item: _Incoming) -> dict[str, Any] | None:
        """The item as a line of the spool; what is no number is dropped with a warning."""
        if item.metrics is None:
            picture = self._stored_picture(item)
            return None if picture is None else {"picture": str(picture), "name": _plain(item.name), "step": item.step}
        numbers = {}
        for key, value in item.metrics.items():
            try:
                numbers[key] = float(value)
            except (TypeError, ValueError):
                said = (self._name, key, value, item.step)
                _log.warning("not logged to run %s: %s=%r at step %d is not a number", *said)
        return {"time": item.time_ms, "step": item.step, "metrics": numbers} if numbers else None

    def _stored_picture(self, item: _Incoming) -> Path | None:
        path = self._backlog.pictures / _plain(item.name) / f"step-{item.step:08d}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.png)
        except OSError as error:
            _log.warning("picture %s at step %d cannot be kept: %s", item.name, item.step, error)
            return None
        return path

    # The sender's thread: from the spool to MLflow.

    def _send(self) -> None:
        failures = 0
        while self._await_points():
            batch = self._backlog.batch()
            try:
                if batch:
                    self._delivery.send(batch)
            except (UnreachableError, AuthError) as error:
                if failures == 0:
                    _log.warning("metrics of run %s wait for MLflow: %s", self._name, error)
                self._pause(_PAUSES[0] if self._closing else _PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                continue
            if failures:
                _log.warning("MLflow answers again; metrics of run %s are being sent", self._name)
            failures = 0
            self._confirm(batch)
        self._end_thread()

    def _await_points(self) -> bool:
        """Wait until there is a batch, or a part of one and a moment has passed; false at the end."""
        with self._state:
            self._state.wait_for(lambda: self._stored > 0 or self._written or self._given_up)
            self._state.wait_for(
                lambda: self._stored >= BATCH_POINTS or self._written or self._given_up, timeout=_LINGER_SECONDS
            )
            return self._stored > 0 and not self._given_up

    def _confirm(self, batch: list[Record]) -> None:
        if batch:
            self._backlog.done(batch)
        with self._state:
            if batch:
                self._stored -= sum(points_of(record) for record in batch)
            else:  # somebody has damaged the spool
                self._dropped += self._stored
                self._stored = 0

    def _end_thread(self) -> None:
        """The last of the two threads closes the spool, and removes it when everything was sent."""
        with self._state:
            self._threads -= 1
            last, remove = self._threads == 0, self.unsent == 0
        if last:
            self._backlog.close(remove=remove)

    def _pause(self, seconds: float) -> None:
        """Wait, unless the owner has given up."""
        with self._state:
            self._state.wait_for(lambda: self._given_up, timeout=seconds)


def _plain(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name).lstrip(".") or "picture"


def _now() -> int:
    return int(time.time() * 1000)
