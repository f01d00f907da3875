"""Decoded samples in memory, bounded: each block of a store is read, verified and decoded once while it stays here.

A block is a whole shard where all that is wanted fits (one read for `shard_samples` samples), else a single sample: a
full shuffle over more data than the cache holds would otherwise decode a whole shard for each sample of a batch.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from udt_cluster.data.store import DataStore

Block = tuple[NDArray[Any], NDArray[np.uint8]]


class SampleCache:
    """Least-recently-used blocks of raw samples for any number of threads; two that want one block share its read.

    Blocks in use outlive their eviction: the memory held is at most `capacity_bytes` plus the blocks of one batch per
    thread. A single block larger than the capacity is still served.

    Args:
        store: Where samples come from.
        capacity_bytes: Bound on the blocks kept.
        block_samples: Samples per block; `store.info.shard_samples` or 1.
    """

    def __init__(self, store: DataStore, *, capacity_bytes: int, block_samples: int) -> None:
        self.store = store
        self.block_samples = block_samples
        self._capacity = max(1, capacity_bytes // (block_samples * sample_bytes(store)))
        self._blocks: OrderedDict[int, Future[Block]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def for_samples(cls, store: DataStore, samples: NDArray[np.int64], *, capacity_bytes: int) -> Self:
        """A cache of whole shards where those of `samples` fit into it, else of single samples."""
        shard = store.info.shard_samples
        needed = len(np.unique(samples // shard)) * shard * sample_bytes(store)
        return cls(store, capacity_bytes=capacity_bytes, block_samples=shard if needed <= capacity_bytes else 1)

    def gather(self, samples: NDArray[np.int64], images: NDArray[Any], labels: NDArray[np.uint8]) -> None:
        """Copy samples into preallocated arrays.

        Args:
            samples: Sample indices in the store, shape (B,).
            images: Source precision, shape (B, C, H, W); written.
            labels: Shape (B, H, W); written.

        Raises:
            UdtError: the store could not be read; nothing of the failed block is kept.
        """
        blocks = {block: self._block(block) for block in dict.fromkeys((samples // self.block_samples).tolist())}
        for row, sample in enumerate(samples.tolist()):
            block, offset = divmod(sample, self.block_samples)
            block_images, block_labels = blocks[block].result()
            images[row] = block_images[offset]
            labels[row] = block_labels[offset]

    def cached_blocks(self) -> Iterable[int]:
        """Numbers of the blocks held, least recently used first."""
        with self._lock:
            return tuple(self._blocks)

    def _block(self, block: int) -> Future[Block]:
        """The block, read here if nobody has begun to; if another thread has, this one goes on and waits later."""
        with self._lock:
            future = self._blocks.get(block)
            if future is not None:
                self._blocks.move_to_end(block)
                return future
            future = self._blocks[block] = Future[Block]()
            while len(self._blocks) > self._capacity:
                self._blocks.popitem(last=False)
        self._read(block, future)
        return future

    def _read(self, block: int, future: Future[Block]) -> None:
        start = block * self.block_samples
        try:
            images, labels = self.store.read_samples(start, min(start + self.block_samples, self.store.num_samples))
            # One sample may be a view of its whole shard, which would stay in memory with it.
            future.set_result((images.copy(), labels.copy()) if self.block_samples == 1 else (images, labels))
        finally:
            if not future.done():  # an error is on its way through here: those who wait get it too, the next one tries
                with self._lock:
                    if self._blocks.get(block) is future:
                        del self._blocks[block]
                future.set_exception(sys.exception())


def sample_bytes(store: DataStore) -> int:
    """Bytes of one raw sample with its label."""
    height, width = store.info.size
    return height * width * (store.info.channels * np.dtype(store.info.dtype).itemsize + 1)
