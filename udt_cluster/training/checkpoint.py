"""Saving and resuming checkpoints in storage; :mod:`udt_cluster.training.catalog` says what lies where.

A save blocks training while each rank writes a snapshot to its node's disk. Uploads and COMMIT follow in threads; what
came of them is agreed upon when the next one begins, when a rank says that it failed, and at the end.
"""

import logging
import math
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from udt_cluster.errors import CorruptError, UdtError
from udt_cluster.storage import Location, download_committed
from udt_cluster.training.catalog import (
    STATE,
    Checkpoint,
    CheckpointCatalog,
    CheckpointInfo,
    folder_name,
    list_folders,
    refuse_other,
)
from udt_cluster.training.collecting import collect
from udt_cluster.training.fence import Fence, newest_attempt
from udt_cluster.training.protocols import (
    Beat,
    CheckpointError,
    Engine,
    Kind,
    NonFiniteError,
    SupersededError,
)
from udt_cluster.training.scratch import Scratch, refuse_full_disks
from udt_cluster.training.state import TrainingState
from udt_cluster.training.upload import Snapshot, Upload, wait_until

log = logging.getLogger("udt_cluster")

_CLOSE_SECONDS, _CLOSE_WAITING = 30.0, 3.0
_T = TypeVar("_T")
_Failure = UdtError | OSError


