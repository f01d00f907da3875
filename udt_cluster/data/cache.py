"""Decoded samples of a store, bounded: each shard is fetched, verified and decoded once per node while it stays here.

A shard is a file in a folder that all processes of the node share (:mod:`node_folder`, :mod:`shard_files`); this is one
process's view of it. There is one request for the images and one for the labels of a whole shard, whatever is wanted of
it; how to order samples so that this pays is the business of :mod:`order`.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from udt_cluster.data.node_folder import NodeFolder
from udt_cluster.data.shard_files import Bytes, ShardFiles
from udt_cluster.data.store import DataStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAYOUT = 1
"""Of the files; part of the folder's name, so that two versions of this code never share one."""


@dataclass(frozen=True)
class _Shard:
    images: NDArray[Any]
    labels: NDArray[np.uint8]
    born: int


class SampleCache:
    """Least-recently-used shards of raw samples for all threads of all processes of a node that name the same capacity.

    Shards in use outlive their eviction: the memory held is at most `capacity_bytes` plus, for each process, the shards
    of one batch. A capacity below one shard counts as one.

    Args:
        store: Where samples come from.
        capacity_bytes: Bound on the shards kept on this node. They lie in shared memory where half of what is free
            there is enough, else in `folder`; where that has too little room as well, fewer are kept. Both are logged.
        folder: On a local disk; by default that of temporary files.

    Raises:
        UdtError: nothing can be written, neither to shared memory nor to the disk.
    """

    def __init__(self, store: DataStore, *, capacity_bytes: int, folder: Path | None = None) -> None:
        self.store = store
        size = shard_bytes(store)
        capacity = max(size, min(capacity_bytes, store.num_shards * size))

        def prepare(path: Path, room: int) -> None:
            ShardFiles.create(path, num_shards=store.num_shards, shard_bytes=size, capacity=room // size)

        name = f"{_LAYOUT} {store.location.uri} {store.commit.digest} {capacity}"
        self._folder = NodeFolder.join(
            hashlib.sha256(name.encode()).hexdigest()[:24],
            wanted=capacity,
            disk=folder or Path(tempfile.gettempdir()),
            prepare=prepare,
        )
        self._files = ShardFiles(self._folder.path)
        self._shards: dict[int, Future[_Shard | None]] = {}
        self._evictions = 0
        self._lock = Lock()

    @property
    def capacity_shards(self) -> int:
        """Shards that this node keeps at most; it may have less room than what was asked for."""
        return self._files.capacity

    def cached_shards(self) -> tuple[int, ...]:
        """Numbers of the shards that this node has, least recently used first."""
        return self._files.listed()

    def close(self) -> None:
        """Let go of the folder, which is removed with its last user. It happens by itself at the end of the process."""
        with self._lock:
            self._shards.clear()
        self._folder.leave()

    def prefetch(self, shard: int, *, passing: bool = False) -> None:
        """Have a shard ready. If another thread or process is at it already, nothing is done.

        Args:
            shard: Number of the shard.
            passing: It is read once in a while and shall be the first to go.

        Raises:
            Exception: why it cannot be had; who wants it next gets the same error, the one after that tries again.
        """
        self._forget_evicted()
        future, mine = self._claim(shard)
        if mine:
            self._load(shard, future, wait=False, passing=passing)

    def release(self, shards: NDArray[np.int64]) -> None:
        """These shards will not be needed for long: they shall go before those that will."""
        self._files.release(shards)

    def gather(
        self, rows: NDArray[np.int64], images: NDArray[Any], labels: NDArray[np.uint8], *, passing: bool = False
    ) -> None:
        """Copy samples into arrays that are there.

        Args:
            rows: Sample indices in the store, shape (B, K): each sample amid its neighbours, K odd.
            images: Source precision, shape (B, K, C, H, W), contiguous; written.
            labels: Of the middle of each row, shape (B, H, W); written.
            passing: As for :meth:`prefetch`.

        Raises:
            UdtError: the store could not be read; nothing of the failed shard is kept.
        """
        self._forget_evicted()
        numbers, offsets = np.divmod(rows, self.store.info.shard_samples)
        distinct = np.unique(numbers)
        with self._errors_told_once(distinct.tolist()):
            shards = self._loaded(distinct.tolist(), passing=passing)
        self._files.touch(distinct, passing=passing)
        flat = images.reshape(-1, *images.shape[2:])
        for row, (number, offset) in enumerate(zip(numbers.ravel().tolist(), offsets.ravel().tolist(), strict=True)):
            flat[row] = shards[number].images[offset]
        middle = rows.shape[1] // 2
        wanted = zip(numbers[:, middle].tolist(), offsets[:, middle].tolist(), strict=True)
        for row, (number, offset) in enumerate(wanted):
            labels[row] = shards[number].labels[offset]

    def _loaded(self, numbers: Iterable[int], *, passing: bool) -> dict[int, _Shard]:
        """All that nobody has begun is loaded here before anything is waited for."""
        claimed = {}
        for number in numbers:
            claimed[number], mine = self._claim(number)
            if mine:
                self._load(number, claimed[number], wait=True, passing=passing)
        return {number: future.result() or self._waited(number, passing) for number, future in claimed.items()}

    def _waited(self, number: int, passing: bool) -> _Shard:
        """Another process had begun to decode it when it was to be prefetched."""
        while True:
            future, mine = self._claim(number)
            if mine:
                self._load(number, future, wait=True, passing=passing)
            if (shard := future.result()) is not None:
                return shard

    def _claim(self, number: int) -> tuple[Future[_Shard | None], bool]:
        """The future of a shard, and whether it is new, so that who asked has to load it."""
        with self._lock:
            if (future := self._shards.get(number)) is not None:
                return future, False
            future = self._shards[number] = Future()
            return future, True

    def _load(self, number: int, future: Future[_Shard | None], *, wait: bool, passing: bool) -> None:
        size = self._samples_of(number)

        def decode(content: Bytes) -> None:
            shard = self._shaped(content, size, 0)
            self.store.read_shard(number, out=(shard.images, shard.labels))

        try:
            found = self._files.load(number, decode, wait=wait, passing=passing)
            if found is None:
                self._forget(number, future)
            future.set_result(self._shaped(found.content, size, found.born) if found else None)
        finally:
            if not future.done():  # an error is on its way through here
                future.set_exception(sys.exception())

    def _samples_of(self, number: int) -> int:
        size = self.store.info.shard_samples
        return min(size, self.store.num_samples - number * size)

    def _shaped(self, content: Bytes, samples: int, born: int) -> _Shard:
        """The images of a shard, then its labels."""
        info = self.store.info
        dtype, pixels = np.dtype(info.dtype), info.size[0] * info.size[1]
        end = samples * info.channels * pixels * dtype.itemsize
        images = content[:end].view(dtype).reshape(samples, info.channels, *info.size)
        labels = content[end : end + samples * pixels].reshape(samples, *info.size)
        return _Shard(images, labels, born)

    def _forget(self, number: int, future: Future[_Shard | None]) -> None:
        with self._lock:
            if self._shards.get(number) is future:
                del self._shards[number]

    def _forget_evicted(self) -> None:
        """Unmap what any process of the node has removed, so that its memory is free."""
        evictions = self._files.evictions
        if evictions == self._evictions:
            return
        with self._lock:
            self._evictions = evictions
            for number, future in list(self._shards.items()):
                shard = future.result() if future.done() and future.exception() is None else None
                if shard is not None and self._files.born(number) != shard.born:
                    del self._shards[number]

    @contextmanager
    def _errors_told_once(self, numbers: Iterable[int]) -> "Iterator[None]":
        """After an error the failed ones are forgotten: it has been told, and the next one tries again."""
        try:
            yield
        finally:
            if sys.exception() is not None:
                with self._lock:
                    for number in numbers:
                        future = self._shards.get(number)
                        if future is not None and future.done() and future.exception() is not None:
                            del self._shards[number]


def shard_bytes(store: DataStore) -> int:
    """Bytes of a whole decoded shard, labels included."""
    return store.info.shard_samples * sample_bytes(store)


def sample_bytes(store: DataStore) -> int:
    """Bytes of one raw sample with its label."""
    height, width = store.info.size
    return height * width * (store.info.channels * np.dtype(store.info.dtype).itemsize + 1)
