"""Preparation on the cluster: the tasks of `data_prep` as Ray tasks. Pixels go through storage, not through Ray."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from udt_cluster.config.data import DataConfig
from udt_cluster.config.home import udt_home
from udt_cluster.storage import Location

if TYPE_CHECKING:
    from data_prep.executor import Died
    from data_prep.prepare import Prepared

T = TypeVar("T")
R = TypeVar("R")
Say = Callable[[str], None]

_SECONDS_BETWEEN_LINES = 2.0
_FLYING_PER_CPU, _LEAST_FLYING = 4, 16


def prepare_on_ray(config: DataConfig, storage: Location, say: Say) -> "Prepared":
    """Prepare a data set with tasks of the cluster that this process is connected to."""
    from data_prep import FileIndex, prepare
    from data_prep.privacy import privacy_gate

    return prepare(
        config,
        config.dataset,
        storage,
        executor=RayExecutor(),
        index=FileIndex(udt_home() / "files.sqlite"),
        rename=privacy_gate(
            home=udt_home(),
            dataset=config.dataset,
            pseudonymize=config.pseudonymize,
            upload=not storage.is_local,
        ),
        on_progress=ProgressLine(say),
    )


class RayExecutor:
    """`data_prep.executor.Executor` on Ray: one task of one CPU for every item."""

    def map(self, function: Callable[[T], R], items: Iterable[T], *, description: str) -> "Iterator[R | Died]":
        """Run `function(item)` for every item; a few times as many tasks are submitted as there are CPUs."""
        import ray

        remote: Any = ray.remote(num_cpus=1, max_retries=0)(function).options(name=description)
        waiting = iter(items)
        flying: deque[tuple[T, Any]] = deque()
        while True:
            for item in islice(waiting, _room() - len(flying)):
                flying.append((item, remote.remote(item)))
            if not flying:
                return
            item, reference = flying.popleft()
            yield _result(reference, again=partial(_alone, remote, item, [other for _, other in flying]))


def _room() -> int:
    """How many tasks may be submitted at once; some wait, so that a cluster that can grow sees why it should."""
    import ray

    return max(_LEAST_FLYING, _FLYING_PER_CPU * int(ray.cluster_resources().get("CPU", 1)))


def _alone(remote: Any, item: object, others: Sequence[Any]) -> Any:
    """Submit a task when all others have ended."""
    import ray

    if others:
        ray.wait(list(others), num_returns=len(others), fetch_local=False)
    return remote.remote(item)


def _result(reference: Any, again: Callable[[], Any] | None) -> Any:
    """What a task returned, or the error that it raised itself, not Ray's around it. The dead are tried again once."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    from data_prep.executor import Died

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if not isinstance(error.cause, MemoryError):
            raise error.cause from error
        reason = "there was not enough memory"
    except (OutOfMemoryError, WorkerCrashedError, NodeDiedError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Died(reason) if again is None else _result(again(), again=None)


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
