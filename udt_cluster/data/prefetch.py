"""Do the next items in threads while the present one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(
    load: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield `load(item)` for each item, in order, with up to `ahead` of them being made by threads meanwhile.

    An exception of `load` is raised here, with the thread's own traceback, when its item's turn has come. Closing the
    generator, or leaving it by an error, cancels what has not begun and waits for what has: no thread stays behind.

    Args:
        load: Called in any thread, concurrently.
        items: Taken one by one, in this thread.
        threads: 0 calls `load` here, when its result is asked for.
        ahead: Results that may be under way or waiting, at least 1.
    """
    if threads == 0:
        yield from map(load, items)
        return
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="udt-prefetch")
    try:
        pending.extend(pool.submit(load, item) for item in islice(remaining, max(1, ahead)))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(load, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class ShardNeeds:
    """When shards are needed, by this rank and by the others, who may share its node.

    Attributes:
        shards: In the order in which they are first needed by anyone.
        own: Which of `shards` this rank needs.
        ended: The same shards in the order in which they are last needed by anyone.
        ends: The last batch that needs each of `ended`.
    """

    shards: NDArray[np.int64]
    own: NDArray[np.bool_]
    ended: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, everyone: NDArray[np.int64], batch_size: int, own: NDArray[np.int64]) -> "ShardNeeds":
        """What a sequence of samples needs.

        Args:
            everyone: The shards that each sample of all ranks needs, batch after batch; shape (N, K).
            batch_size: Samples in a batch of all ranks.
            own: Those of this rank, in any order.
        """
        flat = everyone.ravel()
        distinct, first = np.unique(flat, return_index=True)
        _, last_reversed = np.unique(flat[::-1], return_index=True)
        last = (len(flat) - 1 - last_reversed) // (batch_size * everyone.shape[1])
        shards = distinct[np.argsort(first, kind="stable")]
        by_end = np.argsort(last, kind="stable")
        return cls(shards, np.isin(shards, own), distinct[by_end], last[by_end])

    def finished_before(self, batch: int) -> int:
        """How many shards no batch from this one on needs."""
        return int(np.searchsorted(self.ends, batch))


class ShardCache(Protocol):
    """What reading ahead asks of a cache."""

    @property
    def capacity_shards(self) -> int:
        """Shards that it keeps."""

    def prefetch(self, shard: int, *, passing: bool) -> None:
        """Have a shard ready."""

    def release(self, shards: NDArray[np.int64]) -> None:
        """These are not needed any more: they shall go before those that are."""


class ReadAhead:
    """Has shards ready in the order of need, in threads, never more at a time than the cache keeps.

    Args:
        cache: Where shards are wanted.
        needs: Of the batches to come.
        threads: 0 reads nothing ahead.
        passing: As for :meth:`SampleCache.prefetch`.
        once: A shard that is finished is released.
    """

    def __init__(self, cache: ShardCache, needs: ShardNeeds, *, threads: int, passing: bool, once: bool) -> None:
        self._cache, self._needs, self._passing, self._once = cache, needs, passing, once
        self._begun = self._finished = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="udt-shards") if threads else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def advance(self, batch: int) -> None:
        """The batches before this one are done: go on with the shards for which there is room now."""
        before, self._finished = self._finished, self._needs.finished_before(batch)
        if self._once and before < self._finished:
            self._cache.release(self._needs.ended[before : self._finished])
        if self._pool is None:
            return
        room = self._finished + self._cache.capacity_shards
        present = slice(self._begun, room)
        for shard in self._needs.shards[present][self._needs.own[present]].tolist():
            # An error is kept by the cache for the batch that needs the shard.
            self._pool.submit(self._cache.prefetch, shard, passing=self._passing)
        self._begun = max(self._begun, room)
