"""Saving and resuming checkpoints in storage; :mod:`udt_cluster.training.catalog` says what lies where."""

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from udt_cluster.errors import UdtError
from udt_cluster.storage import (
    COMMIT_NAME,
    Location,
    ObjectRecord,
    download_committed,
    upload_folder,
    write_commit,
)
from udt_cluster.training.catalog import (
    STATE,
    Checkpoint,
    CheckpointCatalog,
    CheckpointInfo,
    folder_name,
    list_folders,
    refuse_other,
)
from udt_cluster.training.protocols import Engine
from udt_cluster.training.state import TrainingState

log = logging.getLogger("udt_cluster")

_T = TypeVar("_T")


class StorageCheckpoints:
    """Checkpoints of one run below one location.

    Args:
        root: Nothing but this run's checkpoints.
        run_id: The run; another run's checkpoint is refused, never resumed.
        attempt: Which life of the worker group this is; :meth:`next_attempt` counts.
        rank: This process.
        world_size: Ranks that save together.
        keep: Checkpoints kept beside the last and the best.
        identity: Hashes of what must not change under a run (model, data, split, ...), by name.
        warn: Told of every checkpoint that is passed over and why.
    """

    def __init__(
        self,
        root: Location,
        *,
        run_id: str,
        attempt: int,
        rank: int,
        world_size: int,
        keep: int,
        identity: Mapping[str, str] | None = None,
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._root, self._run_id, self._attempt = root, run_id, attempt
        self._rank, self._world_size, self._keep = rank, world_size, keep
        self._warn, self._identity = warn, dict(identity or {})
        self.catalog = CheckpointCatalog(root, run_id, warn=warn)

    @staticmethod
    def next_attempt(root: Location) -> int:
        """One more than the highest attempt that has left anything behind; ask on one rank, before any has saved."""
        return max((folder.attempt for folder in list_folders(root).values()), default=-1) + 1

    def save(self, engine: Engine, state: TrainingState, *, is_best: bool) -> None:
        """Save on all ranks together; it counts when rank 0 has put the COMMIT. Then delete what is not to be kept.

        Raises:
            UdtError, OSError: on every rank, when one of them could not write; there is no COMMIT then.
        """
        target = self._root / f"step-{state.step:08d}-a{self._attempt}"
        records = together(engine, lambda: self._upload(engine, state, target))
        info = self._describe(engine, state, is_best=is_best)
        together(engine, lambda: self._commit(target, [o for part in records for o in part], info))
        if self._rank == 0:
            self._collect()

    def _upload(self, engine: Engine, state: TrainingState, target: Location) -> tuple[ObjectRecord, ...]:
        with tempfile.TemporaryDirectory(prefix="udt-checkpoint-") as name:
            folder = Path(name)
            engine.save(folder)
            if self._rank == 0:
                (folder / STATE).write_text(state.to_json())
            return upload_folder(folder, target)

    def _commit(self, target: Location, records: list[ObjectRecord], info: CheckpointInfo) -> None:
        if self._rank == 0:
            write_commit(target, records, info.to_json())

    def _describe(self, engine: Engine, state: TrainingState, *, is_best: bool) -> CheckpointInfo:
        return CheckpointInfo(
            run_id=self._run_id,
            attempt=self._attempt,
            step=state.step,
            epoch=state.epoch,
            val_dice=state.history[-1].metrics["val_dice"],
            is_best=is_best,
            world_size=self._world_size,
            zero_stage=engine.zero_stage,
            identity=self._identity,
        )

    def latest(self) -> Checkpoint | None:
        """The newest valid checkpoint; see :meth:`CheckpointCatalog.latest`."""
        return self.catalog.latest()

    def best(self) -> Checkpoint:
        """The valid checkpoint of the best epoch; see :meth:`CheckpointCatalog.best`."""
        return self.catalog.best()

    def check_resumable(self, *, zero_stage: int) -> None:
        """Refuse a resume that cannot work, before anything is allocated: one COMMIT is read and no tensor.

        Raises:
            RefusedError: the newest checkpoint has another identity.
            VersionError: it has another ZeRO stage or, from stage 1 on, number of workers.
        """
        newest = self.catalog.newest_info()
        if newest is not None:
            self._check(newest, zero_stage)

    def restore(self, checkpoint: Checkpoint, engine: Engine) -> TrainingState:
        """Download to every rank, verify on the way, load.

        Raises:
            RefusedError, VersionError: see :meth:`check_resumable`.
            CorruptError: an object is not what was committed; nothing was loaded then.
        """
        self._check(checkpoint.info, engine.zero_stage)
        with tempfile.TemporaryDirectory(prefix="udt-checkpoint-") as name:
            folder = Path(name)
            together(engine, lambda: download_committed(checkpoint.location, checkpoint.commit, folder))
            engine.load(folder)
            return TrainingState.from_json((folder / STATE).read_bytes())

    def close(self) -> None:
        """Let go of what works in the background."""

    def _check(self, info: CheckpointInfo, zero_stage: int) -> None:
        name = folder_name(step=info.step, attempt=info.attempt, kind=info.kind)
        refuse_other(info, name, identity=self._identity, asked=(zero_stage, self._world_size))

    def _collect(self) -> None:
        """Delete what is not to be kept; a storage that forbids it costs space, not the run."""
        try:
            kept = retained(self.catalog.committed(), self._keep)
            for folder in list_folders(self._root).values():
                if folder.name not in kept and folder.attempt <= self._attempt:
                    self._delete(self._root / folder.name)
        except UdtError as error:
            self._warn(f"old checkpoints were not deleted: {error}")

    @staticmethod
    def _delete(folder: Location) -> None:
        (folder / COMMIT_NAME).delete()  # first: what is left of a broken-off deletion is no checkpoint
        folder.delete_tree()


def retained(checkpoints: Iterable[Checkpoint], keep: int) -> set[str]:
    """Names of the folders to keep: the last, the best, and the `keep` newest of the others."""
    newest_first = sorted(checkpoints, key=lambda c: c.order, reverse=True)
    if not newest_first:
        return set()
    always = {newest_first[0].location.name, max(newest_first, key=lambda c: c.quality).location.name}
    others = [c.location.name for c in newest_first if c.location.name not in always]
    return always | set(others[:keep])


def together(engine: Engine, action: Callable[[], _T]) -> list[_T]:
    """Run an action on every rank and give each rank all results, or raise on all when one has failed."""
    result: _T | None = None
    failure: UdtError | OSError | None = None
    try:
        result = action()
    except (UdtError, OSError) as error:
        failure = error
    outcomes: list[tuple[_T, UdtError | OSError | None]] = engine.all_gather_object((result, failure))
    failures = [failure, *(other for _, other in outcomes)]
    if first := next((found for found in failures if found is not None), None):
        raise first
    return [outcome for outcome, _ in outcomes]
