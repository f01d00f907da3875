"""An executor for one machine without a cluster: a few processes, each with one task at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from data_prep.executor import Died

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4


class ProcessExecutor:
    """`data_prep.executor.Executor` on processes of this machine; spawned, since S3 clients have threads.

    Args:
        workers: Processes; by default one for each core that this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> Iterator[R | Died]:
        """Results in the order of the items; what was under way when a process died is run again, each alone."""
        remaining = iter(items)
        waiting: deque[T] = deque(islice(remaining, self._workers * _AHEAD))
        while waiting:
            alone: deque[T] = deque()
            yield from self._until_a_death(function, waiting, remaining, alone)
            for item in alone:
                yield _alone(function, item)
            waiting = deque(islice(remaining, self._workers * _AHEAD))

    def _until_a_death(
        self, function: Callable[[T], R], waiting: deque[T], remaining: Iterator[T], alone: deque[T]
    ) -> Iterator[R | Died]:
        """Results until all is done or a process dies; then `alone` holds what had begun, in order."""
        with _pool(self._workers) as pool:
            pending: deque[tuple[T, Future[R]]] = deque((item, pool.submit(function, item)) for item in waiting)
            try:
                while pending:
                    item, future = pending[0]
                    settled = _settled(function, item, future)
                    yield settled
                    pending.popleft()
                    pending.extend((item, pool.submit(function, item)) for item in islice(remaining, 1))
            except BrokenProcessPool:
                alone.extend(item for item, _ in pending)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _settled(function: Callable[[T], R], item: T, future: Future[R]) -> R | Died:
    try:
        return future.result()
    except MemoryError:
        return _alone(function, item)


def _alone(function: Callable[[T], R], item: T) -> R | Died:
    try:
        with _pool(1) as pool:
            return pool.submit(function, item).result()
    except BrokenProcessPool:
        return Died("its process was killed twice, the second time with nothing beside it: not enough memory?")
    except MemoryError:
        return Died("there was not enough memory")


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
