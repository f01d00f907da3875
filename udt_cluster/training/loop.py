"""Training, epoch by epoch: train, validate, record, save, report, decide.

It knows the Protocols of :mod:`udt_cluster.training.protocols` and nothing of Ray, MLflow or object storage.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import JobFailedError, VersionError
from udt_cluster.training.losses import loss_function
from udt_cluster.training.metrics import Counts, add_counts, dice_metrics, hard_prediction, merge_counts, pixel_counts
from udt_cluster.training.picture import Gallery
from udt_cluster.training.protocols import (
    Batch,
    Beat,
    C,
    CheckpointStore,
    Engine,
    EvalLoader,
    Interrupt,
    NonFiniteLossError,
    Reporter,
    StepResult,
    TrainLoader,
)
from udt_cluster.training.schedule import learning_rate
from udt_cluster.training.state import TrainingState

PICTURE = "validation"


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended. ``best_epoch`` and ``last_epoch`` count from 1; ``steps`` are optimizer steps."""

    best_val_dice: float
    best_epoch: int
    last_epoch: int
    steps: int
    stopped_early: bool


def fit(
    *,
    engine: Engine,
    train: TrainLoader,
    validation: EvalLoader,
    reporter: Reporter,
    checkpoints: CheckpointStore[C],
    config: TrainConfig,
    num_classes: int,
    class_names: Sequence[str],
    interrupt: Interrupt = lambda: None,
    beat: Beat = lambda: None,
) -> FitResult:
    """Train until the epochs are done or the validation Dice has stopped rising; resume where a checkpoint says.

    Called by all ranks together.

    Args:
        engine: The network, its optimizer and ranks.
        train: This rank's share of the training cases.
        validation: This rank's validation cases, each whole.
        reporter: Told of each finished epoch on every rank, and given pictures on rank 0.
        checkpoints: The newest valid checkpoint is resumed; the best and the last epoch are always saved.
        config: The recipe.
        num_classes: Classes with the background.
        class_names: Their names, the background first.
        interrupt: Says why this process should stop soon. When any rank is to stop, all save and stop together.
        beat: Called after each training step and validation batch, and while an upload is waited for.

    Raises:
        PreemptedError: a rank was to stop; all ranks raise the same, when the checkpoint of that step is complete.
        JobFailedError: the loss is NaN or infinite; nothing of that epoch has been saved.
        VersionError: the checkpoint belongs to another number of steps per epoch, ZeRO stage or (from stage 1 on)
            number of workers.
    """
    session = _Session(engine, train, validation, config, num_classes, tuple(class_names))
    state = _resume(engine, checkpoints, reporter, train)
    saved_at = time.monotonic()
    while not _is_finished(state, config):
        state, gallery = session.run_epoch(state)
        if _must_save(state, config, _agreed_seconds_since(saved_at, engine)):
            checkpoints.save(engine, state, is_best=state.is_best)
            saved_at = time.monotonic()
        record = state.history[-1]
        reporter.epoch(record.epoch, record.step, record.metrics)
        if gallery and engine.rank == 0:
            reporter.picture(PICTURE, gallery.render(), record.step)
    return _result(state, config)


def _resume(engine: Engine, checkpoints: CheckpointStore[C], reporter: Reporter, train: TrainLoader) -> TrainingState:
    """The state to go on from; all ranks take the checkpoint that rank 0 has chosen."""
    checkpoint = engine.all_gather_object(checkpoints.latest() if engine.rank == 0 else None)[0]
    if checkpoint is None:
        return TrainingState()
    state = checkpoints.restore(checkpoint, engine)
    steps = train.steps_per_epoch
    if not 0 <= state.step - state.epoch * steps < steps:
        raise VersionError(
            f"checkpoint: {state.step} steps in {state.epoch} epochs, but this data and train.global_batch_size make "
            f"{steps} steps per epoch; resume with the data and batch size that it was trained with, or start anew"
        )
    for record in state.history:
        reporter.epoch(record.epoch, record.step, record.metrics)
    return state


def _stops_early(state: TrainingState, config: TrainConfig) -> bool:
    return config.early_stopping is not None and state.epochs_without_improvement >= config.early_stopping


def _is_finished(state: TrainingState, config: TrainConfig) -> bool:
    return state.epoch >= config.epochs or _stops_early(state, config)


def _must_save(state: TrainingState, config: TrainConfig, seconds_since_save: float) -> bool:
    """The best and the last epoch always; else each epoch, or the first that ends when the time has come."""
    every = config.checkpoint_every
    is_due = seconds_since_save >= every.total_seconds() if isinstance(every, timedelta) else True
    return is_due or state.is_best or _is_finished(state, config)


def _agreed_seconds_since(moment: float, engine: Engine) -> float:
    """Rank 0's clock decides for all: ranks that disagreed would wait for each other for ever."""
    return float(engine.all_gather_object(time.monotonic() - moment)[0])


def _result(state: TrainingState, config: TrainConfig) -> FitResult:
    assert state.best is not None, "a finished run has at least one epoch"
    return FitResult(
        best_val_dice=state.best.val_dice,
        best_epoch=state.best.epoch,
        last_epoch=state.epoch,
        steps=state.step,
        stopped_early=state.epoch < config.epochs,
    )


