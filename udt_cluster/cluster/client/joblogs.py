"""The logs of a job as a person reads them: the pieces in storage, in order, without what Ray says to itself."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from udt_cluster.cluster.client.connection import api_errors, connect
from udt_cluster.cluster.client.handover import job_state
from udt_cluster.cluster.client.states import judge, look_at
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.logship import DRIVER, SOURCE, piece_name, split_piece
from udt_cluster.cluster.record import TERMINAL, JobRecord
from udt_cluster.errors import RefusedError, TargetUnreachableError
from udt_cluster.storage import Entry, Location, in_threads

_PIECE = re.compile(r"(?P<stream>.+)/(?P<number>\d{8})\.log")
_WORKER = re.compile(r"(?P<run>[^/]+)/a(?P<attempt>\d+)-r(?P<rank>\d+)")
_AT_ONCE = 32
_POLL_SECONDS = 1.0
_LIST_SECONDS = 6.0
_NOISE = re.compile(
    r":(job_id|actor_name|task_name):"
    r"|\(\w+ pid=\d+|\((raylet|autoscaler)\b"
    r"|\[State Transition\]|\[Gloo\] "
    r"|Setting up process group for: |Reporting training result \d+: |Requesting resources: "
    r"|Started training worker group |Attempting to start training worker group "
    r"|- \(ip=\S+ pid=\d+\) world_rank="
    r"|\[[-\d]+ [:,\d]+ [IWEC] \d+ \d+\] \S+\.(cc|h):\d+: "
    r"|[-\d]+ [:,\d]+\s+INFO \w+\.py:\d+ -- "
    r"|Running entrypoint for job "
    r"|\S+\.py:\d+: (\w*Deprecat\w*|FutureWarning|UserWarning): "
    r"|\[[-\d]+ [:,\d]+\] \[(INFO|WARNING)\] \[\w+\.py:\d+:\w+\] "
)
_WARNED = re.compile(r"\S+\.py:\d+: (\w*Deprecat\w*|FutureWarning|UserWarning): ")


@dataclass
class LogReader:
    """Reads on in the streams of one job.

    Attributes:
        logs: The folder.
        rank: Only this rank's beside the driver's; None for all.
    """

    logs: Location
    rank: int | None = 0
    _next: dict[str, int] = field(default_factory=dict)
    _lines: dict[str, "_Lines"] = field(default_factory=dict)

    def all(self) -> Iterator[str]:
        """Everything that is there and was not read yet, by the time at which it came."""
        found = sorted(self._fresh(), key=lambda piece: (piece[0].modified, piece[1], piece[2]))
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            for (_, stream, number), piece in zip(some, in_threads(self._read, [p[0] for p in some]), strict=True):
                self._next[stream] = number + 1
                yield self._text(stream, piece)

    def more(self) -> Iterator[str]:
        """What came in the streams that are known: a few requests, where :meth:`all` lists everything."""
        for stream in sorted(self._next):
            while (piece := self._piece(stream)) is not None:
                self._next[stream] += 1
                yield self._text(stream, piece)

    def driver_position(self) -> int:
        """How far the driver's own file had been read when its last piece was written."""
        number = self._next.get(DRIVER, 0) - 1
        if number < 0:
            return 0
        return split_piece((self.logs / DRIVER / piece_name(number)).read_bytes())[1].get("out", 0)

    def _fresh(self) -> Iterator[tuple[Entry, str, int]]:
        for entry in self.logs.entries():
            match = _PIECE.fullmatch(entry.key)
            if match is None or not self._wanted(match["stream"]):
                continue
            self._next.setdefault(match["stream"], 0)
            if int(match["number"]) >= self._next[match["stream"]]:
                yield entry, match["stream"], int(match["number"])

    def _wanted(self, stream: str) -> bool:
        worker = _WORKER.fullmatch(stream)
        return worker is None or self.rank is None or int(worker["rank"]) == self.rank

    def _read(self, entry: Entry) -> bytes:
        return (self.logs / entry.key).read_bytes()

    def _piece(self, stream: str) -> bytes | None:
        try:
            return (self.logs / stream / piece_name(self._next[stream])).read_bytes()
        except FileNotFoundError:
            return None

    def _text(self, stream: str, piece: bytes) -> str:
        lines = self._lines.setdefault(stream, _Lines(self._label(stream)))
        return lines.readable(split_piece(piece)[0].decode(errors="replace"))

    def _label(self, stream: str) -> str:
        worker = _WORKER.fullmatch(stream)
        if worker is None or self.rank is not None:
            return ""
        run = worker["run"].removeprefix(f"{self.logs.parent.name}-")
        return f"[{run} attempt {worker['attempt']} rank {worker['rank']}] "


@dataclass
class _Lines:
    """Takes Ray's talk out of one stream; a warning is followed by the line of code that it is about."""

    label: str
    _after_warning: bool = False

    def readable(self, text: str) -> str:
        return "".join(f"{self.label}{line}" for line in text.splitlines(keepends=True) if self._is_for_people(line))

    def _is_for_people(self, line: str) -> bool:
        quoted, self._after_warning = self._after_warning and line.startswith("  "), _WARNED.match(line) is not None
        return not quoted and not _NOISE.match(line)


def readable(text: str) -> str:
    """A text without the lines that are Ray's alone."""
    return _Lines("").readable(text)


def read(record: JobRecord, target: Target, *, follow: bool, rank: int | None = 0) -> Iterator[str]:
    """What the driver and workers have written, as pieces of text; with `follow` until the job ends.

    It is read from storage, where it is within seconds, whether or not there is a cluster.

    Args:
        record: The job's.
        target: Where it ran, for a driver that died before it could ship its log.
        follow: Go on until the job has ended.
        rank: Workers of this rank only; None for all.

    Raises:
        RefusedError: nothing was written, or it went with its cluster.
    """
    reader, found, listed = LogReader(record.logs, rank), False, 0.0
    while True:
        over = _has_ended(record, target)
        fresh = over or not follow or time.monotonic() - listed > _LIST_SECONDS
        listed = time.monotonic() if fresh else listed
        for text in reader.all() if fresh else reader.more():
            found = True
            yield text
        if over or not follow:
            break
        time.sleep(_POLL_SECONDS)
    rest = _unshipped(record, target, reader.driver_position())
    if over and not found and not rest:
        raise RefusedError(
            f"{record.id} has written nothing yet, or it went with its cluster; udt-cluster status {record.id}"
        )
    yield rest


def _has_ended(record: JobRecord, target: Target) -> bool:
    """Whether the job is over and its driver has shipped its last lines, or will not any more."""
    state = record.state()
    view = look_at(target, record.submission_id(state.life))
    if judge(record, state, view).state not in TERMINAL:
        return False
    ships = (record.logs / DRIVER / SOURCE).exists()
    return not ships or not set(view.states.values()) & {"PENDING", "RUNNING"}


def _unshipped(record: JobRecord, target: Target, position: int) -> str:
    """What Ray has of the log of a driver that died before it could ship it."""
    job = record.submission_id(record.state().life)
    if target.jobs_api is None or (position and not (record.logs / DRIVER / SOURCE).exists()):
        return ""
    with suppress(TargetUnreachableError, RuntimeError):  # a cluster that is gone, or that does not know the job
        client = connect(target)
        with api_errors(target):
            if job_state(client, job) not in {None, "PENDING", "RUNNING"}:
                return readable(client.get_job_logs(job).encode()[position:].decode(errors="replace"))
    return ""
