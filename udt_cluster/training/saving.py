"""When a run saves and when it stops: decided by all ranks together, at the same step."""

import time
from collections.abc import Sequence
from datetime import timedelta

from udt_cluster.config.job import TrainConfig
from udt_cluster.training.protocols import (
    Beat,
    CheckpointError,
    CheckpointStore,
    Engine,
    Interrupt,
    Kind,
    PreemptedError,
)
from udt_cluster.training.state import TrainingState


class Saving:
    """Decides for a run that is under way.

    Args:
        engine: The ranks, and what is saved.
        checkpoints: Where to.
        config: The recipe; of it, `checkpoint_every`.
        interrupt: Why this process should stop soon.
        beat: A sign of life.
    """

    def __init__(
        self, engine: Engine, checkpoints: CheckpointStore, config: TrainConfig, interrupt: Interrupt, beat: Beat
    ) -> None:
        self._engine, self._checkpoints = engine, checkpoints
        self._every = config.checkpoint_every
        self._interrupt, self.beat = interrupt, beat
        self._saved_at = time.monotonic()

    def flags(self) -> tuple[bool, bool, bool]:
        """What this rank has to say at a step: it must stop, a checkpoint is due, its last one has failed."""
        return self._interrupt() is not None, self._is_due_within_epoch(), self._checkpoints.failed

    def after_step(self, state: TrainingState, raised: Sequence[bool]) -> None:
        """Do what some rank has asked for by its flags.

        Raises:
            PreemptedError: some rank must stop.
            CheckpointError, SupersededError: see :class:`CheckpointStore`.
        """
        stop, due, failed = raised
        if stop:
            self.stop_if_asked(state)
        if failed:
            self._checkpoints.settle(self._engine, beat=self.beat)
        if due:
            self._save(state, "time")

    def after_epoch(self, state: TrainingState, *, is_last: bool) -> None:
        """Save the best epoch and the last one always; else each, or the first that ends when the time has come."""
        if self._agreed_due() or state.is_best or is_last:
            self._save(state, "epoch")

    def stop_if_asked(self, state: TrainingState) -> None:
        """Ask all ranks; when one must stop, save, wait until it counts, and stop on all.

        Raises:
            PreemptedError: with the reason, the same on all ranks.
            SupersededError: another attempt goes on already.
        """
        reason = next(filter(None, self._engine.all_gather_object(self._interrupt())), None)
        if reason is None:
            return
        problem = ""
        try:
            self._save(state, "stop")
            self.finish()
        except CheckpointError as error:
            problem = str(error)
        raise PreemptedError(reason, state.step, problem)

    def finish(self) -> None:
        """Wait until everything that was saved is complete.

        Raises:
            CheckpointError, SupersededError: it is not.
        """
        self._checkpoints.finish(self._engine, beat=self.beat)

    def _save(self, state: TrainingState, kind: Kind) -> None:
        self._saved_at = time.monotonic()
        self._checkpoints.save(self._engine, state, kind=kind, beat=self.beat)

    def _is_due_within_epoch(self) -> bool:
        """By the clock of rank 0, and not while the last one is on its way."""
        return self._engine.rank == 0 and self._time_has_come() and not self._checkpoints.busy

    def _agreed_due(self) -> bool:
        """Rank 0's clock decides for all: ranks that disagreed would wait for each other for ever."""
        is_due = not isinstance(self._every, timedelta) or self._time_has_come()
        return bool(self._engine.all_gather_object(is_due)[0])

    def _time_has_come(self) -> bool:
        if not isinstance(self._every, timedelta):
            return False
        return time.monotonic() - self._saved_at >= self._every.total_seconds()
