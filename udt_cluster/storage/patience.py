"""How long storage is given: requests are repeated while that can help, and never beyond a deadline."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from udt_cluster.errors import UsageError
from udt_cluster.storage.failures import foreign_errors, is_connect_failure, is_transient, storage_errors

DEADLINE_VARIABLE = "UDT_STORAGE_DEADLINE"
_DEFAULT_SECONDS = 60.0
_CONNECT_SECONDS = 6.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

_T = TypeVar("_T")
_end: ContextVar[float] = ContextVar("storage_end", default=float("inf"))


@contextmanager
def finish_within(seconds: float) -> Iterator[None]:
    """Give all requests of the block, made by this thread, `seconds` together."""
    token = _end.set(min(_end.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _end.reset(token)


async def repeated(attempt: Callable[[], Awaitable[_T]], where: str) -> _T:
    """The result of one request, made again after a pause while its failure is a passing one.

    Args:
        attempt: Makes the request; must be safe to make twice.
        where: URI for messages.

    Raises:
        FileNotFoundError, AuthError, CorruptError, StorageUnreachableError: see `storage_errors`.
    """
    with storage_errors(where):
        return await _repeated(attempt)


async def _repeated(attempt: Callable[[], Awaitable[_T]]) -> _T:
    started, pause = time.monotonic(), _FIRST_PAUSE
    end = min(_end.get(), started + deadline_seconds())
    while True:
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                return await attempt()
        except foreign_errors() as error:
            last_start = min(end, started + _CONNECT_SECONDS) if is_connect_failure(error) else end
            if not is_transient(error) or time.monotonic() + pause > last_start:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


def deadline_seconds() -> float:
    """Seconds that one request may take with all its repetitions: ``UDT_STORAGE_DEADLINE``, 60 by default.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    text = os.environ.get(DEADLINE_VARIABLE, str(_DEFAULT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{DEADLINE_VARIABLE}={text!r} in the environment is not a number of seconds above 0")
    return seconds
