"""Ends a worker that makes no step any more, after it has written down where each of its threads stands.

A worker that hangs while it holds Python's global lock, or that was stopped, cannot notice: Ray's health check, which
is given the same time, ends that one.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Callable

HANG_EXIT_CODE = 86
START_SECONDS = 900.0
"""What a worker has for its start: imports, the first batch, the compilation of the network."""
_LOOK_SECONDS = 1.0
_STDERR = 2


class Watchdog:
    """Waits in a thread of its own for beats.

    Args:
        seconds: Without a beat for so long the process ends.
        on_hang: Called first, with the seconds that have passed.
        start_seconds: The same until the first beat.
        end: Ends the process.
        report_seconds: What `on_hang` has at most.
    """

    def __init__(
        self,
        seconds: float,
        *,
        on_hang: Callable[[float], None],
        start_seconds: float = START_SECONDS,
        end: Callable[[int], object] = os._exit,
        report_seconds: float = 10.0,
    ) -> None:
        self._seconds, self._on_hang, self._end = seconds, on_hang, end
        self._report_seconds = report_seconds
        self._allowed = max(seconds, start_seconds)
        self._last = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="udt-watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Training goes on. Costs nothing worth mentioning."""
        self._last = time.monotonic()
        self._allowed = self._seconds

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(_LOOK_SECONDS, max(0.05, self._left()))):
            if self._left() <= 0:
                self._give_up(time.monotonic() - self._last)
                return

    def _left(self) -> float:
        return self._last + self._allowed - time.monotonic()

    def _give_up(self, seconds: float) -> None:
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        report = threading.Thread(target=self._on_hang, args=(seconds,), daemon=True)
        report.start()  # beside: what hangs may be the very storage that it writes to
        report.join(self._report_seconds)
        self._end(HANG_EXIT_CODE)
