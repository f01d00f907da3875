"""The verdict of `verify-resume`: what makes it fail, and what it says."""

import math
from dataclasses import replace
from typing import Any

import pytest

from udt_cluster.cli.verify import worker_counts
from udt_cluster.cluster.driver.verify import Check, Ended, Verdict, enough_cases, same_batches, same_bits, short_job
from udt_cluster.config.job import Job
from udt_cluster.errors import RefusedError, UsageError

JOB = Job.model_validate(
    {
        "name": "a",
        "data": {"source": "/data", "adapter": "glas", "group_by": "case"},
        "train": {"epochs": 500, "global_batch_size": 8, "schedule": "cosine"},
        "resources": {"workers": 2},
    }
)
METRICS = {"train_loss": 0.5, "val_dice": 0.25, "val_dice_class_1": math.nan, "epoch_seconds": 3.0, "memory_gb": 1.0}
WHOLE = Ended(
    digests={"model.safetensors": "a" * 64, "optimizer.safetensors": "b" * 64},
    metrics=(METRICS, {**METRICS, "train_loss": 0.4}),
    batches={1: {0: (1, 2)}, 2: {0: (3, 4)}},
)
AGAIN = replace(WHOLE, batches={1: {0: (1, 2)}, 2: {0: (3, 4), 1: (3, 4)}}, resumed_step=1)


def failed(checks: list[Check]) -> dict[str, str]:
    """What of the checks has not passed."""
    return {check.name: check.detail for check in checks if not check.passed}


def test_the_same_passes_though_it_took_another_time() -> None:
    slower = tuple({**metrics, "epoch_seconds": 9.0, "memory_gb": 2.0} for metrics in AGAIN.metrics)
    checks = same_bits("2 -> 2", WHOLE, replace(AGAIN, metrics=slower))
    assert not failed(checks)
    assert checks[0].detail == "2 steps, 1 of them trained again after the kill"
    assert checks[1].detail == f"model.safetensors {'a' * 12}, optimizer.safetensors {'b' * 12}; resumed from step 1"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"digests": {**WHOLE.digests, "model.safetensors": "c" * 64}}, "model.safetensors differ"),
        ({"digests": {"model.safetensors": "a" * 64}}, "optimizer.safetensors differ"),
        ({"batches": {1: {0: (1, 2)}, 2: {0: (3, 5)}}}, "steps 2 differ"),
        ({"metrics": AGAIN.metrics[:1]}, "1 epochs of 2"),
        ({"metrics": (METRICS, {**METRICS, "train_loss": 0.4000001})}, "train_loss of epoch 2: 0.4 and 0.4000001"),
        (
            {"metrics": (METRICS, {**METRICS, "train_loss": 0.4, "val_dice_class_1": 0.0})},
            "val_dice_class_1 of epoch 2",
        ),
    ],
    ids=["weights", "optimizer", "batches", "epochs", "loss", "undefined Dice"],
)
def test_any_difference_fails_and_is_named(change: dict[str, Any], expected: str) -> None:
    found = failed(same_bits("2 -> 2", WHOLE, replace(AGAIN, **change)))
    assert len(found) == 1
    assert expected in next(iter(found.values()))


def test_another_number_of_workers_may_differ_in_the_loss_and_says_by_how_much() -> None:
    metrics = (METRICS, {**METRICS, "train_loss": 0.43})
    checks = same_batches("2 -> 1", WHOLE, replace(AGAIN, metrics=metrics, digests={}))
    assert not failed(checks)
    assert "0.03" in checks[1].detail


@pytest.mark.parametrize("change", [{"metrics": AGAIN.metrics[:1]}, {"batches": {1: {0: (1, 2)}}}])
def test_another_number_of_workers_needs_the_same_batches_and_all_epochs(change: dict[str, Any]) -> None:
    assert len(failed(same_batches("2 -> 1", WHOLE, replace(AGAIN, **change)))) == 1


def test_one_failed_check_fails_the_verdict() -> None:
    good, bad = Check("a", True, ""), Check("b", False, "why")
    assert Verdict((good,)).passed
    assert not Verdict((good, bad)).passed
    assert Verdict((good, bad)).facts()["checks"][1] == {"check": "b", "passed": False, "detail": "why"}


def test_the_trial_keeps_network_and_recipe() -> None:
    short = short_job(JOB, workers=1, retries=2)
    assert (short.train.epochs, short.resources.workers.max, short.retry.max) == (2, 1, 2)
    assert short.train.checkpoint_every.total_seconds() == 1  # type: ignore[union-attr]
    assert (short.model, short.data, short.train.schedule) == (JOB.model, JOB.data, "cosine")


def test_cases_are_taken_until_the_steps_are_filled() -> None:
    assert enough_cases([10, 10, 10, 10], batch=4) == 3
    with pytest.raises(RefusedError, match=r"6 steps of train.global_batch_size=8.*global_batch_size=3"):
        enough_cases([10, 10], batch=8)


@pytest.mark.parametrize(
    ("workers", "resume_with", "expected"),
    [(None, None, (2, 2, 1)), (1, None, (1, 1, 2)), (4, None, (4, 4, 2)), (2, [1], (2, 1)), (2, [4, 2], (2, 4, 2))],
)
def test_workers_that_are_killed_and_those_that_go_on(
    workers: int | None, resume_with: list[int] | None, expected: tuple[int, ...]
) -> None:
    assert worker_counts(JOB, workers=workers, resume_with=resume_with) == expected


def test_workers_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 workers cannot share train.global_batch_size=8.*possible: 1, 2, 4$"):
        worker_counts(JOB, workers=2, resume_with=[3])
