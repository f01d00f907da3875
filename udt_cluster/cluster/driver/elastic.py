"""How many workers an attempt gets: as many as fit the cluster now, of the numbers that can share the batch."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from udt_cluster.config.job import Job

Resources = Mapping[str, float]
Say = Callable[[str], None]

LOOK_SECONDS = 5.0
GROW_SECONDS = 60.0
"""A larger number of workers must have been possible for so long before a run is interrupted for it."""
_SETTLE_SECONDS = 10.0
"""What the attempt before held comes free a moment after its end."""
_SAY_SECONDS = 60.0


def fitting(nodes: Iterable[Resources], need: Resources) -> int:
    """How many workers that need so much each fit on nodes that have so much each."""
    return sum(min(int((node.get(name, 0.0) + 1e-6) // amount) for name, amount in need.items()) for node in nodes)


def choose(counts: Sequence[int], room: int) -> int | None:
    """The largest allowed number of workers for which there is room."""
    return max((count for count in counts if count <= room), default=None)


def need_of_worker(job: Job, *, gpus: float) -> dict[str, float]:
    """What one worker takes; trials may share a GPU."""
    return {"CPU": float(job.resources.cpus_per_worker), **({"GPU": float(gpus)} if gpus else {})}


@dataclass(frozen=True)
class Nodes:
    """The cluster's nodes, those that are being drained left out.

    Attributes:
        total: What each has.
        free: What of it nobody uses.
        lost: Ids of the nodes that have gone.
    """

    total: tuple[Resources, ...]
    free: tuple[Resources, ...]
    lost: frozenset[str] = frozenset()


def look_at_cluster() -> Nodes:
    """The nodes of the cluster that this process is connected to."""
    import ray
    from ray._private import state  # what each node has free is not to be had otherwise

    free, draining = state.available_resources_per_node(), state.state.get_draining_nodes()
    nodes = {node["NodeID"]: node for node in ray.nodes()}
    usable = [name for name, node in nodes.items() if node["Alive"] and name not in draining]
    return Nodes(
        total=tuple(nodes[name]["Resources"] for name in usable),
        free=tuple(free.get(name, {}) for name in usable),
        lost=frozenset(name for name, node in nodes.items() if not node["Alive"]),
    )


class Room:
    """Finds room for the workers of a run.

    Args:
        counts: Numbers of workers that the job allows, ascending.
        need: What each of them takes.
        say: Told when there is waiting to be done.
        look: The cluster's nodes.
        ask: Asks the cluster's autoscaler, if it has one, for room for so many workers; 0: not any more.
        sleep, clock: As in :mod:`time`.
    """

    def __init__(
        self,
        counts: Sequence[int],
        need: Resources,
        *,
        say: Say,
        look: Callable[[], Nodes] = look_at_cluster,
        ask: Callable[[int], None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts, self._need = tuple(counts), need
        self._say, self._look, self._sleep, self._clock = say, look, sleep, clock
        self._ask = ask or (lambda count: _ask_autoscaler(count, need))

    def wait(self) -> int:
        """Wait until the smallest allowed number of workers fits; the number to start with.

        A fixed number is started as soon as the cluster is large enough, and queues there behind other jobs.
        """
        began, told, asked = self._clock(), -_SAY_SECONDS, False
        while True:
            count, room = self._look_once(settled=self._clock() - began > _SETTLE_SECONDS)
            if count is not None:
                if asked:
                    self._ask(0)
                return count
            if self._clock() - told > _SAY_SECONDS and room < self.counts[0]:
                told, asked = self._clock(), True
                self._say(f"waiting: {self.counts[0]} workers are needed, the cluster has room for {room}")
                self._ask(self.counts[0])
            self._sleep(1.0)

    def _look_once(self, *, settled: bool) -> tuple[int | None, int]:
        """The number to start with, or None to look again; and for how many there is room."""
        nodes = self._look()
        possible = fitting(nodes.total, self._need)
        wanted = choose(self.counts, possible)
        if wanted is None or len(self.counts) == 1:
            return wanted, possible
        free = fitting(nodes.free, self._need)
        now = choose(self.counts, free)
        return (now if now == wanted or settled else None), free

    def could_grow(self, workers: int) -> int | None:
        """A larger number of workers than now, when what is free allows it."""
        larger = choose(self.counts, workers + fitting(self._look().free, self._need))
        return larger if larger is not None and larger > workers else None


class Growth:
    """Notices that more workers have been possible for a while."""

    def __init__(
        self, room: Room, workers: int, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._room, self._workers, self._seconds, self._clock = room, workers, seconds, clock
        self._since: float | None = None

    def look(self) -> int | None:
        """The larger number, once it has been possible for long enough."""
        larger = self._room.could_grow(self._workers) if self._workers < self._room.counts[-1] else None
        self._since = None if larger is None else self._clock() if self._since is None else self._since
        return larger if self._since is not None and self._clock() - self._since >= self._seconds else None


def _ask_autoscaler(count: int, need: Resources) -> None:
    from ray.autoscaler.sdk import request_resources

    bundles: list[dict[str, Any]] = [dict(need)] * count
    request_resources(bundles=bundles)
