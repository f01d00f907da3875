"""Where tasks run: in this process here, on a cluster elsewhere. Preparation does not know which.

What goes to a task and comes back from it is small: pixels go from task to task through storage.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Died:
    """What comes back of a task whose process died, or had no memory left, twice: the second time it was alone.

    Attributes:
        reason: What is known of it.
    """

    reason: str


class Executor(Protocol):
    """Runs module-level functions on picklable arguments."""

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> Iterator[R | Died]:
        """Run `function(item)` for every item; results come in the order of the items.

        Items are taken as there is room for them, so that a million cases are not a million waiting tasks. A task that
        dies, or runs out of memory, is run once more when nothing else of this map runs; then it is given up as `Died`.

        Raises:
            Exception: the error of a task, by the iterator, as the error that it was.
        """


class InProcessExecutor:
    """Runs everything here, one after the other."""

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> Iterator[R | Died]:
        """Call, in order."""
        for item in items:
            yield _called(function, item)


def _called(function: Callable[[T], R], item: T) -> R | Died:
    for last in (False, True):
        try:
            return function(item)
        except MemoryError:
            if last:
                return Died("there was not enough memory")
    raise AssertionError("one of two calls ended")
