"""Decoded shards as files in a folder that the processes of a node share: each is made once, then mapped by all.

The index, mapped by everybody, says of each shard when it was begun (0: it is not here) and when it was last used. A
shard is written to a `.part` file by the process that holds its `flock`, and renamed when it is complete; whoever dies
meanwhile leaves a `.part` that the next one takes over. Files are removed in the order of their last use, over all
processes; who has mapped one keeps its pages until it lets go. So at most `capacity` shards are listed, whatever dies
at whatever moment: a file exists only while the index lists it.
"""

import errno
import fcntl
import logging
import math
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from udt_cluster.data.node_folder import is_at
from udt_cluster.errors import UdtError

Bytes = NDArray[np.uint8]
Decode = Callable[[Bytes], None]

_INDEX = "index"
_HEADER = 4
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_PASSING = -(2**62)
"""Added to the time of use of what is read once in a while: it goes before everything else."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MappedShard:
    """A decoded shard.

    Attributes:
        content: Its bytes, read-only.
        born: The index's number of it; another one there means that this one was evicted.
    """

    content: Bytes
    born: int


class ShardFiles:
    """The shards of one store in one folder. Every method may be called by any thread of any process.

    Args:
        folder: Made ready by :meth:`create`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _closing(os.open(folder / _INDEX, os.O_RDWR)) as index:
            numbers = np.frombuffer(mmap.mmap(index, 0), np.int64)
        self._header = numbers[:_HEADER]
        self._shard_bytes = int(numbers[2])
        self._told = math.inf
        self._born, self._used = numbers[_HEADER:].reshape(2, -1)

    @staticmethod
    def create(folder: Path, *, num_shards: int, shard_bytes: int, capacity: int) -> None:
        """Make the index of an empty folder.

        Args:
            folder: Seen by nobody else yet.
            num_shards: Of the store.
            shard_bytes: Of one decoded shard.
            capacity: Shards kept at most; with 0 every shard is decoded for each use.

        Raises:
            OSError: no room.
        """
        numbers = np.zeros(_HEADER + 2 * num_shards, np.int64)
        numbers[0], numbers[2] = capacity, shard_bytes
        (folder / _INDEX).write_bytes(numbers.tobytes())

    @property
    def capacity(self) -> int:
        """Shards kept at most; less than what was set once the disk was full."""
        return int(self._header[0])

    @property
    def evictions(self) -> int:
        """How many shards have been removed, by all processes."""
        return int(self._header[1])

    def born(self, shard: int) -> int:
        """The number of the shard's present file, 0 if there is none."""
        return int(self._born[shard])

    def listed(self) -> tuple[int, ...]:
        """The shards that are here, least recently used first."""
        here = np.flatnonzero(self._born)
        return tuple(here[np.argsort(self._used[here], kind="stable")].tolist())

    def touch(self, shards: NDArray[np.int64], *, passing: bool = False) -> None:
        """Note that shards are being used; those of which all use was `passing` will be the first to go."""
        used = time.monotonic_ns() + (_PASSING if passing else 0)
        self._used[shards] = np.maximum(self._used[shards], used)

    def release(self, shards: NDArray[np.int64]) -> None:
        """Note that shards have been used up; they go first unless somebody else touches them."""
        self._used[shards] = time.monotonic_ns() + _PASSING

    def load(self, shard: int, decode: Decode, *, wait: bool, passing: bool = False) -> MappedShard | None:
        """The shard, decoded here if it is not there yet.

        Args:
            shard: Number of the shard.
            decode: Fills the bytes that it is given; called by one thread of one process of the node at a time.
            wait: If another process is decoding it: wait for that, or answer None at once.
            passing: As for :meth:`touch`.

        Raises:
            Exception: whatever `decode` raises; nothing of the shard is kept then.
        """
        while (found := self._mapped(shard)) is None:
            with _closing(self._opened(self._part(shard).name)) as part:
                if not _locked(part, wait=wait):
                    return None
                if not is_at(part, self._part(shard)):
                    continue  # the one who had it has finished or given up
                if self.born(shard) and self._file(shard).exists():  # and this part was made a moment too late
                    self._part(shard).unlink(missing_ok=True)
                    continue
                return self._decoded(shard, part, decode, passing=passing)
        return found

    def _mapped(self, shard: int) -> MappedShard | None:
        born = self.born(shard)
        if born:
            with suppress(FileNotFoundError), _closing(os.open(self._file(shard), os.O_RDONLY)) as file:
                return MappedShard(_read_only(_mapped(file, self._shard_bytes, shared=False)), born)
        return None

    def _decoded(self, shard: int, part: int, decode: Decode, *, passing: bool) -> MappedShard:
        """Decode into the part file, whose lock is held, and publish it."""
        born, complete = self._reserve(shard, passing=passing), False
        try:
            while not self._allocated(part):
                if not self._shrink(shard):
                    return self._private(decode)
            content = _mapped(part, self._shard_bytes, shared=True)
            decode(content)
            complete = True
        finally:
            self._settle(shard, part, born, complete=complete)
        return MappedShard(_read_only(content), born)

    def _private(self, decode: Decode) -> MappedShard:
        content = np.empty(self._shard_bytes, np.uint8)
        decode(content)
        self._header[1] += 1  # so that everybody looks and nobody keeps this
        return MappedShard(_read_only(content), -1)

    def _allocated(self, part: int) -> bool:
        """Take the room now: writing to a mapped file on a full disk would be a bus error."""
        if not self.capacity:
            return False
        try:
            os.posix_fallocate(part, 0, self._shard_bytes)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return False
        return True

    def _reserve(self, shard: int, *, passing: bool) -> int:
        with self._exclusive():
            is_listed = self.born(shard) != 0  # by a process that died
            self._evict(leave=max(1, self.capacity) - (not is_listed), keep=shard)
            now = time.monotonic_ns()
            self._born[shard] = now
            self._used[shard] = now + (_PASSING if passing else 0)
        return now

    def _settle(self, shard: int, part: int, born: int, *, complete: bool) -> None:
        """Give the finished file its name, or take back what was reserved; nothing if it was evicted meanwhile.

        Who evicts may die before it has told the index: the part of this name may be gone, or be another one.
        """
        with self._exclusive():
            if self.born(shard) != born:
                return
            is_ours = is_at(part, self._part(shard))
            if complete and is_ours:
                self._part(shard).rename(self._file(shard))
                return
            self._born[shard] = 0
            if is_ours:
                self._part(shard).unlink()

    def _shrink(self, shard: int) -> bool:
        """The disk is full: be content with one shard less. False if there is none to give up."""
        with self._exclusive():
            listed = np.count_nonzero(self._born)
            after = min(self.capacity, max(0, int(listed) - 1))
            self._header[0] = after
            self._evict(leave=max(1, after), keep=shard)
        if after <= 0.75 * self._told:  # not at every step down
            self._told = after
            self._tell_full(after)
        return after > 0

    def _tell_full(self, capacity: int) -> None:
        kept = f"it goes on with {capacity} shards of {self._shard_bytes / 1e6:.3g} MB"
        log.warning(
            "%s: no room left for the cache of decoded samples; %s, and batches are the same but come more slowly. "
            "Make room there, give the node more shared memory, or set data.cache lower",
            *(self._folder, kept if capacity else "every shard is decoded anew for each batch that needs it"),
        )

    def _evict(self, *, leave: int, keep: int) -> None:
        last = np.iinfo(np.int64).max
        while np.count_nonzero(self._born) > leave:
            used = np.where(self._born != 0, self._used, last)
            used[keep] = last
            shard = int(used.argmin())
            self._file(shard).unlink(missing_ok=True)
            self._part(shard).unlink(missing_ok=True)
            self._born[shard] = 0
            self._header[1] += 1

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the index against all other threads and processes (a lock belongs to the opening, so each opens it)."""
        with _closing(self._opened(_INDEX)) as index:
            fcntl.flock(index, fcntl.LOCK_EX)
            yield

    def _opened(self, name: str) -> int:
        try:
            return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError as error:
            raise UdtError(
                f"{self._folder}: the cache of decoded samples was removed while it was in use. Start again, and keep "
                "what cleans that folder from removing it"
            ) from error

    def _file(self, shard: int) -> Path:
        return self._folder / f"{shard}"

    def _part(self, shard: int) -> Path:
        return self._folder / f"{shard}.part"


def _mapped(descriptor: int, size: int, *, shared: bool) -> Bytes:
    """Map a file. Python's `mmap` would keep a descriptor open for every shard; torch closes it."""
    mapped: Bytes = torch.from_file(f"/proc/self/fd/{descriptor}", shared=shared, size=size, dtype=torch.uint8).numpy()
    return mapped


def _read_only(content: Bytes) -> Bytes:
    content.flags.writeable = False
    return content


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
