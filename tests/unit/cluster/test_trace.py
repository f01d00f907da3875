"""Global batches as `verify-resume` writes them down and compares them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster.worker.trace import TracedLoader, differing_steps, global_batches
from udt_cluster.storage import Location


@dataclass(frozen=True)
class Part:
    """What of a batch is written down."""

    samples: tuple[int, ...]


class Steps:
    """A loader of three steps per epoch; samples follow from epoch, step and rank."""

    steps_per_epoch = 3
    wait_seconds = 0.5

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._size = rank, world_size

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Sequence[Any]]:
        for step in range(start_step, 3):
            batch = [100 * epoch + 10 * step + sample for sample in range(4)]
            yield [Part(tuple(batch[self._rank :: self._size]))]


def trained(folder: Location, *, attempt: int, ranks: int, epoch: int = 0, start: int = 0) -> None:
    """Run through an epoch on every rank."""
    for rank in range(ranks):
        loader: Any = Steps(rank, ranks)
        traced = TracedLoader(loader, folder, attempt=attempt, rank=rank, world_size=ranks)
        assert traced.steps_per_epoch == 3
        assert traced.wait_seconds == 0.5
        assert all(traced.epoch(epoch, start_step=start))


def test_parts_of_all_ranks_make_the_batch(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    trained(folder, attempt=0, ranks=2)
    trained(folder, attempt=1, ranks=1, epoch=1, start=1)
    assert global_batches(folder) == {
        1: {0: (0, 1, 2, 3)},
        2: {0: (10, 11, 12, 13)},
        3: {0: (20, 21, 22, 23)},
        5: {1: (110, 111, 112, 113)},
        6: {1: (120, 121, 122, 123)},
    }


def test_a_step_that_a_killed_rank_has_not_written_is_left_out(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    trained(folder, attempt=0, ranks=2)
    (folder / "step-00000003/a0-r1-of-2.json").delete()
    assert list(global_batches(folder)) == [1, 2]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({1: {0: (1, 2)}, 2: {0: (3, 4), 1: (3, 4)}}, []),
        ({1: {0: (1, 2)}, 2: {0: (3, 4), 1: (3, 5)}}, [2]),
        ({1: {0: (1, 2)}}, [2]),
        ({1: {0: (1, 2)}, 2: {0: (3, 4)}, 3: {0: (5, 6)}}, [3]),
    ],
    ids=["the same", "another sample", "a step too few", "a step too many"],
)
def test_another_batch_in_any_attempt_is_found(found: dict[int, dict[int, tuple[int, ...]]], wrong: list[int]) -> None:
    assert differing_steps({1: {0: (1, 2)}, 2: {0: (3, 4)}}, found) == wrong