class StorageCheckpoints:
    """Checkpoints of one run below one location, written and resumed by one attempt.

    Args:
        root: Nothing but this run's checkpoints.
        run_id: The run; another run's checkpoint is refused, never resumed.
        attempt: Which life of the worker group this is; :meth:`next_attempt` counts.
        rank: This process.
        world_size: Ranks that save together.
        keep: Checkpoints kept beside the last and the best.
        identity: Hashes of what must not change under a run (model, data, split, ...), by name.
        warn: Told of every checkpoint that is passed over or cannot be written, and why.
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
        self._fence = Fence(root, attempt)
        self._folders: Scratch | None = None
        self._upload: Upload | None = None
        self._unsent: list[Snapshot] = []
        self._failures = 0
        self._size: int | None = None

    @staticmethod
    def next_attempt(root: Location) -> int:
        """One more than the highest attempt that has begun or left anything; ask on one rank, before it begins."""
        return max([newest_attempt(root), *(folder.attempt for folder in list_folders(root).values())]) + 1

    @property
    def busy(self) -> bool:
        """Whether this rank still uploads, or rank 0 waits for the others."""
        return self._upload is not None and self._upload.busy

    @property
    def failed(self) -> bool:
        """Whether this rank's part of the last save could not be written."""
        return self._upload is not None and self._upload.failure is not None

    def check_resumable(self, *, zero_stage: int) -> None:
        """Refuse a resume that cannot work, before anything is allocated: one COMMIT is read and no tensor.

        Raises:
            RefusedError: the newest checkpoint has another identity.
            VersionError: it has another ZeRO stage or, from stage 1 on, number of workers.
        """
        newest = self.catalog.newest_info()
        if newest is not None:
            self._check(newest, zero_stage)

    def restore(self, engine: Engine) -> TrainingState | None:
        """Begin this attempt, and load the newest checkpoint that is whole; None where there is none.

        Every rank downloads and verifies it before anything is loaded. One that is corrupt, or has gone since, is
        passed over.

        Raises:
            RefusedError, VersionError: see :meth:`check_resumable`.
            SupersededError: a newer attempt has begun.
        """
        together(engine, self._begin)
        newest_step = 0
        while (chosen := together(engine, self._newest)[0]) is not None:
            newest_step = max(newest_step, chosen.step)
            self._check(chosen.info, engine.zero_stage)
            state = self._load(engine, chosen)
            if state is not None:
                self._say_what_is_lost(newest_step, state.step)
                return state
        self._say_what_is_lost(newest_step, 0)
        return None

    def _begin(self) -> None:
        if self._rank == 0:
            self._fence.claim()

    def _newest(self) -> Checkpoint | None:
        """Rank 0 chooses for all."""
        return next(iter(self.catalog.newest_first()), None) if self._rank == 0 else None

    def _load(self, engine: Engine, chosen: Checkpoint) -> TrainingState | None:
        folder = self._scratch().new()
        try:
            problem = self._download(engine, chosen, folder)
            if problem is not None:
                if self._rank == 0:
                    self.catalog.pass_over(chosen.name, problem)
                return None
            engine.load(folder)
            return TrainingState.from_json((folder / STATE).read_bytes())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _download(engine: Engine, chosen: Checkpoint, folder: Path) -> CorruptError | None:
        try:
            together(engine, lambda: download_committed(chosen.location, chosen.commit, folder))
        except CorruptError as error:
            return error
        return None

    def _say_what_is_lost(self, newest: int, step: int) -> None:
        if self._rank == 0 and step < newest:
            self._warn(f"going on from step {step}, not {newest}: {newest - step} steps are done again")

    def save(self, engine: Engine, state: TrainingState, *, kind: Kind, beat: Beat = lambda: None) -> None:
        """Take a snapshot on all ranks together, and upload it in the background; see :class:`CheckpointStore`.

        Raises:
            CheckpointError: no snapshot could be taken (a full disk), or the last two could not be uploaded.
            SupersededError: a newer attempt has begun.
            NonFiniteError: the weights are NaN or infinite.
        """
        self.settle(engine, beat=beat)
        snapshot = self._snapshot(engine, state, kind)
        self._upload = Upload(
            [*self._unsent, snapshot], rank=self._rank, may_commit=self._fence.check, afterwards=self._collect
        )

    def settle(self, engine: Engine, *, beat: Beat = lambda: None, may_fail: int = 1) -> None:
        """Wait until the last upload is committed or has failed on some rank; the same outcome on all.

        Args:
            engine: The ranks.
            beat: Called while waiting.
            may_fail: How many failures in a row are only told of.

        Raises:
            CheckpointError: there were more.
            SupersededError: a newer attempt has begun.
        """
        failures: list[_Failure] = []
        wait_until(lambda: self._agree(engine, failures), beat=beat)
        if self._upload is None:
            return
        if failures:
            self._count(failures, may_fail)
        else:
            self._failures = 0
        # All ranks keep the same: the best epoch would be lost for good, of others the next one takes the place.
        self._unsent = [s for s in self._upload.snapshots if failures and s.info.is_best][-1:]
        for snapshot in self._upload.snapshots:
            if snapshot not in self._unsent:
                shutil.rmtree(snapshot.folder, ignore_errors=True)
        self._upload = None

    def finish(self, engine: Engine, *, beat: Beat = lambda: None) -> None:
        """Wait until everything is committed.

        Raises:
            CheckpointError: it could not be.
            SupersededError: a newer attempt has begun.
        """
        self.settle(engine, beat=beat, may_fail=0)

    def close(self) -> None:
        """Let an upload that is under way come to its end, not for long; then let go of everything. Never raises."""
        if self._upload is not None:
            self._upload.end(seconds=_CLOSE_SECONDS, waiting=_CLOSE_WAITING)
        if self._folders is not None:
            self._folders.close()
            self._folders = None

    def _scratch(self) -> Scratch:
        if self._folders is None:
            self._folders = Scratch()
        return self._folders

    def _agree(self, engine: Engine, failures: list[_Failure]) -> bool:
        """Whether the upload has ended on all ranks; collects why it failed."""
        upload = self._upload
        mine = (False, None) if upload is None else (upload.busy, upload.failure)
        ranks: list[tuple[bool, _Failure | None]] = engine.all_gather_object(mine)
        if not failures:  # what failed first is the cause; that others have waited in vain is not
            failures.extend(failure for _, failure in ranks if failure is not None)
        if failures and upload is not None:
            upload.cancel()
        return not any(busy for busy, _ in ranks)

    def _count(self, failures: list[_Failure], may_fail: int) -> None:
        """Tell of a failed upload, or raise where it was one too many."""
        worst = next((f for f in failures if isinstance(f, SupersededError)), failures[0])
        if isinstance(worst, SupersededError):
            raise worst
        self._failures += 1
        assert self._upload is not None
        what = f"checkpoint {self._upload.snapshots[-1].target.name} could not be written: {worst}"
        if self._failures > may_fail:
            raise CheckpointError(f"{what}. What is trained from here on could be lost, so the run stops")
        if self._rank == 0:
            self._warn(f"{what}. Training goes on; the next checkpoint makes it good")

    def _snapshot(self, engine: Engine, state: TrainingState, kind: Kind) -> Snapshot:
        info = self._describe(engine, state, kind)
        name = folder_name(step=info.step, attempt=info.attempt, kind=kind)
        try:
            # Before the ranks begin to write: one that breaks off within DeepSpeed would keep the others waiting.
            refuse_full_disks(together(engine, lambda: self._scratch().room(self._needed(engine))))
            written = together(engine, lambda: self._write(engine, state))
        except NonFiniteError:
            raise
        except (UdtError, OSError) as error:
            raise CheckpointError(
                f"checkpoint {name} could not be written to the folder for temporary files ({tempfile.gettempdir()}): "
                f"{error}. Nothing of it counts. Make room there, or let TMPDIR name a larger disk"
            ) from error
        return Snapshot(written[self._rank][0], self._root / name, info, token=written[0][1])

    def _needed(self, engine: Engine) -> int:
        """Bytes of this rank's next snapshot."""
        if self._size is not None:
            return self._size
        # Of the first one rank 0 knows that it writes the weights and two moments; under ZeRO it is more.
        return 3 * sum(p.numel() * p.element_size() for p in engine.module.parameters()) if self._rank == 0 else 0

    def _write(self, engine: Engine, state: TrainingState) -> tuple[Path, str]:
        folder = self._scratch().new()
        try:
            engine.save(folder)
            if self._rank == 0:
                (folder / STATE).write_text(state.to_json())
        except (UdtError, OSError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return folder, uuid.uuid4().hex

    def _describe(self, engine: Engine, state: TrainingState, kind: Kind) -> CheckpointInfo:
        at_end = kind == "epoch"
        return CheckpointInfo(
            run_id=self._run_id,
            attempt=self._attempt,
            step=state.step,
            epoch=state.epoch,
            val_dice=state.history[-1].metrics["val_dice"] if at_end else math.nan,
            is_best=at_end and state.is_best,
            world_size=self._world_size,
            zero_stage=engine.zero_stage,
            kind=kind,
            identity=self._identity,
        )

    def _check(self, info: CheckpointInfo, zero_stage: int) -> None:
        name = folder_name(step=info.step, attempt=info.attempt, kind=info.kind)
        refuse_other(info, name, identity=self._identity, asked=(zero_stage, self._world_size))

    def _collect(self) -> None:
        """Delete what is not to be kept; a storage that forbids it costs space, not the run."""
        try:
            self._fence.check()
            collect(self.catalog, attempt=self._attempt, keep=self._keep)
        except SupersededError:
            raise
        except UdtError as error:
            self._warn(f"old checkpoints were not deleted: {error}")


def together(engine: Engine, action: Callable[[], _T]) -> list[_T]:
    """Run an action on every rank and give each rank all results, or raise on all when one has failed."""
    result: _T | None = None
    failure: _Failure | None = None
    try:
        result = action()
    except (UdtError, OSError) as error:
        failure = error
    outcomes: list[tuple[_T, _Failure | None]] = engine.all_gather_object((result, failure))
    if first := next((found for _, found in outcomes if found is not None), None):
        raise first
    return [outcome for outcome, _ in outcomes]
