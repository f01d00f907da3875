"""Checkpoints in the background: what goes on meanwhile, what fails, who may commit, what processes leave behind."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.unit.training.fakes import MemoryEval, MemoryTrain, Remembered, TorchEngine, blobs, tiny_net
from tests.unit.training.thread_ranks import ThreadRank, on_two_ranks
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import RefusedError, StorageUnreachableError
from udt_cluster.storage import Location, ObjectRecord
from udt_cluster.training import (
    CheckpointCatalog,
    CheckpointError,
    PreemptedError,
    StorageCheckpoints,
    SupersededError,
    TrainingState,
    checkpoint,
    fit,
    upload,
)
from udt_cluster.training.scratch import Scratch, remove_abandoned

ROOT = Path(__file__).parents[3]


def _engine() -> TorchEngine:
    return TorchEngine(tiny_net(), TrainConfig(lr=0.01))


def _state(*scores: float) -> TrainingState:
    state = TrainingState()
    for epoch, score in enumerate(scores, start=1):
        state = state.after_epoch(step=10 * epoch, metrics={"val_dice": score})
    return state


class Store(StorageCheckpoints):
    """One attempt on one rank, with what it warns of."""

    def __init__(self, root: Path, *, attempt: int = 0, keep: int = 9, **more: dict[str, str]) -> None:
        self.warnings = list[str]()
        place = Location.parse(root)
        super().__init__(
            place, run_id="r", attempt=attempt, rank=0, world_size=1, keep=keep, warn=self.warnings.append, **more
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "c")
    yield store
    store.close()


def _steps(store: StorageCheckpoints) -> list[int]:
    return sorted(checkpoint.step for checkpoint in store.catalog.committed())


class Gate:
    """Holds uploads back until it is opened, and lets some of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.fail = threading.Event(), 0
        upload_file = Location.upload

        def gated(location: Location, path: Path) -> ObjectRecord:
            assert self.opened.wait(60)
            if self.fail and path.name == "state.json":
                self.fail -= 1
                raise StorageUnreachableError("storage is away")
            return upload_file(location, path)

        monkeypatch.setattr(Location, "upload", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_training_goes_on_while_a_checkpoint_is_uploaded_and_does_not_change_it(store: Store, gate: Gate) -> None:
    engine = _engine()
    wanted = {name: tensor.clone() for name, tensor in engine.module.state_dict().items()}
    store.save(engine, _state(0.5), kind="epoch")
    assert store.busy
    assert _steps(store) == []
    with torch.no_grad():
        for parameter in engine.module.parameters():
            parameter.fill_(7.0)
    gate.opened.set()
    store.finish(engine)
    assert not store.busy
    saved = safetensors.torch.load(store.catalog.best().weights())
    assert all(torch.equal(saved[name], tensor) for name, tensor in wanted.items())


def test_one_upload_at_a_time_and_a_sign_of_life_while_it_is_waited_for(store: Store, gate: Gate) -> None:
    engine, beats = _engine(), list[float]()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 3:
            gate.opened.set()

    store.save(engine, _state(0.5), kind="epoch")
    store.save(engine, _state(0.5, 0.6), kind="epoch", beat=beat)
    assert len(beats) >= 3
    assert _steps(store)[0] == 10
    store.finish(engine)
    assert _steps(store) == [10, 20]


def test_an_upload_that_fails_is_told_of_and_the_best_epoch_comes_with_the_next(store: Store, gate: Gate) -> None:
    engine = _engine()
    gate.opened.set()
    store.save(engine, _state(0.3), kind="epoch")
    store.settle(engine)
    gate.fail = 1
    store.save(engine, _state(0.3, 0.9), kind="epoch")
    store.settle(engine)
    assert store.warnings == [
        "checkpoint step-00000020-a0 could not be written: storage is away. "
        "Training goes on; the next checkpoint makes it good"
    ]
    assert _steps(store) == [10]
    store.save(engine, _state(0.3, 0.9, 0.4), kind="epoch")
    store.finish(engine)
    assert _steps(store) == [10, 20, 30]
    assert store.catalog.best().step == 20


def test_of_failed_ones_that_are_not_the_best_the_next_takes_the_place(store: Store, gate: Gate) -> None:
    engine = _engine()
    gate.opened.set()
    gate.fail = 1
    store.save(engine, _state(0.3).within_epoch(step=12, sums={}, seconds=1.0), kind="time")
    store.save(engine, _state(0.3).within_epoch(step=14, sums={}, seconds=1.0), kind="time")
    store.finish(engine)
    assert _steps(store) == [14]


def test_the_second_failure_in_a_row_ends_the_run(store: Store, gate: Gate) -> None:
    engine = _engine()
    gate.opened.set()
    gate.fail = 2
    store.save(engine, _state(0.5), kind="epoch")
    store.save(engine, _state(0.5, 0.6), kind="epoch")
    with pytest.raises(CheckpointError, match=r"step-00000020-a0 could not be written: storage is away\. .* stops"):
        store.save(engine, _state(0.5, 0.6, 0.7), kind="epoch")


def test_a_failure_after_a_success_is_the_first_again(store: Store, gate: Gate) -> None:
    engine = _engine()
    gate.opened.set()
    for epoch in range(1, 6):
        gate.fail = epoch % 2
        store.save(engine, _state(*[0.1] * epoch), kind="epoch")
        store.settle(engine)
    assert len(store.warnings) == 3


def test_a_failure_at_the_end_is_an_error(store: Store, gate: Gate) -> None:
    engine = _engine()
    gate.opened.set()
    gate.fail = 1
    store.save(engine, _state(0.5), kind="epoch")
    with pytest.raises(CheckpointError, match="storage is away"):
        store.finish(engine)


def test_an_upload_under_way_is_completed_when_the_run_ends_otherwise(tmp_path: Path, gate: Gate) -> None:
    store = Store(tmp_path / "c")
    store.save(_engine(), _state(0.5), kind="epoch")
    threading.Timer(0.2, gate.opened.set).start()
    store.close()
    store.close()
    assert _steps(store) == [10]


def test_at_the_end_nobody_waits_for_a_rank_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_CLOSE_WAITING", 0.3)

    def save(engine: ThreadRank) -> float:
        store = _two_ranks(tmp_path, engine.rank)
        if engine.rank == 1:  # takes its snapshot with the other, and is gone before it uploads
            store.settle(engine)
            store._snapshot(engine, _state(0.5), "epoch")
            return 0.0
        store.save(engine, _state(0.5), kind="epoch")
        began = time.monotonic()
        store.close()
        return time.monotonic() - began

    took, _ = on_two_ranks(save)
    assert 0.2 < took < 10
    assert _two_ranks(tmp_path, 0).catalog.latest() is None


def _fit(root: Path, store: StorageCheckpoints, *, epochs: int, interrupt: Callable[[], str | None]) -> TorchEngine:
    config = TrainConfig(epochs=epochs, lr=0.02, global_batch_size=4, picture_every=0)
    engine = TorchEngine(tiny_net(), config)
    fit(
        engine=engine,
        train=MemoryTrain(blobs(12), global_batch_size=4, micro_batch_size=4),
        validation=MemoryEval(blobs(8, seed=9)),
        reporter=Remembered(),
        checkpoints=store,
        config=config,
        num_classes=2,
        class_names=("background", "square"),
        interrupt=interrupt,
    )
    return engine


def test_fault_f5_a_stop_waits_for_its_commit(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "c"), list[int]()

    def notice() -> str | None:
        calls.append(1)
        return "the node drains" if len(calls) >= 5 else None

    with pytest.raises(PreemptedError, match="nothing is lost"):
        _fit(tmp_path, store, epochs=3, interrupt=notice)
    info = store.catalog.newest_info()
    assert info is not None
    assert (info.kind, info.is_best, info.val_dice == info.val_dice) == ("stop", False, False)
    again = Store(tmp_path / "c", attempt=1)
    resumed = _fit(tmp_path, again, epochs=3, interrupt=lambda: None)
    whole = _fit(tmp_path, Store(tmp_path / "whole"), epochs=3, interrupt=lambda: None)
    ours, theirs = resumed.module.state_dict(), whole.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_fault_f5_a_stop_that_cannot_save_says_what_is_lost(tmp_path: Path, gate: Gate) -> None:
    store = Store(tmp_path / "c")
    gate.opened.set()
    gate.fail = 9
    with pytest.raises(PreemptedError, match=r"what came after the last checkpoint is lost: .*storage is away"):
        _fit(tmp_path, store, epochs=3, interrupt=lambda: "the node drains")


def _two_ranks(root: Path, rank: int, warn: Callable[[str], None] = lambda _: None) -> StorageCheckpoints:
    return StorageCheckpoints(Location.parse(root), run_id="r", attempt=0, rank=rank, world_size=2, keep=0, warn=warn)


def test_when_one_rank_cannot_upload_no_rank_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_file = Location.upload

    def refuse(location: Location, path: Path) -> ObjectRecord:
        if path.name == "part-1":
            raise StorageUnreachableError("rank 1 is cut off")
        return upload_file(location, path)

    monkeypatch.setattr(Location, "upload", refuse)
    seen = list[tuple[bool, bool]]()

    def save(engine: ThreadRank) -> None:
        store = _two_ranks(tmp_path, engine.rank)
        store.save(engine, _state(0.5), kind="epoch")
        while engine.rank == 1 and store.busy:
            time.sleep(0.01)
        if engine.rank == 1:
            seen.append((store.busy, store.failed))
        store.finish(engine)

    first, second = on_two_ranks(save)
    assert isinstance(first, CheckpointError)
    assert first.message == second.message
    assert "rank 1 is cut off" in first.message
    assert seen == [(False, True)]
    assert _two_ranks(tmp_path, 0).catalog.latest() is None


def test_the_list_of_another_snapshot_is_not_taken_for_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "step-00000010-a0" / "rank-00001.json"
    stale.parent.mkdir()
    stale.write_text('{"token": "of a life before", "objects": []}')
    looked, look, upload_file = threading.Event(), upload._from_json, Location.upload

    def look_and_tell(place: Location, token: str) -> tuple[ObjectRecord, ...] | None:
        records = look(place, token)
        looked.set()
        return records

    def after_the_look(location: Location, path: Path) -> ObjectRecord:
        assert path.name != "part-1" or looked.wait(60)
        return upload_file(location, path)

    monkeypatch.setattr(upload, "_from_json", look_and_tell)
    monkeypatch.setattr(Location, "upload", after_the_look)

    def save(engine: ThreadRank) -> None:
        store = _two_ranks(tmp_path, engine.rank)
        store.save(engine, _state(0.5), kind="epoch")
        store.finish(engine)

    assert on_two_ranks(save) == [None, None]
    newest = _two_ranks(tmp_path, 0).catalog.latest()
    assert newest is not None
    assert "part-1" in {record.key for record in newest.commit.objects}


def test_an_attempt_that_a_newer_one_has_replaced_neither_commits_nor_deletes(tmp_path: Path, gate: Gate) -> None:
    root = tmp_path / "c"
    gate.opened.set()
    old, engine = Store(root, keep=0), _engine()
    old.restore(engine)
    for scores in ([0.5], [0.5, 0.4]):
        old.save(engine, _state(*scores), kind="epoch")
        old.settle(engine)
    gate.opened.clear()
    old.save(engine, _state(0.5, 0.4, 0.3), kind="epoch")
    new = Store(root, attempt=StorageCheckpoints.next_attempt(Location.parse(root)))
    new.restore(_engine())
    gate.opened.set()
    with pytest.raises(SupersededError, match="attempt 1 of this run has begun, so attempt 0 does not write any more"):
        old.finish(engine)
    assert _steps(new) == [10, 20]
    with pytest.raises(SupersededError):
        old.restore(engine)
    for late in (old, new):
        late.close()


def test_two_processes_with_the_same_attempt_are_told_apart(tmp_path: Path) -> None:
    first, second, engine = Store(tmp_path), Store(tmp_path), _engine()
    first.restore(engine)
    second.restore(engine)
    first.save(engine, _state(0.5), kind="epoch")
    with pytest.raises(SupersededError, match="another process has begun as attempt 0 too"):
        first.finish(engine)
    second.save(engine, _state(0.5), kind="epoch")
    second.finish(engine)
    (tmp_path / "attempts" / "0000").unlink()  # a rule that deletes what is old
    second.save(engine, _state(0.5, 0.6), kind="epoch")
    second.finish(engine)
    assert _steps(second) == [10, 20]


def test_another_model_or_data_is_refused_with_both_values(tmp_path: Path) -> None:
    store, engine = Store(tmp_path, identity={"model": "a1", "data": "d1"}), _engine()
    store.save(engine, _state(0.5), kind="epoch")
    store.finish(engine)
    info = CheckpointCatalog(Location.parse(tmp_path), "r").newest_info()
    assert info is not None
    assert info.identity == {"model": "a1", "data": "d1"}
    Store(tmp_path, identity={"model": "a1", "data": "d1"}).check_resumable(zero_stage=0)
    other = Store(tmp_path, attempt=1, identity={"model": "a1", "data": "d2", "split": "s"})
    for ask in (lambda: other.check_resumable(zero_stage=0), lambda: other.restore(_engine())):
        with pytest.raises(RefusedError, match="step-00000010-a0 belongs to another training") as caught:
            ask()
        assert caught.value.problems == ("data: d1 there, d2 here", "split: nothing there, s here")
        assert caught.value.exit_code == 3


def test_fault_g1_whoever_resumes_while_another_saves_and_collects_always_finds_one(tmp_path: Path) -> None:
    writer, engine = Store(tmp_path, keep=0), _engine()
    writer.save(engine, _state(0.5), kind="epoch")
    writer.settle(engine)
    found, ended = list[int](), threading.Event()

    def read() -> None:
        while not ended.is_set():
            reader, resumed = Store(tmp_path), _engine()
            reader._fence.claim = lambda: None  # type: ignore[method-assign]  # looks, and takes nothing over
            state = reader.restore(resumed)
            found.append(state.step if state else 0)
            reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for epoch in range(2, 30):
        writer.save(engine, _state(*[0.5 + epoch / 100] * epoch), kind="epoch")
    writer.finish(engine)
    ended.set()
    thread.join()
    assert len(found) > 3
    assert min(found) >= 10
    assert found == sorted(found)
    assert len(_steps(writer)) == 2


def _process(root: Path, situation: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.training.checkpoint_process", str(root), situation],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("situation", ["upload", "commit"])
def test_fault_c1_killed_during_an_upload_the_checkpoint_before_counts_and_the_rest_is_collected(
    tmp_path: Path, situation: str
) -> None:
    with _process(tmp_path / "c", situation, TMPDIR=str(tmp_path)) as process:
        assert process.wait() == -signal.SIGKILL
    left = [path for path in (tmp_path / "c" / "step-00000030-a0").iterdir() if not path.name.startswith(".")]
    assert left
    assert "COMMIT" not in {path.name for path in left}
    store, engine = Store(tmp_path / "c", attempt=1), _engine()
    state = store.restore(engine)
    assert state is not None
    assert state.step == 20
    assert store.warnings == []
    store.save(engine, _state(0.5, 0.6, 0.7), kind="epoch")
    store.finish(engine)
    folders = {path.name for path in (tmp_path / "c").glob("step-*") if any(path.iterdir())}
    assert folders == {"step-00000010-a0", "step-00000020-a0", "step-00000030-a1"}
    remove_abandoned(tmp_path)
    store.close()
    assert list(tmp_path.glob("udt-snapshot-*")) == []


def test_fault_g1_killed_during_a_deletion_it_goes_on_with_the_next(tmp_path: Path) -> None:
    with _process(tmp_path / "c", "delete", TMPDIR=str(tmp_path)) as process:
        assert process.wait() == -signal.SIGKILL
    left = tmp_path / "c" / "step-00000010-a0"
    assert not (left / "COMMIT").exists()
    assert (left / "model.safetensors").exists()
    store, engine = Store(tmp_path / "c", attempt=1, keep=0), _engine()
    store.restore(engine)
    assert _steps(store) == [20, 30]
    store.save(engine, _state(0.5, 0.6, 0.7, 0.8), kind="epoch")
    store.finish(engine)
    store.close()
    assert not list(left.glob("*"))


def test_scratch_of_the_living_stays_and_that_of_the_dead_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = Scratch()
    (living.new() / "model.safetensors").write_bytes(b"1")
    dead = tmp_path / "udt-snapshot-udt-1" / "1" / "model.safetensors"
    dead.parent.mkdir(parents=True)
    dead.write_bytes(b"1")
    (tmp_path / "udt-snapshot-udt-1" / "owner.lock").touch()
    Scratch().close()
    assert list(tmp_path.glob("udt-*")) == [living.path]
    assert len(list(living.path.glob("*/model.safetensors"))) == 1
    living.close()


def test_scratch_goes_when_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = Scratch()
    assert scratch.new() != scratch.new()
    assert scratch.room(5).needed == 5
    assert scratch.room(5).free > 0
    scratch.close()
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return unshare is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="no right to mount a small disk (unshare -rm)")
def test_fault_f6_a_full_disk_ends_the_run_with_its_cause_and_no_bad_commit(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    program = (
        f"mount -t tmpfs -o size=1m none {small} && "
        f"TMPDIR={small} exec {sys.executable} -m tests.unit.training.checkpoint_process {tmp_path / 'c'} full"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("CheckpointError: checkpoint step-"), done
    assert "No space left on device" in done.stdout
    assert f"({small})" in done.stdout
    catalog = CheckpointCatalog(Location.parse(tmp_path / "c"), "r", warn=pytest.fail)
    newest = catalog.latest()
    assert newest is not None
    assert len(catalog.committed()) == 2
