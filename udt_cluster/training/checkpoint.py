"""Checkpoints in storage: one folder per step and attempt, complete when its COMMIT exists.

::

    <root>/step-00000123-a0/
        model.safetensors        all weights, written by rank 0 at every ZeRO stage
        ...                      what else the engine wrote on each rank
        state.json               TrainingState
        COMMIT                   key, size and SHA-256 of all of these; put last

There is no pointer to the newest or the best: both follow from what is committed. This module needs no DeepSpeed.
"""

import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from udt_cluster.errors import CorruptError, RefusedError, UdtError
from udt_cluster.storage import (
    COMMIT_NAME,
    JSON,
    Commit,
    Location,
    ObjectRecord,
    download_committed,
    read_commit,
    upload_folder,
    verify,
    write_commit,
)
from udt_cluster.training.protocols import Engine
from udt_cluster.training.snapshot import WEIGHTS, check_resumable
from udt_cluster.training.state import TrainingState

log = logging.getLogger("udt_cluster")

STATE = "state.json"
_FOLDER = re.compile(r"step-(\d{8,})-a(\d+)")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a COMMIT says about its checkpoint; ``val_dice`` is NaN where no case had a defined Dice."""

    run_id: str
    attempt: int
    step: int
    epoch: int
    val_dice: float
    is_best: bool
    world_size: int
    zero_stage: int

    def to_json(self) -> dict[str, JSON]:
        """Plain JSON, NaN as null."""
        fields: dict[str, JSON] = dict(self.__dict__)
        return fields | {"val_dice": None if math.isnan(self.val_dice) else self.val_dice}

    @classmethod
    def from_commit(cls, commit: Commit) -> "CheckpointInfo":
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptError: the commit is not a checkpoint's.
        """
        try:
            fields = {name: commit.info[name] for name in cls.__dataclass_fields__}
        except KeyError as error:
            raise CorruptError(f"the COMMIT is not a checkpoint's: it does not say {error}") from error
        return cls(**fields | {"val_dice": math.nan if fields["val_dice"] is None else fields["val_dice"]})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    location: Location
    commit: Commit
    info: CheckpointInfo

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.info.step

    @property
    def order(self) -> tuple[int, int]:
        """Newer ones compare greater: by step, then by attempt."""
        return self.info.step, self.info.attempt

    def weights(self) -> bytes:
        """The content of ``model.safetensors`` (the network's whole state dict), its checksum verified.

        Raises:
            CorruptError: it is missing or is not what was committed.
        """
        return self._read(WEIGHTS)

    def state(self) -> TrainingState:
        """The training state, its checksum verified."""
        return TrainingState.from_json(self._read(STATE))

    def _read(self, key: str) -> bytes:
        only = Commit(objects=tuple(o for o in self.commit.objects if o.key == key), info={})
        with tempfile.TemporaryDirectory(prefix="udt-checkpoint-") as folder:
            download_committed(self.location, only, Path(folder))
            return (Path(folder) / key).read_bytes()


