"""Brings what a process writes to stdout and stderr into storage while it runs, so that logs outlive the cluster.

::

    <storage>/jobs/<id>/logs/driver/00000000.log           pieces, in order
    <storage>/jobs/<id>/logs/<run>/a<attempt>-r<rank>/...  of each worker
    <stream>/source.json                                   where the process writes, for its last words

A process that dies takes its shipper along; :func:`collect_last_words` then fetches what is left. A piece begins
with a line that says how far the files had been read, so that nothing is fetched twice.
"""

import json
import os
import re
import stat
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from udt_cluster.errors import UdtError
from udt_cluster.storage import Location, finish_within

SOURCE = "source.json"
DRIVER = "driver"
"""Stream of the job's driver; those of workers are called `<run>/a<attempt>-r<rank>`."""
_MARK = b"#udt "
_PIECE = re.compile(r"\d{8}\.log")
_LONGEST_PIECE = 1 << 20
_CLOSE_SECONDS = 10.0
_STREAMS = {1: "out", 2: "err"}
_AWAY = (UdtError, OSError)
"""What may happen to storage; the next round tries again."""


@dataclass
class Tail:
    """A log file, and how far it has been read."""

    path: str
    position: int

    def read(self, most: int, *, whole: bool) -> bytes:
        """At most `most` new bytes, whole lines of them unless `whole`, when the rest counts as a line too."""
        with Path(self.path).open("rb") as file:
            file.seek(self.position)
            found = file.read(most)
        end = found.rfind(b"\n") + 1
        return found if whole or (not end and len(found) == most) else found[:end]


@dataclass
class Piecewise:
    """Writes the news of some files as numbered pieces of one stream. Not for two threads."""

    folder: Location
    tails: dict[str, Tail]
    number: int
    last: bytes = b""
    """The text of the newest piece."""
    _unsent: bytes = field(default=b"", repr=False)

    def ship(self, *, whole: bool = False) -> bool:
        """Put what is new; whether there may be more. A piece that could not be put is put again as it was."""
        if not self._unsent:
            news = self._news(whole=whole)
            if not news:
                return False
            self._unsent, self.last = _heading(self.tails) + news, news
        (self.folder / piece_name(self.number)).write_bytes(self._unsent)
        self.number += 1
        self._unsent = b""
        return True

    def _news(self, *, whole: bool) -> bytes:
        room, found = _LONGEST_PIECE, []
        for tail in self.tails.values():
            text = tail.read(room, whole=whole) if room else b""
            tail.position += len(text)
            room -= len(text)
            found.append(text if not text or text.endswith(b"\n") or not whole else text + b"\n")
        return b"".join(found)


class Shipper:
    """Ships this process's output from a thread of its own. Nothing of it is ever raised into the process."""

    def __init__(self, folder: Location, tails: dict[str, Tail], every: float) -> None:
        self._folder = folder
        self._tails = tails
        self._every = every
        self._pieces: Piecewise | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="udt-logship", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ship the last words; storage that is away is given some seconds."""
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS + 1.0)

    def __enter__(self) -> "Shipper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with suppress(*_AWAY):
            self._begin()
        while not self._stop.wait(self._every):
            with suppress(*_AWAY):
                self._ship(whole=False)
        with finish_within(_CLOSE_SECONDS), suppress(*_AWAY):
            self._ship(whole=True)
            (self._folder / SOURCE).delete()

    def _begin(self) -> Piecewise:
        """Say where this process writes; the numbers go on after what is there already."""
        files = {name: [tail.path, tail.position] for name, tail in self._tails.items()}
        source = {"node": _node(), "pid": os.getpid(), "files": files}
        number = _next_number(self._folder)
        (self._folder / SOURCE).write_bytes(json.dumps(source, sort_keys=True).encode())
        self._pieces = Piecewise(self._folder, self._tails, number)
        return self._pieces

    def _ship(self, *, whole: bool) -> None:
        pieces = self._pieces or self._begin()
        while pieces.ship(whole=whole):
            pass


def ship_own_output(folder: Location, *, every: float = 3.0) -> Shipper:
    """Ship what this process writes to its stdout and stderr from now on, as long as those are files.

    Args:
        folder: The stream; what is there already is gone on with.
        every: Seconds between two looks at the files.
    """
    return Shipper(folder, {_STREAMS[number]: tail for number, tail in _own_files().items()}, every)


def _node() -> str:
    """Id of the cluster's node that this process is on; empty outside of a cluster."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray is not None and ray.is_initialized() else ""


