"""Preparations that are killed, that meet another one, or whose tasks die: the same bytes, and nothing done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import Died, FileIndex, InProcessExecutor, Prepared, find_version, prepare, writer
from data_prep.phantom import glas
from data_prep.preparation import run_case_task
from data_prep.shard_tasks import write_shard
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import AuthError, DataError, JobFailedError, StorageUnreachableError
from udt_cluster.storage import Location

REPOSITORY = Path(__file__).parents[3]
CASES = 7


@pytest.fixture
def glands(tmp_path: Path) -> Path:
    glas(tmp_path / "glands", train=5, test=2, size=(48, 64))
    return tmp_path / "glands"


def job(source: Path, **fields: object) -> DataConfig:
    values = {"source": str(source), "adapter": "glas", "size": (32, 32), "group_by": "case", **fields}
    return DataConfig.model_validate(values)


def run(config: DataConfig, folder: Path, **options: Any) -> Prepared:
    options = {"executor": InProcessExecutor(), **options}
    return prepare(config, "set", Location.parse(folder / "s"), index=FileIndex(folder / "i.db"), **options)


def objects(prepared: Prepared) -> dict[str, bytes]:
    return {entry.key: (prepared.location / entry.key).read_bytes() for entry in prepared.location.entries()}


def staged(folder: Path) -> list[str]:
    return [entry.key for entry in (Location.parse(folder / "s") / "staging").entries()]


class Counting:
    """Runs tasks here, counts them, and can do something before one of them."""

    def __init__(self, before: Callable[[int, Any], None] = lambda number, item: None) -> None:
        self.ran: list[tuple[Any, Any]] = []
        self._before = before

    def map(self, function: Any, items: Iterable[Any], *, description: str) -> Iterator[Any]:
        for item in items:
            self._before(len(self.ran), item)
            self.ran.append((function, item))
            yield function(item)

    def count(self, function: Any) -> int:
        return sum(ran is function for ran, _ in self.ran)


PROGRAM = """
import sys, time
from pathlib import Path
from data_prep import FileIndex, prepare
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

class Slow:
    done = 0
    def map(self, function, items, *, description):
        for item in items:
            if Slow.done == int(sys.argv[3]):
                Path(sys.argv[2], "there").touch()
                time.sleep(600)
            Slow.done += 1
            yield function(item)

