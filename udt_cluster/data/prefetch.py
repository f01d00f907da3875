"""Do the next items in threads while the present one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

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
