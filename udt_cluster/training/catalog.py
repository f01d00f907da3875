"""The checkpoints of a run, for reading: which there are, the newest, the best, and what they say of themselves.

::

    <root>/step-00000123-a0/         at the end of an epoch, by attempt 0
    <root>/step-00000150-a1-time/    in the middle of one, because the time had come
    <root>/step-00000171-a1-stop/    in the middle of one, because the process had to go
        model.safetensors            all weights, written by rank 0 at every ZeRO stage
        ...                          what else the engine wrote on each rank
        state.json                   TrainingState
        rank-00001.json              what rank 1 has put here: sizes and SHA-256, for rank 0
        COMMIT                       key, size and SHA-256 of all that counts; put last
    <root>/attempts/0001             attempt 1 has begun: those before it must not commit any more

There is no pointer to the newest or the best: both follow from what is committed. This module needs no DeepSpeed.
"""

import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from udt_cluster.errors import CorruptError, RefusedError
from udt_cluster.storage import (
    COMMIT_NAME,
    JSON,
    Commit,
    Location,
    download_committed,
    read_commit,
    verify,
)
from udt_cluster.training.protocols import Kind
from udt_cluster.training.snapshot import WEIGHTS, check_resumable
from udt_cluster.training.state import TrainingState

log = logging.getLogger("udt_cluster")

STATE = "state.json"
_FOLDER = re.compile(r"step-(\d{8,})-a(\d+)(?:-(time|stop))?")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a COMMIT says about its checkpoint.

    Attributes:
        run_id: The run.
        attempt: Which life of the worker group wrote it.
        step: Optimizer steps done.
        epoch: Finished epochs.
        val_dice: Of the epoch that has just ended; NaN where no case had a defined Dice, and in the middle of an epoch.
        is_best: Whether that epoch was the best so far; never in the middle of one.
        world_size: Ranks that wrote it.
        zero_stage: DeepSpeed's stage.
        kind: Why it was saved.
        identity: Hashes of what must not change under a run (model, data, split, ...), by name.
    """

    run_id: str
    attempt: int
    step: int
    epoch: int
    val_dice: float
    is_best: bool
    world_size: int
    zero_stage: int
    kind: Kind = "epoch"
    identity: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """Plain JSON, NaN as null."""
        fields: dict[str, Any] = dict(self.__dict__)
        val_dice = None if math.isnan(self.val_dice) else self.val_dice
        return fields | {"val_dice": val_dice, "identity": dict(self.identity)}

    @classmethod
    def from_commit(cls, commit: Commit) -> "CheckpointInfo":
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptError: the commit is not a checkpoint's.
        """
        try:
            fields: dict[str, Any] = {name: commit.info[name] for name in cls.__dataclass_fields__}
        except KeyError as error:
            raise CorruptError(f"the COMMIT is not a checkpoint's: it does not say {error}") from error
        return cls(**fields | {"val_dice": math.nan if fields["val_dice"] is None else fields["val_dice"]})


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    location: Location
    commit: Commit
    info: CheckpointInfo

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.location.name

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.info.step

    @property
    def order(self) -> tuple[int, int, int]:
        """Newer ones compare greater: by step, then by finished epochs, then by attempt."""
        return self.info.step, self.info.epoch, self.info.attempt

    @property
    def quality(self) -> tuple[float, int, int]:
        """Better ones compare greater; the run kept the first of equal epochs, so the earlier one does."""
        val_dice = self.info.val_dice
        return -math.inf if math.isnan(val_dice) else val_dice, -self.info.step, -self.info.attempt

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
        with tempfile.TemporaryDirectory(prefix="udt-read-") as folder:
            download_committed(self.location, only, Path(folder))
            return (Path(folder) / key).read_bytes()


def folder_name(*, step: int, attempt: int, kind: Kind) -> str:
    """The folder of a checkpoint: one for each step, attempt and kind."""
    return f"step-{step:08d}-a{attempt}" + ("" if kind == "epoch" else f"-{kind}")


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder as a listing shows it; without a COMMIT it is what an upload or a deletion left."""

    name: str
    step: int
    attempt: int
    kind: Kind
    committed: bool


def list_folders(root: Location) -> dict[str, Folder]:
    """Checkpoint folders by name. One listing; what is no checkpoint's is left out."""
    committed: dict[str, bool] = {}
    for entry in root.entries():
        name, _, key = entry.key.partition("/")
        if _FOLDER.fullmatch(name):
            committed[name] = committed.get(name, False) or key == COMMIT_NAME
    return {name: _folder(name, complete) for name, complete in committed.items()}


