"""Preparation on the cluster: the tasks of `data_prep` as Ray tasks, their pixels kept in Ray's object store."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from udt_cluster.config.data import DataConfig
from udt_cluster.config.home import udt_home
from udt_cluster.storage import Location

if TYPE_CHECKING:
    from data_prep.prepare import Prepared

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")
Say = Callable[[str], None]

_SECONDS_BETWEEN_LINES = 2.0


def prepare_on_ray(config: DataConfig, storage: Location, say: Say) -> "Prepared":
    """Prepare a data set with tasks of the cluster that this process is connected to."""
    from data_prep import FileIndex, prepare

    return prepare(
        config,
        config.dataset,
        storage,
        executor=RayExecutor(),
        index=FileIndex(udt_home() / "files.sqlite"),
        on_progress=ProgressLine(say),
    )


class RayExecutor:
    """`data_prep.executor.Executor` on Ray. Large results stay behind references; they never pass the driver."""

    def produce(
        self, function: Callable[[T], tuple[S, Any]], items: Sequence[T], *, description: str
    ) -> Iterator[tuple[S, Any]]:
        """One task an item; the small part of each result comes here, in order."""
        import ray

        task: Any = ray.remote(num_cpus=1, num_returns=2)(function).options(name=description)
        pairs = [task.remote(item) for item in items]
        for small, large in pairs:
            yield _own(ray.get, small), large

    def consume(
        self,
        function: Callable[..., R],
        calls: Iterable[tuple[T, Sequence[Any]]],
        *,
        total: int,
        description: str,
    ) -> Iterator[R]:
        """One task a call; Ray puts the values in the place of the references."""
        import ray

        task: Any = ray.remote(num_cpus=1)(function).options(name=description)
        references = [task.remote(item, *handles) for item, handles in calls]
        for reference in references:
            yield _own(ray.get, reference)


def _own(get: Callable[[Any], Any], reference: Any) -> Any:
    """A task's result, or the error that it raised itself, without Ray's wrapping."""
    from ray.exceptions import RayTaskError

    try:
        return get(reference)
    except RayTaskError as error:
        raise error.cause from error


class ProgressLine:
    """Says how far a preparation is, at most every two seconds and at the end of each part."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report `done` of `total`."""
        if done == total or time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._say(f"{what} {done}/{total} [{'#' * (20 * done // max(total, 1)):<20}]")
