"""How many workers an attempt gets, and when a running one should have more."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from udt_cluster.cluster.driver.elastic import Growth, Nodes, Resources, Room, choose, fitting

NEED = {"CPU": 2.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ([], 0),
        ([{"CPU": 8.0, "GPU": 2.0}], 2),
        ([{"CPU": 3.0, "GPU": 2.0}], 1),
        ([{"CPU": 8.0}], 0),
        ([{"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}], 0),
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 4.0}], 3),
        ([{"CPU": 1.9999999, "GPU": 1.0}], 1),
    ],
)
def test_workers_fit_on_nodes_and_not_across_them(nodes: list[Resources], count: int) -> None:
    assert fitting(nodes, NEED) == count


@pytest.mark.parametrize(("room", "chosen"), [(0, None), (1, 1), (2, 2), (3, 2), (4, 4), (99, 4)])
def test_the_largest_allowed_number_is_taken(room: int, chosen: int | None) -> None:
    assert choose((1, 2, 4), room) == chosen


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def nodes(total: int, free: int | None = None) -> Nodes:
    """One node with so many CPUs, and so many of them free."""
    return Nodes(({"CPU": float(total)},), ({"CPU": float(total if free is None else free)},))


class Cluster:
    """Shows one state after the other, the last one for ever."""

    def __init__(self, *states: Nodes) -> None:
        self._states = list(states)
        self.looks = 0

    def __call__(self) -> Nodes:
        self.looks += 1
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


def room_for(
    counts: Sequence[int], look: Callable[[], Nodes], clock: Clock, said: list[str], asked: list[int] | None = None
) -> Room:
    return Room(
        counts,
        {"CPU": 1.0},
        say=said.append,
        look=look,
        ask=(asked if asked is not None else []).append,
        sleep=clock.sleep,
        clock=clock,
    )


def test_a_fixed_number_starts_when_the_cluster_is_large_enough_though_others_use_it() -> None:
    said: list[str] = []
    assert room_for((2,), Cluster(nodes(2, free=0)), Clock(), said).wait() == 2
    assert not said


def test_too_few_nodes_are_waited_for_and_said_once_a_minute() -> None:
    clock, said, asked = Clock(), list[str](), list[int]()
    cluster = Cluster(*[nodes(1)] * 100, nodes(2))
    assert room_for((2,), cluster, clock, said, asked).wait() == 2
    assert said == ["waiting: 2 workers are needed, the cluster has room for 1"] * 2
    assert asked == [2, 2, 0], "the autoscaler is asked, and told when the wait is over"
    assert cluster.looks == 101


def test_a_range_takes_what_is_free_after_a_moment_for_what_is_coming_free() -> None:
    clock = Clock()
    assert room_for((1, 2, 4), Cluster(nodes(4, free=0), nodes(4, free=4)), clock, []).wait() == 4
    assert clock.now == 1, "what the attempt before held came free"
    assert room_for((1, 2, 4), Cluster(nodes(4, free=3)), clock, []).wait() == 2, "another job holds the rest"
    assert 10 < clock.now < 15
    assert room_for((1, 2, 4), Cluster(nodes(2, free=2)), Clock(), []).wait() == 2


def test_a_range_waits_for_its_smallest_number() -> None:
    clock, said = Clock(), list[str]()
    cluster = Cluster(*[nodes(4, free=1)] * 30, nodes(4, free=2))
    assert room_for((2, 4), cluster, clock, said).wait() == 2
    assert said == ["waiting: 2 workers are needed, the cluster has room for 1"]


def grown(free: Iterator[int], clock: Clock, counts: Sequence[int] = (1, 2, 4), workers: int = 1) -> list[int | None]:
    """What `Growth` answers every ten seconds."""
    current = [0]
    room = room_for(counts, lambda: nodes(9, free=current[0]), clock, [])
    growth, answers = Growth(room, workers, seconds=60, clock=clock), list[int | None]()
    for current[0] in free:
        answers.append(growth.look())
        clock.sleep(10)
    return answers


def test_a_run_grows_when_more_has_been_free_for_a_minute() -> None:
    assert grown(iter([0] + [1] * 8), Clock()) == [None] * 7 + [2, 2]
    assert grown(iter([0] + [3] * 8), Clock())[-1] == 4
    assert set(grown(iter([1, 1, 1, 0] * 5), Clock())) == {None}, "it was not free all the time"
    assert set(grown(iter([9] * 9), Clock(), workers=4)) == {None}, "more are not allowed"
    assert set(grown(iter([1] * 9), Clock(), counts=(1, 4))) == {None}, "two cannot share the batch"
