"""One epoch: its training steps from wherever it was cut, and its validation."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from udt_cluster.config.job import TrainConfig
from udt_cluster.training.losses import loss_function
from udt_cluster.training.metrics import Counts, add_counts, dice_metrics, hard_prediction, merge_counts, pixel_counts
from udt_cluster.training.picture import Gallery
from udt_cluster.training.protocols import (
    Batch,
    Engine,
    EvalBatch,
    EvalLoader,
    NonFiniteError,
    NonFiniteLossError,
    StepResult,
    TrainLoader,
)
from udt_cluster.training.saving import Saving
from udt_cluster.training.schedule import learning_rate
from udt_cluster.training.state import PartialEpoch, TrainingState

ASK_EVERY = 4
"""Validation batches between two questions whether some rank must stop: each is a collective."""


@dataclass
class _Tally:
    """What validation adds up on one rank."""

    counts: Counts
    loss_sum: float = 0.0
    samples: int = 0


class Epochs:
    """Runs epochs; what stays the same from one to the next.

    Args:
        engine: The network, its optimizer and ranks.
        train: This rank's share of the training cases.
        validation: This rank's validation cases.
        saving: Told of every step.
        config: The recipe.
        class_names: Names of the classes, the background first.
    """

    def __init__(
        self,
        engine: Engine,
        train: TrainLoader,
        validation: EvalLoader,
        saving: Saving,
        config: TrainConfig,
        class_names: tuple[str, ...],
    ) -> None:
        self._engine, self._train, self._validation = engine, train, validation
        self._saving, self._config, self._class_names = saving, config, class_names
        self._loss = loss_function(config.loss, num_classes=len(class_names))

    def run(self, state: TrainingState) -> tuple[TrainingState, Gallery | None]:
        """The rest of an epoch, or a whole one; the state after it, and the gallery when a picture is wanted."""
        began = time.perf_counter()
        earlier = state.partial.seconds if state.partial else 0.0
        lr = learning_rate(self._config.schedule, state.epoch, base=self._config.lr, epochs=self._config.epochs)
        self._engine.set_lr(lr)
        trained, metrics = self._train_epoch(state)
        gallery = self._gallery_for(state.epoch + 1)
        metrics |= self._validate(gallery, trained)
        metrics |= {"lr": lr, "memory_gb": max(self._engine.all_gather_object(self._engine.memory_gb()))}
        metrics |= {"epoch": float(state.epoch + 1), "step": float(trained.step)}
        seconds = earlier + time.perf_counter() - began
        metrics["epoch_seconds"] = self._engine.all_gather_object(seconds)[0]
        return trained.after_epoch(step=trained.step, metrics=metrics), gallery

    def _train_epoch(self, state: TrainingState) -> tuple[TrainingState, dict[str, float]]:
        """The state with all steps done, and the metrics of training. Statistics are equal on all ranks then."""
        steps = self._train.steps_per_epoch
        start = state.step - state.epoch * steps
        before, began = state.partial or PartialEpoch(), time.perf_counter()
        position = state.within_epoch(step=state.step, sums=before.sums, seconds=before.seconds)
        with closing(self._train.epoch(state.epoch, start_step=start)) as batches:
            for done, micro_batches in enumerate(batches, start=start + 1):
                result = self._step(micro_batches, epoch=state.epoch + 1, step=position.step + 1)
                position = _after_step(position, result, before.seconds + time.perf_counter() - began)
                self._saving.beat()
                if done < steps:  # the end of the epoch has its own way to save and to stop
                    self._saving.after_step(position, result.flags)
        assert position.step == (state.epoch + 1) * steps, f"the loader gave {position.step - state.step} of {steps}"
        if start < steps:
            self._engine.sync_buffers()
        assert position.partial is not None
        metrics = {f"train_{name}": value / steps for name, value in position.partial.sums.items()}
        return position, metrics | self._throughput(before.seconds, time.perf_counter() - began)

    def _step(self, micro_batches: Sequence[Batch], *, epoch: int, step: int) -> StepResult:
        try:
            return self._engine.step(micro_batches, self._loss, self._saving.flags())
        except NonFiniteLossError as error:
            raise NonFiniteError(
                f"the loss is not finite at epoch {epoch}, step {step}: {error.losses}; samples {list(error.samples)}. "
                "The weights were not updated and nothing was saved since. Look at these samples, or lower train.lr, "
                "set train.gradient_clipping: 1.0 or train.precision: fp32"
            ) from error

    def _throughput(self, earlier: float, seconds: float) -> dict[str, float]:
        """Of the whole epoch; the share of waiting is that of its last life."""
        shares = self._engine.all_gather_object((seconds, self._train.wait_seconds))
        slowest = max(seconds for seconds, _ in shares)
        waits = [100 * wait / seconds for seconds, wait in shares]
        return {
            "samples_per_second": self._train.steps_per_epoch * self._config.global_batch_size / (earlier + slowest),
            "data_wait_percent": sum(waits) / len(waits),
        }

    def _gallery_for(self, epoch: int) -> Gallery | None:
        every = self._config.picture_every
        wanted = every > 0 and (epoch % every == 0 or epoch == 1)
        return Gallery(self._class_names) if wanted else None

    def _validate(self, gallery: Gallery | None, state: TrainingState) -> dict[str, float]:
        """``val_loss`` (mean over the batches by their samples) and the Dice metrics, over the cases of all ranks."""
        tally = _Tally({})
        with closing(iter(self._validation)) as batches:
            for batch in self._in_step(batches, state):
                logits = self._engine.predict(batch.images)
                prediction = hard_prediction(logits)
                tally.loss_sum += float(self._loss(logits, batch.labels)["loss"]) * len(batch.labels)
                tally.samples += len(batch.labels)
                of_batch = pixel_counts(prediction, batch.labels, num_classes=len(self._class_names))
                add_counts(tally.counts, np.asarray(batch.case), of_batch)
                if gallery is not None and self._engine.rank == 0:
                    gallery.add(batch, prediction)
                self._saving.beat()
        return self._merge_validation(tally, epoch=state.epoch + 1)

    def _in_step(self, batches: Iterator[EvalBatch], state: TrainingState) -> Iterator[EvalBatch]:
        """This rank's batches; all ranks make the same number of rounds, and may stop in the middle."""
        for number in range(self._validation.num_batches_max):
            if number % ASK_EVERY == 0:
                self._saving.stop_if_asked(state)
            batch = next(batches, None)
            if batch is None:
                self._engine.pad_forwards(1)
            else:
                yield batch
        assert next(batches, None) is None, "a rank has more validation batches than num_batches_max"

    def _merge_validation(self, tally: _Tally, *, epoch: int) -> dict[str, float]:
        parts = self._engine.all_gather_object((tally.loss_sum, tally.samples, tally.counts))
        loss = math.fsum(part[0] for part in parts) / sum(part[1] for part in parts)
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the validation loss is {loss} after epoch {epoch}: the last steps made the weights useless. "
                "Nothing of this epoch was saved. Lower train.lr, or set train.gradient_clipping: 1.0"
            )
        merged = merge_counts(part[2] for part in parts)
        return {"val_loss": loss, **dice_metrics(merged)}


def _after_step(state: TrainingState, result: StepResult, seconds: float) -> TrainingState:
    """The state one step later."""
    assert state.partial is not None
    sums = state.partial.sums
    more = {name: sums.get(name, 0.0) + value for name, value in result.losses.items()}
    return state.within_epoch(step=state.step + 1, sums=more, seconds=seconds)
