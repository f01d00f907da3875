"""Metrics on their way to MLflow: the training loop hands them over and goes on, whatever the server does.

Two threads: one writes what comes in to a spool on disk, the other sends from there in batches. A server that refuses,
hangs or restarts delays the points and loses none; the next process with the same spool sends what the last one left.
"""

import logging
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mlflow.entities import Metric

from udt_cluster.errors import AuthError, RefusedError, UnreachableError, UsageError
from udt_cluster.tracking.runs import Tracker
from udt_cluster.tracking.spool import Record, Spool

_log = logging.getLogger(__name__)

_BATCH_POINTS = 1000  # MLflow's limit for one request
_LINGER_SECONDS = 0.3  # a batch waits so long for more points
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # between attempts to reach a server; the last one repeats
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class _Incoming:
    """What the caller handed over; a picture has `png`, a set of metrics has `metrics`."""

    time_ms: int
    step: int
    metrics: Mapping[str, float] | None = None
    name: str = ""
    png: bytes = b""


class MetricLog:
    """Metrics and pictures of one run, each (metric, step) in MLflow exactly once.

    The steps that MLflow has already are asked for once, before the first batch; so a resumed run may report again what
    it is not sure of.

    Args:
        uri: URL of the MLflow server; it need not be up.
        run_id: The run, made by :class:`~udt_cluster.tracking.Tracker`.
        spool: File for what has not been sent yet. The same path after a restart sends what was left.
    """

    def __init__(self, uri: str, run_id: str, spool: Path) -> None:
        self._tracker = Tracker(uri)
        self._run_id = run_id
        self._spool_path = spool
        self._spool: Spool | None = None
        self._incoming: SimpleQueue[_Incoming | None] = SimpleQueue()
        self._pending: deque[Record] = deque()
        self._state = threading.Condition()
        self._unsent = 0
        self._closing = False
        self._written = False
        self._given_up = False
        self._reported: set[tuple[str, int]] = set()
        self._reported_known = False
        self._writer = threading.Thread(target=self._write, name="metric-spool", daemon=True)
        self._sender = threading.Thread(target=self._send, name="metric-sender", daemon=True)
        self._writer.start()
        self._sender.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand over the metrics of a step. Returns at once and never raises."""
        self._accept(_Incoming(_now(), step, metrics=dict(metrics)), len(metrics))

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Hand over a PNG; it becomes `pictures/NAME/step-00000012.png` of the run. Returns at once, never raises."""
        self._accept(_Incoming(_now(), step, name=name, png=png), 1)

    @property
    def unsent(self) -> int:
        """Points and pictures that MLflow has not confirmed yet."""
        return self._unsent

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
        if self._unsent:
            left = (self._unsent, self._run_id, self._spool_path)
            _log.warning("%d metrics of run %s are not in MLflow; they wait in %s", *left)
        return self._unsent

    def _accept(self, item: _Incoming, points: int) -> None:
        if self._closing:
            _log.warning("step %d of run %s was reported after the end; it is not logged", item.step, self._run_id)
            return
        with self._state:
            self._unsent += points
        self._incoming.put(item)

    # The writer's thread: from the queue to the spool.

    def _write(self) -> None:
        self._open_spool()
        finished = False
        while not finished:
            items = [self._incoming.get(), *_waiting(self._incoming)]
            finished = None in items
            self._enqueue(self._kept([value for item in items if item is not None for value in self._values(item)]))
        if self._spool is not None:
            self._spool.close()
        with self._state:
            self._written = True
            self._state.notify_all()

    def _open_spool(self) -> None:
        try:
            self._spool = Spool(self._spool_path)
        except OSError as error:
            _log.warning("metrics are kept in memory only: %s cannot be written (%s)", self._spool_path, error)
            return
        left = self._spool.unsent()
        with self._state:
            self._unsent += sum(_points(record) for record in left)
        self._enqueue(left)

    def _values(self, item: _Incoming) -> Iterable[dict[str, Any]]:
        """The item as lines of the spool; what is no number is dropped with a warning."""
        if item.metrics is None:
            picture = self._stored_picture(item)
            return [] if picture is None else [{"picture": str(picture), "name": _plain(item.name), "step": item.step}]
        numbers = {}
        for key, value in item.metrics.items():
            try:
                numbers[key] = float(value)
            except (TypeError, ValueError):
                self._drop(1, f"{key}={value!r} at step {item.step} is not a number")
        return [{"time": item.time_ms, "step": item.step, "metrics": numbers}] if numbers else []

    def _stored_picture(self, item: _Incoming) -> Path | None:
        path = self._pictures / _plain(item.name) / f"step-{item.step:08d}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.png)
        except OSError as error:
            self._drop(1, f"picture {item.name} at step {item.step} cannot be kept: {error}")
            return None
        return path

    @property
    def _pictures(self) -> Path:
        return self._spool_path.with_name(f"{self._spool_path.name}.pictures")

    def _kept(self, values: list[dict[str, Any]]) -> list[Record]:
        """The values as records, in the spool when the disk takes them."""
        if self._spool is None:
            return [Record(0, value) for value in values]
        try:
            return self._spool.append(values)
        except OSError as error:
            _log.warning("metrics are kept in memory for now: %s cannot be written (%s)", self._spool_path, error)
            return [Record(self._spool.size, value) for value in values]

    def _enqueue(self, records: list[Record]) -> None:
        with self._state:
            self._pending.extend(records)
            self._state.notify_all()

    # The sender's thread: from the spool to MLflow.

    def _send(self) -> None:
        failures = 0
        while batch := self._next_batch():
            try:
                self._deliver(batch)
            except (UnreachableError, AuthError) as error:
                if failures == 0:
                    _log.warning("metrics of run %s wait for MLflow: %s", self._run_id, error)
                pause = _PAUSES[0] if self._closing else _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                if self._pause(pause):
                    return
                continue
            if failures:
                _log.warning("MLflow answers again; metrics of run %s are being sent", self._run_id)
            failures = 0
            self._confirm(batch)
        if self._spool is not None and not self._unsent:
            self._spool.remove()
            shutil.rmtree(self._pictures, ignore_errors=True)

    def _next_batch(self) -> list[Record]:
        """The next records that go together, in order; empty at the end."""
        with self._state:
            self._state.wait_for(lambda: self._pending or self._written or self._given_up)
            self._state.wait_for(
                lambda: self._written or self._given_up or len(self._pending) >= _BATCH_POINTS, timeout=_LINGER_SECONDS
            )
            if self._given_up:
                return []
            return _together(self._pending)

    def _pause(self, seconds: float) -> bool:
        """Wait; true when the owner has given up."""
        with self._state:
            return self._state.wait_for(lambda: self._given_up, timeout=seconds)

    def _confirm(self, batch: list[Record]) -> None:
        if self._spool is not None and batch[-1].end:
            try:
                self._spool.mark_sent(batch[-1].end)
            except OSError as error:
                _log.warning("what was sent cannot be marked in %s: %s", self._spool_path, error)
        with self._state:
            for _ in batch:
                self._pending.popleft()
            self._unsent -= sum(_points(record) for record in batch)

    def _drop(self, points: int, reason: str) -> None:
        _log.warning("not logged to run %s: %s", self._run_id, reason)
        with self._state:
            self._unsent -= points

    def _deliver(self, batch: list[Record]) -> None:
        self._ask_what_is_reported()
        if "picture" in batch[0].value:
            self._deliver_picture(batch[0].value)
            return
        points: dict[tuple[str, int], Metric] = {}
        for record in batch:
            for key, value in record.value["metrics"].items():
                point = (key, record.value["step"])
                if point not in self._reported:
                    points.setdefault(point, Metric(key, value, record.value["time"], record.value["step"]))
        self._deliver_points(points)

    def _deliver_points(self, points: Mapping[tuple[str, int], Metric]) -> None:
        if not points:
            return
        try:
            with self._tracker.calls() as client:
                client.log_batch(self._run_id, metrics=list(points.values()), synchronous=True)
        except (RefusedError, UsageError) as error:
            if isinstance(error, AuthError):
                raise
            if len(points) == 1:
                _log.warning("not logged to run %s: %s: %s", self._run_id, next(iter(points)), error)
                return
            for point, metric in points.items():  # one bad name must not keep the others out
                self._deliver_points({point: metric})
        self._reported.update(points)

    def _deliver_picture(self, value: Mapping[str, Any]) -> None:
        path = Path(value["picture"])
        if not path.is_file():
            _log.warning("not logged to run %s: %s has gone", self._run_id, path)
            return
        try:
            with self._tracker.calls() as client:
                client.log_artifact(self._run_id, str(path), f"pictures/{value['name']}")
        except (RefusedError, UsageError) as error:
            if isinstance(error, AuthError):
                raise
            _log.warning("not logged to run %s: %s: %s", self._run_id, path.name, error)
        path.unlink(missing_ok=True)

    def _ask_what_is_reported(self) -> None:
        """Once: every (metric, step) that the run has from an earlier process."""
        if self._reported_known:
            return
        try:
            with self._tracker.calls() as client:
                for key in client.get_run(self._run_id).data.metrics:
                    self._reported.update((key, point.step) for point in client.get_metric_history(self._run_id, key))
        except UsageError as error:
            _log.warning("run %s: %s", self._run_id, error)  # each batch will say so itself
        self._reported_known = True


def _together(pending: Iterable[Record]) -> list[Record]:
    """A picture alone, or metrics up to what one request may hold."""
    batch: list[Record] = []
    points = 0
    for record in pending:
        is_picture = "picture" in record.value
        points += _points(record)
        if batch and (is_picture or points > _BATCH_POINTS):
            break
        batch.append(record)
        if is_picture:
            break
    return batch


def _points(record: Record) -> int:
    return len(record.value.get("metrics", (0,)))


def _waiting(queue: "SimpleQueue[_Incoming | None]") -> list[_Incoming | None]:
    """What is in the queue now, up to the end mark."""
    items: list[_Incoming | None] = []
    while True:
        try:
            items.append(queue.get_nowait())
        except Empty:
            return items


def _plain(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name).lstrip(".") or "picture"


def _now() -> int:
    return int(time.time() * 1000)