def _folder(name: str, committed: bool) -> Folder:
    match = _FOLDER.fullmatch(name)
    assert match is not None, name
    kind: Any = match[3] or "epoch"
    return Folder(name, int(match[1]), int(match[2]), kind, committed)


class CheckpointCatalog:
    """What there is to read of one run's checkpoints; nothing is ever written.

    Args:
        root: Nothing but this run's checkpoints.
        run_id: The run; another run's checkpoint is refused.
        warn: Told once of every checkpoint that is passed over and why.
    """

    def __init__(self, root: Location, run_id: str, *, warn: Callable[[str], None] = log.warning) -> None:
        self.root, self.run_id = root, run_id
        self._warn = warn
        self._passed_over: set[str] = set()

    def newest_info(self) -> CheckpointInfo | None:
        """What the newest committed checkpoint says of itself: one listing and one COMMIT, no content is verified."""
        newest = next(iter(self.newest_first()), None)
        return None if newest is None else newest.info

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint whose every object is what was committed; None where there is none.

        Raises:
            RefusedError: a checkpoint of another run lies here.
        """
        return self._first_valid(self.newest_first())

    def best(self) -> Checkpoint:
        """The valid checkpoint of the epoch with the highest validation Dice, the earliest of equal ones.

        Raises:
            CorruptError: there is none.
        """
        epochs = [checkpoint for checkpoint in self.committed() if checkpoint.info.kind == "epoch"]
        found = self._first_valid(sorted(epochs, key=lambda c: c.quality, reverse=True))
        if found is None:
            raise CorruptError(f"{self.root}: no valid checkpoint of run {self.run_id}; train it again")
        return found

    def newest_first(self) -> Iterable[Checkpoint]:
        """Committed checkpoints that were not passed over, newest first; each COMMIT is read when its turn comes."""
        folders = [folder for folder in list_folders(self.root).values() if folder.committed]
        for folder in sorted(folders, key=_newness, reverse=True):
            if folder.name not in self._passed_over and (checkpoint := self._open(folder.name)):
                yield checkpoint

    def committed(self) -> list[Checkpoint]:
        """All of them."""
        return list(self.newest_first())

    def pass_over(self, name: str, why: Exception | str) -> None:
        """Leave a checkpoint out from now on, and say why."""
        if name not in self._passed_over:
            self._warn(f"checkpoint {name} is corrupt and was passed over: {why}")
            self._passed_over.add(name)

    def _first_valid(self, candidates: Iterable[Checkpoint]) -> Checkpoint | None:
        for checkpoint in candidates:
            try:
                verify(checkpoint.location, checkpoint.commit, checksums=True)
            except CorruptError as error:
                self.pass_over(checkpoint.name, error)
            else:
                return checkpoint
        return None

    def _open(self, name: str) -> Checkpoint | None:
        try:
            commit = read_commit(self.root / name)
            if commit is None:
                return None
            info = CheckpointInfo.from_commit(commit)
        except CorruptError as error:
            self.pass_over(name, error)
            return None
        if info.run_id != self.run_id:
            raise RefusedError(
                f"{self.root / name} is a checkpoint of run {info.run_id}, this is run {self.run_id}; "
                "give each run a folder of its own"
            )
        return Checkpoint(self.root / name, commit, info)


def _newness(folder: Folder) -> tuple[int, bool, int]:
    """As :attr:`Checkpoint.order`: of one step, the checkpoint that has the epoch's end behind it is the newer one."""
    return folder.step, folder.kind == "epoch", folder.attempt


def refuse_other(info: CheckpointInfo, name: str, *, identity: Mapping[str, str], asked: tuple[int, int]) -> None:
    """Refuse a checkpoint that a run cannot go on from.

    Args:
        info: What the checkpoint says of itself.
        name: Its name, for the message.
        identity: What the run says of itself.
        asked: ZeRO stage and number of workers of the run.

    Raises:
        RefusedError: the identities differ; both values of each difference are shown.
        VersionError: it has another ZeRO stage or, from stage 1 on, number of workers.
    """
    names = sorted(info.identity.keys() | identity.keys())
    pairs = {name: (info.identity.get(name, "nothing"), identity.get(name, "nothing")) for name in names}
    differences = [f"{name}: {there} there, {here} here" for name, (there, here) in pairs.items() if there != here]
    if differences:
        raise RefusedError(
            f"checkpoint {name} belongs to another training than this one. Give the run what it was begun with, "
            "or start a new job:",
            differences,
        )
    check_resumable(name, saved=(info.zero_stage, info.world_size), asked=asked)