class _Session:
    """What stays the same from epoch to epoch."""

    def __init__(
        self,
        engine: Engine,
        train: TrainLoader,
        validation: EvalLoader,
        config: TrainConfig,
        num_classes: int,
        class_names: tuple[str, ...],
    ) -> None:
        self._engine, self._train, self._validation, self._config = engine, train, validation, config
        self._num_classes, self._class_names = num_classes, class_names
        self._loss = loss_function(config.loss, num_classes=num_classes)

    def run_epoch(self, state: TrainingState) -> tuple[TrainingState, Gallery | None]:
        """One epoch of training and validation; the gallery when a picture is wanted."""
        began = time.perf_counter()
        lr = learning_rate(self._config.schedule, state.epoch, base=self._config.lr, epochs=self._config.epochs)
        self._engine.set_lr(lr)
        step, metrics = self._train_epoch(state)
        self._engine.sync_buffers()
        gallery = self._gallery_for(state.epoch + 1)
        metrics |= self._validate(gallery, epoch=state.epoch + 1)
        metrics |= {"lr": lr, "memory_gb": max(self._engine.all_gather_object(self._engine.memory_gb()))}
        metrics |= {"epoch": float(state.epoch + 1), "step": float(step)}
        metrics["epoch_seconds"] = self._engine.all_gather_object(time.perf_counter() - began)[0]
        return state.after_epoch(step=step, metrics=metrics), gallery

    def _train_epoch(self, state: TrainingState) -> tuple[int, dict[str, float]]:
        steps_per_epoch = self._train.steps_per_epoch
        start = state.step - state.epoch * steps_per_epoch
        step, sums, began = state.step, dict[str, float](), time.perf_counter()
        for micro_batches in self._train.epoch(state.epoch, start_step=start):
            result = self._step(micro_batches, epoch=state.epoch + 1, step=step + 1)
            step += 1
            for name, value in result.losses.items():
                sums[name] = sums.get(name, 0.0) + value
        done = step - state.step
        assert done == steps_per_epoch - start, f"the loader gave {done} steps of {steps_per_epoch - start}"
        metrics = {f"train_{name}": value / done for name, value in sums.items()}
        return step, metrics | self._throughput(done, time.perf_counter() - began)

    def _step(self, micro_batches: Sequence[Batch], *, epoch: int, step: int) -> StepResult:
        try:
            return self._engine.step(micro_batches, self._loss)
        except NonFiniteLossError as error:
            raise JobFailedError(
                f"the loss is not finite at epoch {epoch}, step {step}: {error.losses}; samples {list(error.samples)}. "
                "The weights were not updated and nothing was saved. Look at these samples, or lower train.lr, "
                "set train.gradient_clipping: 1.0 or train.precision: fp32"
            ) from error

    def _throughput(self, steps: int, seconds: float) -> dict[str, float]:
        shares = self._engine.all_gather_object((seconds, self._train.wait_seconds))
        slowest = max(seconds for seconds, _ in shares)
        waits = [100 * wait / seconds for seconds, wait in shares]
        return {
            "samples_per_second": steps * self._config.global_batch_size / slowest,
            "data_wait_percent": sum(waits) / len(waits),
        }

    def _gallery_for(self, epoch: int) -> Gallery | None:
        every = self._config.picture_every
        wanted = every > 0 and (epoch % every == 0 or epoch == 1)
        return Gallery(self._class_names) if wanted else None

    def _validate(self, gallery: Gallery | None, *, epoch: int) -> dict[str, float]:
        """``val_loss`` (mean over the batches by their samples) and the Dice metrics, over the cases of all ranks."""
        counts: Counts = {}
        loss_sum, samples, batches = 0.0, 0, 0
        for batch in self._validation:
            logits = self._engine.predict(batch.images)
            prediction = hard_prediction(logits)
            loss_sum += float(self._loss(logits, batch.labels)["loss"]) * len(batch.labels)
            of_batch = pixel_counts(prediction, batch.labels, num_classes=self._num_classes)
            add_counts(counts, np.asarray(batch.case), of_batch)
            samples, batches = samples + len(batch.labels), batches + 1
            if gallery is not None and self._engine.rank == 0:
                gallery.add(batch, prediction)
        self._engine.pad_forwards(self._validation.num_batches_max - batches)
        return self._merge_validation(loss_sum, samples, counts, epoch=epoch)

    def _merge_validation(self, loss_sum: float, samples: int, counts: Counts, *, epoch: int) -> dict[str, float]:
        parts = self._engine.all_gather_object((loss_sum, samples, counts))
        loss = math.fsum(part[0] for part in parts) / sum(part[1] for part in parts)
        if not math.isfinite(loss):
            raise JobFailedError(
                f"the validation loss is {loss} after epoch {epoch}: the last steps made the weights useless. "
                "Nothing of this epoch was saved. Lower train.lr, or set train.gradient_clipping: 1.0"
            )
        merged = merge_counts(part[2] for part in parts)
        return {"val_loss": loss, **dice_metrics(merged)}
