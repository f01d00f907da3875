"""Signs of life of the workers, in the job's record: how far each is, and the last words of one that ends itself.

::

    <storage>/jobs/<id>/signs/<run>/<attempt>/<rank>.json    replaced every few seconds while something changes

The driver reads them when an attempt has ended: the dead cannot be asked.
"""

import json
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from udt_cluster.cluster.failures import LastWords, Traces
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location, in_threads

_SHARED_MEMORY = Path("/dev/shm")
_SHORT_BYTES = 64 << 20
_EVERY_SECONDS, _EVERY_SECONDS_LOCALLY = 2.0, 0.5
_AWAY = (UdtError, OSError)


@dataclass(frozen=True)
class Sign:
    """What a worker says of itself.

    Attributes:
        rank: Of the process.
        node: The address of its node, for people.
        node_id: The node as Ray knows it.
        first_step: The optimizer step (from 1) that it began with; 0 before it has.
        step: Steps done.
        alive_at: When the worker's program started, in seconds since 1970.
        began_at: When its first step was done; 0 before.
        beat_at: When it last got on.
        short_of: What its node is short of.
        kind, message: Its last words.
    """

    rank: int
    node: str = ""
    node_id: str = ""
    pid: int = 0
    first_step: int = 0
    step: int = 0
    alive_at: float = 0.0
    began_at: float = 0.0
    beat_at: float = 0.0
    short_of: str = ""
    kind: str = ""
    message: str = ""


def signs_folder(job_folder: Location, run: str, attempt: int) -> Location:
    """Where the workers of an attempt leave their signs."""
    return job_folder / "signs" / run / f"{attempt:04d}"


class SignWriter:
    """Keeps one rank's sign up to date from a thread of its own; storage that is away is never noticed in training."""

    def __init__(self, folder: Location, sign: Sign) -> None:
        self._location = folder / f"{sign.rank:05d}.json"
        self._every = _EVERY_SECONDS_LOCALLY if folder.is_local else _EVERY_SECONDS
        self._sign, self._written = replace(sign, pid=os.getpid(), alive_at=time.time()), sign
        self._doing = 0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="udt-signs", daemon=True)
        self._thread.start()

    def before_step(self, step: int) -> None:
        """Step number `step` (from 1) begins."""
        self._doing = step
        if not self._sign.first_step:
            self._sign = replace(self._sign, first_step=step, step=step - 1)

    def beat(self) -> None:
        """Something was done: the step that had begun, or a part of the validation after it."""
        now = time.time()
        self._sign = replace(self._sign, step=self._doing, beat_at=now, began_at=self._sign.began_at or now)

    def last_words(self, kind: str, message: str) -> None:
        """Say why this process will be gone in a moment."""
        self._sign = replace(self._sign, kind=kind, message=message)
        self._write()

    def close(self) -> None:
        """Write the last state."""
        self._closed.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        self._write()
        while not self._closed.wait(self._every):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock, suppress(*_AWAY):
            sign = replace(self._sign, short_of=shortage())
            if sign != self._written:
                self._location.write_bytes(json.dumps(asdict(sign)).encode())
                self._written = sign


def shortage() -> str:
    """What this node has too little of to go on for long; empty when there is enough of all."""
    places = {str(path): path for path in (_SHARED_MEMORY, Path(tempfile.gettempdir()))}
    left = {name: shutil.disk_usage(path).free for name, path in places.items() if path.is_dir()}
    left["memory"] = _available_memory()
    short = [f"{free >> 20} MB left in {name}" for name, free in left.items() if free < _SHORT_BYTES]
    return ", ".join(short)


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return _SHORT_BYTES


def read_signs(folder: Location) -> list[Sign]:
    """The signs of an attempt, by rank; none while storage does not answer."""
    known = {field.name for field in fields(Sign)}
    try:
        loaded = in_threads(lambda key: (folder / key).read_bytes(), [entry.key for entry in folder.entries()])
    except _AWAY:
        return []
    rows = [json.loads(content) for content in loaded]
    return sorted((Sign(**{k: v for k, v in row.items() if k in known}) for row in rows), key=lambda sign: sign.rank)


def traces_of(signs: list[Sign], *, lost_nodes: frozenset[str] = frozenset()) -> Traces:
    """What the signs say to who wonders how an attempt ended.

    Args:
        signs: Of all ranks.
        lost_nodes: Ids of nodes that the cluster has lost.
    """
    return Traces(
        places={sign.rank: sign.node for sign in signs if sign.node},
        steps={sign.rank: sign.step for sign in signs if sign.first_step},
        words={sign.rank: LastWords(sign.kind, sign.message) for sign in signs if sign.kind},
        shortages={sign.rank: sign.short_of for sign in signs if sign.short_of},
        lost_nodes=frozenset(sign.node for sign in signs if sign.node_id in lost_nodes),
    )
