"""The loop on one process with a bare torch engine and everything in memory."""

import io
import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.unit.training.fakes import (
    FolderCheckpoints,
    MemoryEval,
    MemoryTrain,
    Remembered,
    TorchEngine,
    blobs,
    tiny_net,
)
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import VersionError
from udt_cluster.training import FitResult, fit
from udt_cluster.training.loop import _is_finished
from udt_cluster.training.protocols import NonFiniteError, PreemptedError
from udt_cluster.training.saving import Saving
from udt_cluster.training.state import Best, TrainingState


class Run:
    """One fit and everything that it touched."""

    def __init__(self, root: Path, *, num_classes: int = 2, cases: int = 6, **recipe: Any) -> None:
        root.mkdir(exist_ok=True)
        settings: dict[str, Any] = {"epochs": 3, "lr": 0.02, "global_batch_size": 4, "picture_every": 0, **recipe}
        every = {"checkpoint_every": settings.pop("checkpoint_every")} if "checkpoint_every" in settings else {}
        self.config, self.num_classes = TrainConfig(**settings).model_copy(update=every), num_classes
        channels = 1 if num_classes == 2 else num_classes
        self.engine = TorchEngine(tiny_net(channels), self.config)
        micro = self.config.micro_batch_size or self.config.global_batch_size
        self.train = MemoryTrain(
            blobs(12, num_classes=num_classes), global_batch_size=self.config.global_batch_size, micro_batch_size=micro
        )
        self.validation = MemoryEval(blobs(2 * cases, num_classes=num_classes, seed=9), batch_size=5)
        self.reporter, self.checkpoints, self.beats = Remembered(), FolderCheckpoints(root), 0

    def fit(self, *, interrupt: Callable[[], str | None] = lambda: None) -> FitResult:
        return fit(
            engine=self.engine,
            train=self.train,
            validation=self.validation,
            reporter=self.reporter,
            checkpoints=self.checkpoints,
            config=self.config,
            num_classes=self.num_classes,
            class_names=("background", *(f"part {k}" for k in range(1, self.num_classes))),
            interrupt=interrupt,
            beat=self.count_beat,
        )

    def count_beat(self) -> None:
        self.beats += 1

    def same_weights(self, other: "Run") -> bool:
        ours, theirs = self.engine.module.state_dict(), other.engine.module.state_dict()
        return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_learns_and_reports_every_name_of_the_contract(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=14, micro_batch_size=2)
    result = run.fit()
    assert result == FitResult(
        best_val_dice=result.best_val_dice, best_epoch=result.best_epoch, last_epoch=14, steps=42, stopped_early=False
    )
    assert result.best_val_dice > 0.8
    epoch, step, metrics = run.reporter.epochs[-1]
    assert (epoch, step, metrics["epoch"], metrics["step"]) == (14, 42, 14.0, 42.0)
    assert metrics.keys() == {
        *("train_loss", "train_loss_dice", "train_loss_bce", "val_loss", "val_dice", "val_dice_class_1"),
        *("lr", "samples_per_second", "data_wait_percent", "memory_gb", "epoch", "step", "epoch_seconds"),
    }
    assert all(math.isfinite(value) for value in metrics.values())
    assert run.reporter.epochs[0][2]["train_loss"] > metrics["train_loss"]
    assert run.engine.syncs == 14


def test_several_classes(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", num_classes=4)
    run.fit()
    metrics = run.reporter.epochs[-1][2]
    assert {
        "train_loss_ce",
        "train_loss_dice",
        "val_dice_class_1",
        "val_dice_class_2",
        "val_dice_class_3",
    } <= metrics.keys()


def test_learning_rates_follow_the_schedule(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=4, lr=0.02)
    run.fit()
    assert [metrics["lr"] for _, _, metrics in run.reporter.epochs] == pytest.approx(
        [0.02, 0.01, 0.02, 0.01707107], rel=1e-6
    )


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path: Path, stop_after: int) -> None:
    whole = Run(tmp_path / "whole", epochs=4)
    whole_result = whole.fit()
    Run(tmp_path / "cut", epochs=stop_after).fit()
    torch.manual_seed(123)
    rest = Run(tmp_path / "cut", epochs=4)
    result = rest.fit()
    assert result == whole_result
    ours, theirs = rest.engine.module.state_dict(), whole.engine.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [epoch for epoch, _ in rest.train.seen] == [e for e in range(stop_after, 4) for _ in range(3)]
    assert whole.train.seen[3 * stop_after :] == rest.train.seen


def test_dropout_is_in_the_resumed_network_so_that_equality_means_something(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "a", epochs=1), Run(tmp_path / "b", epochs=1)
    torch.manual_seed(99)
    first.fit()
    second.fit()
    ours, theirs = first.engine.module.state_dict(), second.engine.module.state_dict()
    assert not all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_after_a_resume_the_history_is_reported_again(tmp_path: Path) -> None:
    first = Run(tmp_path / "c", epochs=2)
    first.fit()
    second = Run(tmp_path / "c", epochs=3)
    second.fit()
    assert [epoch for epoch, _, _ in second.reporter.epochs] == [1, 2, 3]
    assert second.reporter.epochs[:2] == first.reporter.epochs


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    result = Run(tmp_path / "c", epochs=2).fit()
    again = Run(tmp_path / "c", epochs=2)
    assert again.fit() == result
    assert again.train.seen == []
    assert again.checkpoints.saved == []


