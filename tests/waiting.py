"""Waiting for what a real process does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, seconds: float, what: str = "what was waited for", every: float = 0.2) -> T:
    """Ask again until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"not in {seconds:.0f} s: {what}"
        time.sleep(every)
    return answer
