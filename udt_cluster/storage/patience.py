"""How long storage is given: requests are repeated while that can help, and never beyond a deadline."""

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from udt_cluster.errors import UsageError
from udt_cluster.storage.failures import foreign_errors, is_connect_failure, is_transient, storage_errors

DEADLINE_VARIABLE, CONNECT_VARIABLE = "UDT_STORAGE_DEADLINE", "UDT_STORAGE_CONNECT"
_DEFAULT_SECONDS = 60.0
_CONNECT_SECONDS = 6.0
"""Somebody who waits at a terminal wants to know soon that nobody is there."""
_JOB_SECONDS = "300"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

_T = TypeVar("_T")
_count = 0
_count_lock = threading.Lock()
_end: ContextVar[float] = ContextVar("storage_end", default=float("inf"))


def retry_count() -> int:
    """How often this process has made a request to storage again since it started: 0 where all is well.

    Logged as the metric `storage_retries` it tells a slow store from a slow network.
    """
    return _count


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
    started, pause, said = time.monotonic(), _FIRST_PAUSE, None
    end = min(_end.get(), started + deadline_seconds())
    while True:
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                return await attempt()
        except foreign_errors() as error:
            last_start = min(end, started + _connect_seconds()) if is_connect_failure(error) else end
            if isinstance(error, TimeoutError):
                error = said or error  # what the server said before says more than that time is up
            if not is_transient(error) or time.monotonic() + pause > last_start:
                raise error
            said = error
        _note_retry()
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _note_retry() -> None:
    global _count
    with _count_lock:
        _count += 1


def _after_fork() -> None:
    """A child counts its own, and does not wait for a lock that a thread of its parent held."""
    global _count, _count_lock
    _count, _count_lock = 0, threading.Lock()


def patient_environment() -> dict[str, str]:
    """Environment of processes with hours of work behind them: storage may be away for five minutes, in any way."""
    return {name: os.environ.get(name, _JOB_SECONDS) for name in (DEADLINE_VARIABLE, CONNECT_VARIABLE)}


def deadline_seconds() -> float:
    """Seconds that one request may take with all its repetitions: ``UDT_STORAGE_DEADLINE``, 60 by default.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    return _seconds_of(DEADLINE_VARIABLE, _DEFAULT_SECONDS)


def _connect_seconds() -> float:
    """Seconds for which a store that nobody reaches is asked again: ``UDT_STORAGE_CONNECT``, 6 by default."""
    return _seconds_of(CONNECT_VARIABLE, _CONNECT_SECONDS)


def _seconds_of(variable: str, default: float) -> float:
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{variable}={text!r} in the environment is not a number of seconds above 0")
    return seconds


os.register_at_fork(after_in_child=_after_fork)