ALWAYS = timedelta(0)
"""A checkpoint at every step."""


def _comparable(run: Run) -> list[tuple[int, int, dict[str, float]]]:
    timed = {"samples_per_second", "data_wait_percent", "epoch_seconds"}
    return [
        (epoch, step, {name: value for name, value in metrics.items() if name not in timed})
        for epoch, step, metrics in run.reporter.epochs
    ]


@pytest.mark.parametrize("after", [1, 2, 4, 7, 8])
def test_fault_c5_killed_within_an_epoch_it_ends_with_the_same_weights_and_metrics(tmp_path: Path, after: int) -> None:
    whole = Run(tmp_path / "whole", checkpoint_every=ALWAYS)
    whole.fit()
    cut = Run(tmp_path / "cut", checkpoint_every=ALWAYS)
    step = cut.engine.step

    def die(*args: Any) -> Any:
        if len(cut.train.seen) > after:
            raise KeyboardInterrupt
        return step(*args)

    cut.engine.step = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    assert cut.checkpoints.saved[-1][1] == after
    torch.manual_seed(123)
    rest = Run(tmp_path / "cut", checkpoint_every=ALWAYS)
    rest.fit()
    assert rest.same_weights(whole)
    assert _comparable(rest) == _comparable(whole)
    assert rest.train.seen == whole.train.seen[after:]


@pytest.mark.parametrize("after", [1, 2, 3, 5, 9])
def test_fault_f5_asked_to_stop_it_saves_that_very_step_and_nothing_is_lost(tmp_path: Path, after: int) -> None:
    whole = Run(tmp_path / "whole")
    whole.fit()
    cut = Run(tmp_path / "cut")
    with pytest.raises(PreemptedError, match=rf"stopped at step {after}: the node goes") as caught:
        cut.fit(interrupt=lambda: "the node goes" if len(cut.train.seen) >= after else None)
    assert (caught.value.reason, caught.value.step) == ("the node goes", after)
    assert cut.checkpoints.saved[-1] == ((after - 1) // 3, after, "stop")
    rest = Run(tmp_path / "cut")
    rest.fit()
    assert rest.same_weights(whole)
    assert _comparable(rest) == _comparable(whole)
    assert rest.train.seen == whole.train.seen[after:]


def test_fault_f5_asked_to_stop_while_validating_it_validates_again(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", cases=30)
    whole.fit()
    cut = Run(tmp_path / "cut", cases=30)
    predict, asked = cut.engine.predict, []

    def ask_during(images: Any) -> Any:
        asked.append("now")
        return predict(images)

    cut.engine.predict = ask_during  # type: ignore[method-assign]
    with pytest.raises(PreemptedError, match="stopped at step 3"):
        cut.fit(interrupt=lambda: "shrinking" if asked else None)
    assert len(asked) < cut.validation.num_batches_max
    assert cut.checkpoints.saved == [(0, 3, "stop")]
    rest = Run(tmp_path / "cut", cases=30)
    rest.fit()
    assert rest.same_weights(whole)
    assert _comparable(rest) == _comparable(whole)
    assert rest.engine.syncs == 2  # the statistics of the first epoch were made equal before they were saved


def test_a_sign_of_life_at_every_step_and_validation_batch(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=2)
    run.fit()
    assert run.beats == 2 * (3 + run.validation.num_batches_max) + 1


def test_another_number_of_steps_per_epoch_is_refused(tmp_path: Path) -> None:
    Run(tmp_path / "c", epochs=2).fit()
    other = Run(tmp_path / "c", epochs=3, global_batch_size=6)
    with pytest.raises(VersionError, match=r"6 steps in 2 epochs, but .* make 2 steps per epoch"):
        other.fit()


def test_early_stopping_saves_the_last_epoch(tmp_path: Path) -> None:
    run = Run(
        tmp_path / "c", epochs=50, lr=1e-9, schedule="constant", early_stopping=2, checkpoint_every=timedelta(hours=10)
    )
    result = run.fit()
    assert result.stopped_early
    assert result.last_epoch == result.best_epoch + 2
    assert run.checkpoints.saved[-1] == (result.last_epoch, result.steps, "epoch")
    assert (result.best_epoch, 3 * result.best_epoch, "epoch") in run.checkpoints.saved


def test_fault_f1_nan_stops_before_the_step_and_names_the_samples(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=3)
    run.fit()
    poisoned = Run(tmp_path / "c", epochs=5)
    bad = int(next(batch for epoch, batch in _orders(poisoned.train, 4) if epoch == 3)[1])
    poisoned.train.data.images[bad, 0, 0, 0] = math.nan
    before = len(list(poisoned.checkpoints.root.iterdir()))
    with pytest.raises(NonFiniteError, match=r"epoch 4, step 1[0-2]: .*nan.*samples \[[0-9, ]*\]") as caught:
        poisoned.fit()
    named = caught.value.message.split("samples [")[1].split("]")[0].split(", ")
    assert str(bad) in named
    assert len(list(poisoned.checkpoints.root.iterdir())) == before
    assert all(torch.isfinite(p).all() for p in poisoned.engine.module.parameters())


def _orders(train: MemoryTrain, epochs: int) -> list[tuple[int, list[int]]]:
    for epoch in range(epochs):
        list(train.epoch(epoch))
    seen, train.seen = train.seen, []
    return seen


def test_fault_f1_weights_that_became_nan_in_the_last_step_are_never_saved(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=1)
    step = run.engine.step

    def ruin_the_last(*args: Any) -> Any:
        result = step(*args)
        if len(run.train.seen) == run.train.steps_per_epoch:
            with torch.no_grad():
                next(run.engine.module.parameters()).fill_(math.nan)
        return result

    run.engine.step = ruin_the_last  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="validation loss is nan after epoch 1"):
        run.fit()
    assert list(run.checkpoints.root.iterdir()) == []
    assert run.reporter.epochs == []


def test_pictures_come_at_the_first_epoch_and_then_in_their_turn(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=5, picture_every=2)
    run.fit()
    assert [(name, step) for name, _, step in run.reporter.pictures] == [
        ("validation", 3),
        ("validation", 6),
        ("validation", 12),
    ]
    assert Image.open(io.BytesIO(run.reporter.pictures[0][1])).format == "PNG"


def test_fault_f1_weights_that_became_nan_within_an_epoch_are_never_saved(tmp_path: Path) -> None:
    run = Run(tmp_path / "c", epochs=1, checkpoint_every=ALWAYS)
    step = run.engine.step

    def ruin_the_second(*args: Any) -> Any:
        result = step(*args)
        if len(run.train.seen) == 2:
            with torch.no_grad():
                next(run.engine.module.parameters()).fill_(math.inf)
        return result

    run.engine.step = ruin_the_second  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match=r"the weights are not finite after the last step, in 0\.weight"):
        run.fit()
    assert run.checkpoints.saved == [(0, 1, "time")]


