"""Faults that a worker does to itself: how they are written, and when they happen."""

import math
from dataclasses import dataclass

import pytest
import torch

from udt_cluster.cluster.worker.failpoints import ACTIONS, FailpointError, Failpoints, Fault, parse_faults
from udt_cluster.errors import UsageError


@dataclass(frozen=True)
class FakeBatch:
    """What a failpoint may touch."""

    images: torch.Tensor
    labels: torch.Tensor
    samples: torch.Tensor


def test_faults_are_read_as_they_are_written() -> None:
    assert parse_faults("") == parse_faults(" ; ") == ()
    assert parse_faults("kill:step=7,rank=1,attempt=0; nan:step=9") == (
        Fault("kill", 7, 1, 0),
        Fault("nan", 9, 0, None),
    )
    assert {fault.kind for kind in ACTIONS for fault in parse_faults(f"{kind}:step=1")} == set(ACTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "kill",
        "kill:",
        "kill:rank=1",
        "kill:step=0",
        "kill:step=x",
        "kill:step=1,step",
        "die:step=1",
        "kill:step=1,node=2",
    ],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be KIND:step=N"):
        parse_faults(text)


def test_a_fault_happens_at_its_step_to_its_rank_in_its_attempt_and_to_nobody_else() -> None:
    text = "raise:step=3,rank=1,attempt=2"
    for rank in range(3):
        for attempt in range(4):
            points = Failpoints(text, rank=rank, attempt=attempt)
            mine = (rank, attempt) == (1, 2)
            assert bool(points) is mine
            points.before_step(2, [])
            if mine:
                with pytest.raises(FailpointError, match="step 3"):
                    points.before_step(3, [])
            else:
                points.before_step(3, [])


def test_without_an_attempt_it_happens_in_each() -> None:
    assert all(Failpoints("raise:step=3", rank=0, attempt=attempt) for attempt in range(5))


def test_nan_poisons_the_batch() -> None:
    batch = FakeBatch(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4), torch.arange(2))
    Failpoints("nan:step=1", rank=0, attempt=0).before_step(1, [batch])
    assert math.isnan(float(batch.images.sum()))
