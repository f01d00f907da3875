"""Training, epoch by epoch: train, validate, record, save, report, decide.

It knows the Protocols of :mod:`udt_cluster.training.protocols` and nothing of Ray, MLflow or object storage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import VersionError
from udt_cluster.training.epochs import Epochs
from udt_cluster.training.protocols import (
    Beat,
    CheckpointStore,
    Engine,
    EvalLoader,
    Interrupt,
    Reporter,
    TrainLoader,
)
from udt_cluster.training.saving import Saving
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
    checkpoints: CheckpointStore,
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
        checkpoints: The newest that can be loaded is resumed, be it in the middle of an epoch; the best and the last
            epoch are always saved.
        config: The recipe.
        num_classes: Classes with the background.
        class_names: Their names, the background first.
        interrupt: Says why this process should stop soon. When any rank is to stop, all save and stop together.
        beat: Called after each training step and validation batch, and while an upload is waited for.

    Raises:
        PreemptedError: a rank was to stop; all ranks raise the same, when the checkpoint of that step is complete.
        NonFiniteError: the loss or the weights are NaN or infinite; nothing has been saved since.
        CheckpointError: two checkpoints in a row, or the last, could not be written.
        SupersededError: a newer attempt of this run has begun.
        VersionError: the checkpoint belongs to another number of steps per epoch, ZeRO stage or (from stage 1 on)
            number of workers.
    """
    assert num_classes == len(class_names), (num_classes, class_names)
    saving = Saving(engine, checkpoints, config, interrupt, beat)
    epochs = Epochs(engine, train, validation, saving, config, tuple(class_names))
    state = _resume(engine, checkpoints, reporter, train)
    while not _is_finished(state, config):
        state, gallery = epochs.run(state)
        saving.after_epoch(state, is_last=_is_finished(state, config))
        record = state.history[-1]
        reporter.epoch(record.epoch, record.step, record.metrics)
        if gallery and engine.rank == 0:
            reporter.picture(PICTURE, gallery.render(), record.step)
    saving.finish()
    return _result(state, config)


def _resume(engine: Engine, checkpoints: CheckpointStore, reporter: Reporter, train: TrainLoader) -> TrainingState:
    """The state to go on from."""
    state = checkpoints.restore(engine)
    if state is None:
        return TrainingState()
    steps = train.steps_per_epoch
    done = state.step - state.epoch * steps
    if not (0 <= done <= steps if state.partial else done == 0):
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


def _result(state: TrainingState, config: TrainConfig) -> FitResult:
    assert state.best is not None, "a finished run has at least one epoch"
    return FitResult(
        best_val_dice=state.best.val_dice,
        best_epoch=state.best.epoch,
        last_epoch=state.epoch,
        steps=state.step,
        stopped_early=state.epoch < config.epochs,
    )