def _own_files() -> dict[int, Tail]:
    """The files behind fd 1 and fd 2, each once; neither a terminal nor a pipe has an end to look for."""
    found: dict[int, Tail] = {}
    seen: set[tuple[int, int]] = set()
    for number in _STREAMS:
        status = os.fstat(number)
        if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            found[number] = Tail(str(Path(f"/proc/self/fd/{number}").readlink()), status.st_size)
    return found


def collect_last_words(logs: Location, run: str, attempt: int, *, seconds: float = 20.0) -> dict[int, str]:
    """Ship what the dead workers of an attempt had written and not shipped, each on the node where it lived.

    To be called by a process that is connected to the cluster. Nodes that are gone, or take longer, are passed over.

    Args:
        logs: The job's logs.
        run: The run.
        attempt: Its attempt.
        seconds: For all workers together.

    Returns:
        The end of each dead worker's output, at most 4 kB, by rank.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    task: Any = ray.remote(num_cpus=0, max_retries=0)(collect_rest)
    waiting = {}
    for rank, stream in _dead_streams(logs / run, attempt).items():
        source = json.loads((stream / SOURCE).read_bytes())
        if source["node"] in alive:
            there = NodeAffinitySchedulingStrategy(source["node"], soft=False)
            waiting[task.options(scheduling_strategy=there).remote(stream, source)] = rank
    ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=seconds) if waiting else ([], [])
    words = {}
    for reference in ready:
        with suppress(RayError, *_AWAY):
            words[waiting[reference]] = str(ray.get(reference))
    return words


def _dead_streams(folder: Location, attempt: int) -> dict[int, Location]:
    """Streams of an attempt that were not closed, by rank."""
    found = (re.fullmatch(rf"(a{attempt}-r(\d+))/{SOURCE}", entry.key) for entry in folder.entries())
    return {int(match[2]): folder / match[1] for match in found if match}


def collect_rest(stream: Location, source: dict[str, Any]) -> str:
    """Ship what a dead process wrote after its last piece; runs on the node where it lived.

    Args:
        stream: Its stream.
        source: The stream's :data:`SOURCE`.

    Returns:
        The end of its output, at most 4 kB.
    """
    tails = {name: Tail(path, start) for name, (path, start) in source["files"].items() if Path(path).is_file()}
    number = _next_number(stream)
    text, reached = split_piece((stream / piece_name(number - 1)).read_bytes()) if number else (b"", {})
    for name in tails.keys() & reached.keys():
        tails[name].position = reached[name]
    pieces = Piecewise(stream, tails, number)
    while pieces.ship(whole=True):
        text += pieces.last
    (stream / SOURCE).delete()
    return text[-4096:].decode(errors="replace")


def piece_name(number: int) -> str:
    """Key of a piece in its stream."""
    return f"{number:08d}.log"


def split_piece(piece: bytes) -> tuple[bytes, dict[str, int]]:
    """A piece's text, and how far the files had been read when it was written."""
    if not piece.startswith(_MARK):
        return piece, {}
    heading, _, text = piece.partition(b"\n")
    reached: dict[str, int] = json.loads(heading.removeprefix(_MARK))
    return text, reached


def _heading(tails: dict[str, Tail]) -> bytes:
    return _MARK + json.dumps({name: tail.position for name, tail in tails.items()}).encode() + b"\n"


def _next_number(folder: Location) -> int:
    numbers = [int(entry.key[:8]) for entry in folder.entries() if _PIECE.fullmatch(entry.key)]
    return max(numbers, default=-1) + 1