class StorageCheckpoints:
    """Checkpoints of one run below one location.

    Args:
        root: Nothing but this run's checkpoints.
        run_id: The run; another run's checkpoint is refused, never resumed.
        attempt: Which life of the worker group this is; :meth:`next_attempt` counts.
        rank: This process.
        world_size: Ranks that save together.
        keep: Checkpoints kept beside the last and the best.
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
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._root, self._run_id, self._attempt = root, run_id, attempt
        self._rank, self._world_size, self._keep = rank, world_size, keep
        self._warn = warn
        self._corrupt: set[str] = set()

    @staticmethod
    def next_attempt(root: Location) -> int:
        """One more than the highest attempt that has left anything behind; ask on one rank, before any has saved."""
        return max((attempt for attempt, _ in _folders(root).values()), default=-1) + 1

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
        )

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose every object is what was committed; None where there is none.

        Raises:
            RefusedError: a checkpoint of another run lies here.
        """
        return self._first_valid(sorted(self._committed(), key=lambda c: c.order, reverse=True))

    def best(self) -> Checkpoint:
        """The valid checkpoint with the highest validation Dice, the earliest of equal ones.

        Raises:
            CorruptError: there is none.
        """
        found = self._first_valid(sorted(self._committed(), key=_quality, reverse=True))
        if found is None:
            raise CorruptError(f"{self._root}: no valid checkpoint of run {self._run_id}; train it again")
        return found

    def check_resumable(self, *, zero_stage: int) -> None:
        """Refuse a resume that cannot work, before anything is allocated: one COMMIT is read and no tensor.

        Raises:
            VersionError: the newest checkpoint has another ZeRO stage or, from stage 1 on, number of workers.
        """
        newest = max(self._committed(), key=lambda c: c.order, default=None)
        if newest is not None:
            self._check(newest, zero_stage)

    def restore(self, checkpoint: Checkpoint, engine: Engine) -> TrainingState:
        """Download to every rank, verify on the way, load.

        Raises:
            VersionError: see :meth:`check_resumable`.
            CorruptError: an object is not what was committed; nothing was loaded then.
        """
        self._check(checkpoint, engine.zero_stage)
        with tempfile.TemporaryDirectory(prefix="udt-checkpoint-") as name:
            folder = Path(name)
            together(engine, lambda: download_committed(checkpoint.location, checkpoint.commit, folder))
            engine.load(folder)
            return TrainingState.from_json((folder / STATE).read_bytes())

    def _check(self, checkpoint: Checkpoint, zero_stage: int) -> None:
        saved = checkpoint.info
        check_resumable(
            checkpoint.location.name,
            saved=(saved.zero_stage, saved.world_size),
            asked=(zero_stage, self._world_size),
        )

    def _first_valid(self, candidates: Iterable[Checkpoint]) -> Checkpoint | None:
        for checkpoint in candidates:
            try:
                verify(checkpoint.location, checkpoint.commit, checksums=True)
            except CorruptError as error:
                self._pass_over(checkpoint.location.name, error)
            else:
                return checkpoint
        return None

    def _committed(self) -> list[Checkpoint]:
        folders = _folders(self._root)
        found = [self._open(name) for name, (_, committed) in folders.items() if committed]
        return [checkpoint for checkpoint in found if checkpoint is not None]

    def _open(self, name: str) -> Checkpoint | None:
        try:
            commit = read_commit(self._root / name)
            if commit is None:
                return None
            info = CheckpointInfo.from_commit(commit)
        except CorruptError as error:
            self._pass_over(name, error)
            return None
        if info.run_id != self._run_id:
            raise RefusedError(
                f"{self._root / name} is a checkpoint of run {info.run_id}, this is run {self._run_id}; "
                "give each run a folder of its own"
            )
        return Checkpoint(self._root / name, commit, info)

    def _pass_over(self, name: str, error: CorruptError) -> None:
        if name not in self._corrupt:
            self._warn(f"checkpoint {name} is corrupt and was passed over: {error}")
            self._corrupt.add(name)

    def _collect(self) -> None:
        """Delete what is not to be kept; a storage that forbids it costs space, not the run."""
        try:
            kept = retained([c for c in self._committed() if c.location.name not in self._corrupt], self._keep)
            for name, (attempt, _) in _folders(self._root).items():
                if name not in kept and attempt <= self._attempt:
                    self._delete(self._root / name)
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
    always = {newest_first[0].location.name, max(newest_first, key=_quality).location.name}
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


def _quality(checkpoint: Checkpoint) -> tuple[float, int, int]:
    """Better ones compare greater; the run kept the first of equal epochs, so the earlier one does."""
    val_dice = checkpoint.info.val_dice
    return -math.inf if math.isnan(val_dice) else val_dice, -checkpoint.info.step, -checkpoint.info.attempt


def _folders(root: Location) -> dict[str, tuple[int, bool]]:
    """Checkpoint folders by name: their attempt, and whether they hold a COMMIT. One listing."""
    folders: dict[str, tuple[int, bool]] = {}
    for entry in root.entries():
        name, _, key = entry.key.partition("/")
        if match := _FOLDER.fullmatch(name):
            _, committed = folders.get(name, (0, False))
            folders[name] = int(match[2]), committed or key == COMMIT_NAME
    return folders
