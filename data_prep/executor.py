"""Where tasks run: in this process here, on a cluster elsewhere. Preparation does not know which.

Pixels never need to pass through the driver: a task may hand back a small result together with something large that
stays where it was made, known to the driver by a handle only (a Ray ObjectRef, say) and put in the place of the handle
when a later task gets it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")
Handle = Any
"""What stands for a large result; opaque to the driver."""


@dataclass(frozen=True)
class Died:
    """What comes back of a task whose process died, or had no memory left, twice: the second time it was alone.

    Attributes:
        reason: What is known of it.
    """

    reason: str


class Executor(Protocol):
    """Runs module-level functions on picklable arguments. Results come in the order of the arguments.

    An error of a task is raised by the iterator, as the error that it was.
    """

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> Iterator[R | Died]:
        """Run `function(item)` for every item; results come in the order of the items.

        Items are taken as there is room for them, so that a million cases are not a million waiting tasks. A task that
        dies, or runs out of memory, is run once more when nothing else of this map runs; then it is given up as `Died`.

        Raises:
            Exception: the error of a task, by the iterator, as the error that it was.
        """

    def produce(
        self, function: Callable[[T], tuple[S, Any]], items: Sequence[T], *, description: str
    ) -> Iterator[tuple[S, Handle]]:
        """Run `function(item)`; of each pair that it returns, the first comes here, the second stays behind a handle.

        On Ray: `function.options(num_returns=2)`; get the first reference, pass the second on as it is.
        """

    def consume(
        self,
        function: Callable[..., R],
        calls: Iterable[tuple[T, Sequence[Handle]]],
        *,
        total: int,
        description: str,
    ) -> Iterator[R]:
        """Run `function(item, *what_the_handles_stand_for)`; the results are small and come here.

        On Ray: `function.remote(item, *handles)`, which resolves references that are arguments of their own.
        """


class InProcessExecutor:
    """Runs everything here, one after the other. Handles are the results themselves, so all pixels are in memory."""

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> Iterator[R | Died]:
        """Call, in order."""
        for item in items:
            yield _called(function, item)

    def produce(
        self, function: Callable[[T], tuple[S, Any]], items: Sequence[T], *, description: str
    ) -> Iterator[tuple[S, Handle]]:
        """Call, in order."""
        return map(function, items)

    def consume(
        self,
        function: Callable[..., R],
        calls: Iterable[tuple[T, Sequence[Handle]]],
        *,
        total: int,
        description: str,
    ) -> Iterator[R]:
        """Call, in order."""
        return (function(item, *handles) for item, handles in calls)


def _called(function: Callable[[T], R], item: T) -> R | Died:
    for last in (False, True):
        try:
            return function(item)
        except MemoryError:
            if last:
                return Died("there was not enough memory")
    raise AssertionError("one of two calls ended")