config = DataConfig.model_validate({"source": sys.argv[1], "adapter": "glas", "size": (32, 32), "group_by": "case"})
prepare(config, "set", Location.parse(sys.argv[2] + "/s"), executor=Slow(), index=FileIndex(Path(sys.argv[2]) / "i.db"))
"""


def kill_after(tasks: int, glands: Path, folder: Path) -> None:
    """Prepare in another process, and kill that when it has ended some tasks."""
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(glands), str(folder), str(tasks)]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 60
        while not (folder / "there").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def spoil(path: Path) -> None:
    """Other content that the index does not notice: of the same size and time."""
    status = path.stat()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_fault_Z1_killed_among_the_cases_it_reads_only_the_others(glands: Path, tmp_path: Path) -> None:
    whole = objects(run(job(glands), tmp_path / "whole"))
    kill_after(3, glands, tmp_path / "killed")
    version, discovery = find_version(job(glands), "set", FileIndex(tmp_path / "killed/i.db"))
    root = Location.parse(tmp_path / "killed/s") / "data/set" / version
    with pytest.raises(DataError, match="no COMMIT") as refused:
        DataStore.open(root)
    assert refused.value.exit_code == 3
    for case in discovery.cases[:3]:
        spoil(glands / case.images[0])
    resumed = run(job(glands), tmp_path / "killed")
    assert not resumed.already_there
    assert objects(resumed) == whole, "and so nothing of the spoiled files was read"


def test_fault_Z1_killed_among_the_shards_it_writes_only_the_others(glands: Path, tmp_path: Path) -> None:
    whole = objects(run(job(glands), tmp_path / "whole"))
    kill_after(CASES + 1, glands, tmp_path / "killed")
    version, _ = find_version(job(glands), "set", FileIndex(tmp_path / "killed/i.db"))
    root = Location.parse(tmp_path / "killed/s") / "data/set" / version
    before = {entry.key: entry.token for entry in root.entries()}
    assert set(before) == {"images/c/0/0/0/0", "labels/c/0/0/0"}
    with pytest.raises(DataError, match="no COMMIT"):
        DataStore.open(root)
    assert objects(run(job(glands), tmp_path / "killed")) == whole
    after = {entry.key: entry.token for entry in root.entries()}
    assert before.items() <= after.items(), "the shard that was there is as it was"


def test_what_was_staged_is_gone_when_it_is_committed(glands: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    run(job(glands), tmp_path, on_progress=lambda *_: seen.append(len(staged(tmp_path))))
    assert max(seen) >= CASES
    assert staged(tmp_path) == []
    assert not (tmp_path / "s/staging/set").exists()


def test_one_mended_file_costs_one_case(glands: Path, tmp_path: Path) -> None:
    good = (glands / "Train_Folder/img/3.png").read_bytes()
    (glands / "Train_Folder/img/3.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"img/3\.png"):
        run(job(glands), tmp_path)
    (glands / "Train_Folder/img/3.png").write_bytes(good)
    before = set(staged(tmp_path))
    assert len(before) == CASES - 1
    new: set[str] = set()
    run(job(glands), tmp_path, on_progress=lambda *_: new.update(set(staged(tmp_path)) - before))
    assert sum("/cases/" in key for key in new) == 1


def test_preparations_that_meet_end_with_one_valid_store(glands: Path, tmp_path: Path) -> None:
    """Another one commits, and removes what both have staged, just before a task of this one."""
    whole = objects(run(job(glands), tmp_path / "whole"))
    for moment in (0, 4, CASES, CASES + 1):
        folder = tmp_path / str(moment)

        def overtake(number: int, item: object, folder: Path = folder, moment: int = moment) -> None:
            if number == moment:
                run(job(glands), folder)

        executor = Counting(overtake)
        prepared = run(job(glands), folder, executor=executor)
        assert executor.count(run_case_task) == CASES, "nothing is done again for a store that is there"
        assert executor.count(write_shard) <= 2
        assert objects(prepared) == whole
        assert staged(folder) == []
        assert DataStore.open(prepared.location, verify_checksums=True).num_samples == CASES


def test_staged_cases_that_disappear_are_prepared_again(glands: Path, tmp_path: Path) -> None:
    """A lifecycle rule, or the other preparation of another version with the same cases, at its end."""
    root = Location.parse(tmp_path / "s") / "staging"

    def lose(number: int, item: object) -> None:
        if number == CASES:
            root.delete_keys([key for key in staged(tmp_path) if "/cases/" in key][:2])

    executor = Counting(lose)
    prepared = run(job(glands), tmp_path, executor=executor)
    assert executor.count(run_case_task) == 2 * CASES
    assert objects(prepared) == objects(run(job(glands), tmp_path / "whole"))


def test_it_gives_up_when_they_always_disappear(glands: Path, tmp_path: Path) -> None:
    root = Location.parse(tmp_path / "s") / "staging"
    with pytest.raises(StorageUnreachableError, match="disappeared 4 times"):
        run(job(glands), tmp_path, executor=Counting(lambda *_: root.delete_keys(staged(tmp_path)[:1])))


def test_another_plan_of_the_same_version_takes_no_shard_of_the_first(
    glands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two releases of this code might make them, of which the first was killed."""
    config = job(glands)

    def die(number: int, item: Any) -> None:
        if number == CASES + 1:
            raise KeyboardInterrupt

    for most in (3, 512):
        monkeypatch.setattr(writer, "_MOST_SHARD_SAMPLES", most)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path, executor=Counting(die))
        plans = {key.split("/")[3] for key in staged(tmp_path) if "/shards/" in key}
        assert len(plans) == 1, "the first plan's shard is overwritten, so its record may not stay"
    prepared = run(config, tmp_path)
    store = DataStore.open(prepared.location, verify_checksums=True)
    assert store.num_samples == CASES
    assert objects(prepared) == objects(run(config, tmp_path / "whole"))


def test_without_the_right_to_delete_it_ends_well_and_says_what_is_left(
    glands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Location, keys: Iterable[str]) -> None:
        if list(keys):
            raise AuthError(f"{self}: refused")

    monkeypatch.setattr(Location, "delete_keys", refused)
    prepared = run(job(glands), tmp_path)
    assert DataStore.open(prepared.location).num_samples == CASES
    assert "could not be removed" in prepared.warnings[-1]