@pytest.mark.parametrize(
    ("every", "seconds", "epoch", "is_last", "expected"),
    [
        ("epoch", 0, 3, False, True),
        ("10m", 599, 3, False, False),
        ("10m", 600, 3, False, True),
        ("10m", 0, 1, False, True),  # the best
        ("10m", 0, 9, True, True),
    ],
)
def test_when_the_end_of_an_epoch_is_saved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: str,
    seconds: float,
    epoch: int,
    *,
    is_last: bool,
    expected: bool,
) -> None:
    run = Run(tmp_path / "c")
    saving = Saving(run.engine, run.checkpoints, TrainConfig(checkpoint_every=every), lambda: None, lambda: None)
    now = time.monotonic() + seconds
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state = TrainingState(epoch=epoch, step=epoch, best=Best(epoch=1, val_dice=0.5))
    saving.after_epoch(state, is_last=is_last)
    assert run.checkpoints.saved == ([(epoch, epoch, "epoch")] if expected else [])


@pytest.mark.parametrize(
    ("every", "seconds", "rank", "busy", "due"),
    [
        ("epoch", 10**6, 0, False, False),
        ("10m", 599, 0, False, False),
        ("10m", 601, 0, False, True),
        ("10m", 601, 1, False, False),  # the clock is rank 0's
        ("10m", 601, 0, True, False),  # one upload at a time
    ],
)
def test_when_a_checkpoint_is_due_within_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: str, seconds: float, rank: int, *, busy: bool, due: bool
) -> None:
    run = Run(tmp_path / "c")
    run.engine.rank, run.checkpoints.busy = rank, busy
    saving = Saving(run.engine, run.checkpoints, TrainConfig(checkpoint_every=every), lambda: None, lambda: None)
    now = time.monotonic() + seconds
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert saving.flags() == (False, due, False)


def test_what_failed_on_one_rank_is_settled_by_all_at_the_same_step(tmp_path: Path) -> None:
    run = Run(tmp_path / "c")
    run.checkpoints.failed = True
    saving = Saving(run.engine, run.checkpoints, run.config, lambda: None, lambda: None)
    assert saving.flags() == (False, False, True)
    saving.after_step(TrainingState(), (False, False, False))
    assert run.checkpoints.settled == 0
    saving.after_step(TrainingState(), (False, False, True))
    assert run.checkpoints.settled == 1


@pytest.mark.parametrize(
    ("epoch", "stale", "early_stopping", "expected"),
    [(9, 0, 40, True), (8, 0, 40, False), (5, 3, 3, True), (5, 2, 3, False), (5, 100, None, False)],
)
def test_when_a_run_is_finished(epoch: int, stale: int, early_stopping: int | None, expected: bool) -> None:
    state = TrainingState(epoch=epoch, epochs_without_improvement=stale)
    assert _is_finished(state, TrainConfig(epochs=9, early_stopping=early_stopping)) is expected
