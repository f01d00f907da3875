"""Checkpoints on a disk: what is committed, what is resumed, what is deleted. The same code runs on S3."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from tests.unit.training.fakes import TorchEngine, blobs, tiny_net
from tests.unit.training.thread_ranks import ThreadRank, on_two_ranks
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import AuthError, CorruptError, RefusedError, StorageUnreachableError, VersionError
from udt_cluster.storage import Commit, Location
from udt_cluster.training import checkpoint
from udt_cluster.training.catalog import Checkpoint, CheckpointInfo, folder_name
from udt_cluster.training.checkpoint import StorageCheckpoints, together
from udt_cluster.training.collecting import retained
from udt_cluster.training.losses import dice_bce
from udt_cluster.training.protocols import CheckpointError, Kind
from udt_cluster.training.scratch import Room, refuse_full_disks
from udt_cluster.training.state import PartialEpoch, TrainingState


def _engine(seed: int = 0) -> TorchEngine:
    engine = TorchEngine(tiny_net(seed=seed), TrainConfig(lr=0.01))
    data = blobs(4, seed=seed)
    engine.step([data], dice_bce)
    return engine


def _state(*scores: float) -> TrainingState:
    state = TrainingState()
    for epoch, score in enumerate(scores, start=1):
        state = state.after_epoch(step=10 * epoch, metrics={"val_dice": score})
    return state


class Store:
    """A checkpoint store below a folder, with its warnings."""

    def __init__(self, root: Path, *, attempt: int = 0, keep: int = 9, run_id: str = "job-f0-s1") -> None:
        self.root, self.warnings = root, list[str]()
        self.store = StorageCheckpoints(
            Location.parse(root),
            run_id=run_id,
            attempt=attempt,
            rank=0,
            world_size=1,
            keep=keep,
            warn=self.warnings.append,
        )

    def save(self, *scores: float, engine: TorchEngine | None = None) -> None:
        engine = engine or _engine()
        self.store.save(engine, _state(*scores), kind="epoch")
        self.store.finish(engine)

    def restore(self) -> int:
        """Steps of what a new engine was given."""
        state = self.store.restore(_engine(seed=8))
        return 0 if state is None else state.step

    @property
    def folders(self) -> list[str]:
        return sorted(
            path.name
            for path in self.root.iterdir()
            if path.is_dir() and path.name != "attempts" and any(path.iterdir())
        )

    def latest_step(self) -> int | None:
        checkpoint = self.store.catalog.latest()
        return None if checkpoint is None else checkpoint.step


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    engine = _engine(seed=3)
    store = Store(tmp_path)
    store.save(0.5, 0.6, engine=engine)
    assert store.folders == ["step-00000020-a0"]
    checkpoint = store.store.catalog.latest()
    assert checkpoint is not None
    checkpoint = pickle.loads(pickle.dumps(checkpoint))
    other = _engine(seed=4)
    state = store.store.restore(other)
    assert state == _state(0.5, 0.6) == checkpoint.state()
    ours, theirs = other.module.state_dict(), engine.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (checkpoint.info.epoch, checkpoint.info.val_dice, checkpoint.info.is_best) == (2, 0.6, True)


def test_weights_can_be_read_without_an_engine(tmp_path: Path) -> None:
    store, engine = Store(tmp_path), _engine()
    store.save(0.5, engine=engine)
    weights = safetensors.torch.load(store.store.catalog.best().weights())
    assert all(torch.equal(weights[name], tensor) for name, tensor in engine.module.state_dict().items())


def test_an_empty_root(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.latest_step() is None
    store.store.check_resumable(zero_stage=2)
    with pytest.raises(CorruptError, match="no valid checkpoint of run job-f0-s1"):
        store.store.catalog.best()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [_truncate, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("key", ["model.safetensors", "optimizer.safetensors", "state.json", "COMMIT"])
def test_fault_c2_a_corrupt_newest_checkpoint_is_reported_and_passed_over(
    tmp_path: Path, key: str, harm: Callable[[Path], None]
) -> None:
    store = Store(tmp_path)
    store.save(0.5)
    store.save(0.5, 0.6)
    harm(tmp_path / "step-00000020-a0" / key)
    again = Store(tmp_path, attempt=1)
    assert again.latest_step() == 10
    assert again.store.catalog.best().step == 10
    if (key, harm) != ("COMMIT", Path.unlink):  # without its COMMIT it has never been one
        assert len(again.warnings) == 1
        assert "step-00000020-a0" in again.warnings[0]
    else:
        assert again.warnings == []


@pytest.mark.parametrize("harm", [_truncate, _flip, Path.unlink])
def test_fault_c2_what_a_download_shows_to_be_corrupt_is_passed_over_before_anything_is_loaded(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    store, engine = Store(tmp_path), _engine(seed=3)
    store.save(0.5, engine=engine)
    store.save(0.5, 0.6)
    harm(tmp_path / "step-00000020-a0" / "model.safetensors")
    again, other = Store(tmp_path, attempt=1), _engine(seed=8)
    assert again.store.restore(other) == _state(0.5)
    ours, theirs = other.module.state_dict(), engine.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "step-00000020-a0 is corrupt and was passed over" in again.warnings[0]
    assert again.warnings[1:] == ["going on from step 10, not 20: 10 steps are done again"]


def test_fault_c2_the_weights_of_a_corrupt_checkpoint_are_never_given_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(0.5)
    best = store.store.catalog.best()
    _flip(tmp_path / "step-00000010-a0" / "model.safetensors")
    with pytest.raises(CorruptError, match=r"model\.safetensors"):
        best.weights()


def test_fault_c2_when_all_are_corrupt_it_is_said_that_training_starts_anew(tmp_path: Path) -> None:
    Store(tmp_path).save(0.5)
    _truncate(tmp_path / "step-00000010-a0" / "state.json")
    again = Store(tmp_path, attempt=1)
    assert again.restore() == 0
    assert again.warnings[-1] == "going on from step 0, not 10: 10 steps are done again"


@pytest.mark.parametrize("name", ["checkpoint_manager_snapshot.json", "latest", "attempts/0000"])
def test_fault_c3_what_is_resumed_follows_from_the_commits_alone(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    store.restore()
    store.save(0.5)
    (tmp_path / name).write_bytes(b'{"checkpoint": "step-0')
    again = Store(tmp_path, attempt=StorageCheckpoints.next_attempt(Location.parse(tmp_path)))
    assert again.restore() == 10
    (tmp_path / name).write_bytes(b"")
    assert again.latest_step() == 10


def test_fault_c1_an_upload_that_broke_off_is_ignored_and_then_collected(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.restore()
    store.save(0.5)
    broken_off = tmp_path / "step-00000020-a0"
    broken_off.mkdir()
    (broken_off / "model.safetensors").write_bytes(b"half")
    again = Store(tmp_path, attempt=StorageCheckpoints.next_attempt(Location.parse(tmp_path)))
    assert again.latest_step() == 10
    assert again.warnings == []
    again.save(0.5, 0.6)
    assert again.folders == ["step-00000010-a0", "step-00000020-a1"]


def test_the_upload_of_a_later_attempt_is_not_touched(tmp_path: Path) -> None:
    later = tmp_path / "step-00000030-a5"
    later.mkdir()
    (later / "model.safetensors").write_bytes(b"half")
    store = Store(tmp_path, attempt=1, keep=0)
    store.save(0.5)
    assert later.name in store.folders


def test_next_attempt_counts_what_was_left_behind(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    assert StorageCheckpoints.next_attempt(root) == 0
    (tmp_path / "step-00000030-a2").mkdir()
    (tmp_path / "step-00000030-a2" / "x").write_bytes(b"1")
    assert StorageCheckpoints.next_attempt(root) == 3


def test_fault_c4_a_deleted_old_checkpoint_does_not_matter(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for epochs in (1, 2, 3):
        store.save(*[0.1 * epoch for epoch in range(1, epochs + 1)])
    for path in (tmp_path / "step-00000010-a0").iterdir():
        path.unlink()
    assert Store(tmp_path, attempt=1).restore() == store.latest_step() == 30


def test_fault_c4_a_checkpoint_that_goes_while_it_is_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.save(0.5)
    store.save(0.5, 0.6)
    download = checkpoint.download_committed

    def expires(root: Location, commit: Commit, folder: Path) -> None:
        if root.name == "step-00000020-a0":
            root.delete_tree()
        download(root, commit, folder)

    monkeypatch.setattr(checkpoint, "download_committed", expires)
    assert Store(tmp_path, attempt=1).restore() == 10


def test_fault_g1_last_best_and_keep_more_are_retained(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    scores = [0.2, 0.9, 0.3, 0.4, 0.5]
    for count in range(1, 6):
        store.save(*scores[:count])
    assert store.folders == ["step-00000020-a0", "step-00000040-a0", "step-00000050-a0"]
    assert store.store.catalog.best().step == 20
    assert store.latest_step() == 50


def test_fault_g1_a_deletion_that_broke_off_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, keep=0)
    store.save(0.5)

    def broken_off(location: Location) -> None:
        raise StorageUnreachableError("gone")

    store.save(0.5, 0.6)
    monkeypatch.setattr(Location, "delete_tree", broken_off)
    store.save(0.5, 0.6, 0.7)
    assert store.warnings == ["old checkpoints were not deleted: gone"]
    monkeypatch.undo()
    assert "COMMIT" not in {path.name for path in (tmp_path / "step-00000010-a0").iterdir()}
    assert [store.latest_step(), store.store.catalog.best().step] == [30, 30]
    store.save(0.5, 0.6, 0.7, 0.8)
    assert store.folders == ["step-00000030-a0", "step-00000040-a0"]


def test_a_storage_that_forbids_deleting_costs_space_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, keep=0)

    def forbidden(location: Location) -> None:
        raise AuthError("not allowed to delete")

    monkeypatch.setattr(Location, "delete", forbidden)
    for scores in ([0.5], [0.5, 0.6], [0.5, 0.6, 0.7]):
        store.save(*scores)
    assert store.latest_step() == 30
    assert len(store.folders) == 3
    assert "not allowed to delete" in store.warnings[0]


def test_a_corrupt_checkpoint_is_not_what_is_kept_as_the_best(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(0.5)
    store.save(0.5, 0.9)
    _flip(tmp_path / "step-00000020-a0" / "model.safetensors")
    again = Store(tmp_path, attempt=1, keep=0)
    assert again.latest_step() == 10
    again.save(0.5, 0.4)
    assert again.folders == ["step-00000010-a0", "step-00000020-a1"]


def test_fault_j1_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).save(0.5)
    with pytest.raises(RefusedError, match="a checkpoint of run job-f0-s1, this is run other-f0-s1"):
        Store(tmp_path, run_id="other-f0-s1").store.catalog.latest()


def test_fault_w1_another_world_size_is_refused_by_one_look(tmp_path: Path) -> None:
    class Sharded(TorchEngine):
        zero_stage = 2

    engine = Sharded(tiny_net(), TrainConfig())
    store = Store(tmp_path).store
    store.save(engine, _state(0.5), kind="epoch")
    store.finish(engine)
    asked = StorageCheckpoints(Location.parse(tmp_path), run_id="job-f0-s1", attempt=1, rank=0, world_size=3, keep=0)
    with pytest.raises(VersionError, match=r"written by 1 workers .* this run has 3; set resources\.workers: 1"):
        asked.check_resumable(zero_stage=2)
    with pytest.raises(VersionError, match="zero_stage: 2, this run has 0"):
        asked.restore(_engine())


def test_what_is_not_a_checkpoint_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-12").mkdir()
    (tmp_path / "step-12" / "x").write_text("mine")
    store = Store(tmp_path, keep=0)
    for scores in ([0.5], [0.5, 0.6], [0.5, 0.6, 0.7]):
        store.save(*scores)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["notes.txt"]
    assert store.folders == ["step-00000020-a0", "step-00000030-a0", "step-12"]


def _checkpoint(step: int, val_dice: float, attempt: int = 0, kind: Kind = "epoch") -> Checkpoint:
    info = CheckpointInfo(
        run_id="r",
        attempt=attempt,
        step=step,
        epoch=step,
        val_dice=val_dice,
        is_best=False,
        world_size=1,
        zero_stage=0,
        kind=kind,
        identity={"data": "a1"},
    )
    name = Location.parse("/c") / folder_name(step=step, attempt=attempt, kind=kind)
    return Checkpoint(name, Commit(objects=(), info=info.to_json()), info)


@pytest.mark.parametrize(
    ("scores", "keep", "expected"),
    [
        ([], 2, set()),
        ([0.5], 0, {1}),
        ([0.5, 0.4, 0.3], 0, {1, 3}),
        ([0.5, 0.4, 0.3], 1, {1, 2, 3}),
        ([0.1, 0.2, 0.3, 0.4], 0, {3, 4}),  # the last is the best: another one to fall back on
        ([0.1, 0.2, 0.3, 0.4], 2, {2, 3, 4}),
        ([0.3, 0.3, 0.1], 0, {1, 3}),
        ([math.nan, 0.0, math.nan], 0, {2, 3}),
        ([math.nan, math.nan], 0, {1, 2}),
    ],
)
def test_retention(scores: list[float], keep: int, expected: set[int]) -> None:
    checkpoints = [_checkpoint(step, score) for step, score in enumerate(scores, start=1)]
    assert retained(checkpoints, keep) == {f"step-{step:08d}-a0" for step in expected}


def test_within_an_epoch_nothing_is_the_best(tmp_path: Path) -> None:
    checkpoints = [_checkpoint(3, 0.2), _checkpoint(5, math.nan, kind="time"), _checkpoint(7, math.nan, 1, kind="stop")]
    assert retained(checkpoints, 0) == {"step-00000003-a0", "step-00000007-a1-stop"}
    assert retained(checkpoints[1:2], 0) == {"step-00000005-a0-time"}
    undefined = [_checkpoint(2, math.nan, kind="time"), _checkpoint(3, math.nan), *checkpoints[1:]]
    assert retained(undefined, 0) == {"step-00000003-a0", "step-00000007-a1-stop"}


def test_the_best_is_an_epoch_even_where_no_dice_is_defined(tmp_path: Path) -> None:
    store, engine = Store(tmp_path), _engine()
    for state, kind in ((TrainingState(step=5, partial=PartialEpoch()), "time"), (_state(math.nan), "epoch")):
        store.store.save(engine, state, kind=kind)
    store.store.finish(engine)
    assert store.store.catalog.best().info.kind == "epoch"


def test_info_round_trips_with_an_undefined_dice() -> None:
    info = _checkpoint(3, math.nan).info
    back = CheckpointInfo.from_commit(Commit(objects=(), info=info.to_json()))
    assert math.isnan(back.val_dice)
    assert back.to_json() == info.to_json()
    with pytest.raises(CorruptError, match="not a checkpoint's"):
        CheckpointInfo.from_commit(Commit(objects=(), info={"kind": "model"}))


def _two_rank_store(root: Path, rank: int) -> StorageCheckpoints:
    return StorageCheckpoints(Location.parse(root), run_id="r", attempt=0, rank=rank, world_size=2, keep=0)


def test_the_parts_of_all_ranks_are_under_one_commit(tmp_path: Path) -> None:
    def save(engine: ThreadRank) -> None:
        store = _two_rank_store(tmp_path, engine.rank)
        store.save(engine, _state(0.5), kind="epoch")
        store.finish(engine)

    assert on_two_ranks(save) == [None, None]
    checkpoint = _two_rank_store(tmp_path, 0).catalog.latest()
    assert checkpoint is not None
    keys = {record.key for record in checkpoint.commit.objects}
    assert keys >= {"part-0", "part-1", "model.safetensors", "state.json"}
    assert checkpoint.info.world_size == 2


def test_fault_f6_when_the_disk_of_one_rank_is_full_all_ranks_hear_why_and_nothing_is_committed(tmp_path: Path) -> None:
    def save(engine: ThreadRank) -> None:
        if engine.rank == 1:
            engine.save = lambda folder: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # type: ignore[method-assign,assignment]
        _two_rank_store(tmp_path, engine.rank).save(engine, _state(0.5), kind="epoch")

    first, second = on_two_ranks(save)
    assert isinstance(first, CheckpointError)
    assert first.message == second.message
    assert "No space left on device" in first.message
    assert "TMPDIR" in first.message
    assert _two_rank_store(tmp_path, 0).catalog.latest() is None


def test_fault_f6_too_little_room_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    store = Store(tmp_path)
    with pytest.raises(CheckpointError, match=r"No space left on device of .*: 0 MB free, 0 MB needed\."):
        store.save(0.5)
    assert store.folders == []


@pytest.mark.parametrize(("disks", "fits"), [("aab", True), ("aaa", False), ("abb", True), ("bbb", False)])
def test_fault_f6_ranks_on_one_disk_need_room_together(disks: str, *, fits: bool) -> None:
    rooms = [Room((disk, 1), needed=40_000_000, free=100_000_000) for disk in disks]
    if fits:
        refuse_full_disks(rooms)
    else:
        with pytest.raises(OSError, match=rf"of {disks[0]}: 100 MB free, 120 MB needed by 3 ranks"):
            refuse_full_disks(rooms)


def test_together_gives_everybody_everything() -> None:
    assert on_two_ranks(lambda engine: together(engine, lambda: engine.rank * 10)) == [[0, 10], [0, 10]]