class OutOfMemory:
    """Runs tasks here; those of some cases always run out of memory, or once."""

    def __init__(self, cases: set[str], *, always: bool) -> None:
        self._left = dict.fromkeys(cases, 99 if always else 1)
        self._inner = InProcessExecutor()

    def map(self, function: Any, items: Iterable[Any], *, description: str) -> Iterator[Any]:
        def limited(item: Any) -> Any:
            name = item.case.id if function is run_case_task else ""
            if self._left.get(name, 0):
                self._left[name] -= 1
                np.empty(2**60, np.uint8)
            return function(item)

        return self._inner.map(limited, items, description=description)


def test_fault_F7_out_of_memory_once_is_tried_again(glands: Path, tmp_path: Path) -> None:
    prepared = run(job(glands), tmp_path, executor=OutOfMemory({"train_2"}, always=False))
    assert objects(prepared) == objects(run(job(glands), tmp_path / "whole"))


def test_fault_F7_out_of_memory_twice_is_that_cases_problem(glands: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 problems") as refused:
        run(job(glands), tmp_path, executor=OutOfMemory({"train_2"}, always=True))
    (problem,) = refused.value.problems
    assert problem.startswith("train_2: its task died twice")
    assert "not enough memory" in problem
    config = job(glands, on_bad_case="quarantine")
    store = DataStore.open(run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True)).location)
    assert "train_2" not in store.cases.ids
    assert len(store.cases) == CASES - 1
    assert [entry["id"] for entry in store.info.provenance["quarantined"]] == ["train_2"]


def test_fault_N4_with_less_memory_it_is_another_version_and_not_another_content(glands: Path, tmp_path: Path) -> None:
    """Two preparations of one source at once, one of which cannot read a case: neither writes where the other does."""
    config = job(glands, on_bad_case="quarantine")
    poor: list[Prepared] = []

    def meanwhile(number: int, item: Any) -> None:
        if number == CASES + 1:  # the rich one has written its first shard
            poor.append(run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True)))

    rich = run(config, tmp_path, executor=Counting(meanwhile))
    assert (len(poor), rich.already_there) == (1, False)
    assert rich.version == find_version(config, "set", FileIndex(tmp_path / "i.db"))[0] != poor[0].version
    for prepared, cases in ((rich, CASES), (poor[0], CASES - 1)):
        store = DataStore.open(prepared.location, verify_checksums=True)
        assert (len(store.cases), store.info.version) == (cases, prepared.version)
    assert objects(rich) == objects(run(config, tmp_path / "whole"))
    assert any("the version without them" in warning for warning in poor[0].warnings)


def test_fault_F7_a_case_that_had_no_memory_is_tried_again_and_the_others_are_not(glands: Path, tmp_path: Path) -> None:
    config = job(glands, on_bad_case="quarantine")
    first = run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True))
    written = objects(first)
    assert sum("/cases/" in key for key in staged(tmp_path)) == CASES - 1, "the next one need not read them"
    again = run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True))
    assert (again.version, objects(again)) == (first.version, written)
    healed = run(config, tmp_path)
    assert healed.version != first.version
    assert len(DataStore.open(healed.location).cases) == CASES
    assert objects(healed) == objects(run(config, tmp_path / "whole"))
    assert staged(tmp_path) == []


def test_fault_F7_a_damaged_version_without_a_case_is_written_again(glands: Path, tmp_path: Path) -> None:
    config = job(glands, on_bad_case="quarantine")
    first = run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True))
    (first.location / "images/c/0/0/0/0").delete()
    again = run(config, tmp_path, executor=OutOfMemory({"train_2"}, always=True))
    assert any("was damaged and is written again" in warning for warning in again.warnings)
    assert len(DataStore.open(again.location, verify_checksums=True).cases) == CASES - 1


def test_a_shard_whose_task_dies_twice_fails_the_preparation(glands: Path, tmp_path: Path) -> None:
    class DeadShards(Counting):
        def map(self, function: Any, items: Iterable[Any], *, description: str) -> Iterator[Any]:
            for item in items:
                yield Died("killed") if function is write_shard else function(item)

    with pytest.raises(JobFailedError, match="killed"):
        run(job(glands), tmp_path, executor=DeadShards())


def test_a_picture_that_another_version_has_staged_is_not_read_again(glands: Path, tmp_path: Path) -> None:
    kill_after(CASES, glands, tmp_path / "killed")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(glands / "Train_Folder/img/1.png")
    assert len(staged(tmp_path / "killed")) == CASES
    prepared = run(job(glands), tmp_path / "killed")
    assert len(staged(tmp_path / "killed")) == 1, "only the old picture's is left, for gc"
    assert objects(prepared) == objects(run(job(glands), tmp_path / "whole"))
