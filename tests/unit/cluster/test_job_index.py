"""The list of jobs: complete, newest first, and cheap however many there are."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from udt_cluster.cluster import job_index
from udt_cluster.errors import AuthError
from udt_cluster.storage import Location, location


def at(second: int) -> str:
    return f"2026-11-23T04:{second // 60:02d}:{second % 60:02d}+00:00"


def put_record(storage: Location, job_id: str, submitted_at: str) -> None:
    (storage / "jobs" / job_id / "record.json").write_bytes(json.dumps({"submitted_at": submitted_at}).encode())


@pytest.fixture
def storage(tmp_path: Path) -> Location:
    return Location.parse(tmp_path)


def test_newest_first_and_no_more_than_wanted(storage: Location) -> None:
    assert job_index.newest(storage) == job_index.newest(storage, 3) == []
    for second, job_id in ((5, "b-2"), (1, "z-1"), (61, "a-3")):
        job_index.add(storage, job_id, at(second))
    assert job_index.newest(storage) == ["a-3", "b-2", "z-1"]
    assert job_index.newest(storage, 2) == ["a-3", "b-2"]
    job_index.discard(storage, "a-3", at(61))
    job_index.discard(storage, "never-was", at(61))
    assert job_index.newest(storage, 1) == ["b-2"]


def test_jobs_of_one_second_are_told_apart_by_the_milliseconds(storage: Location) -> None:
    for milliseconds in ("000", "017", "009"):
        job_index.add(storage, f"j-{milliseconds}", f"2026-11-23T04:00:00.{milliseconds}+00:00")
    assert job_index.newest(storage) == ["j-017", "j-009", "j-000"]


def test_doing_it_again_makes_no_second_entry(storage: Location) -> None:
    for _ in range(2):
        job_index.add(storage, "a-1", at(1))
    assert job_index.newest(storage) == ["a-1"]


def test_ids_answer_to_their_beginning_and_to_their_last_part(storage: Location) -> None:
    for number, job_id in enumerate(("glas-0123abcd", "glas-01ffffff", "glas", "acdc-77777777")):
        job_index.add(storage, job_id, at(number))
    assert job_index.matching(storage, "glas") == ["glas"], "an id itself is meant before a beginning"
    assert job_index.matching(storage, "gla") == ["glas", "glas-01ffffff", "glas-0123abcd"]
    assert job_index.matching(storage, "0123") == ["glas-0123abcd"]
    assert job_index.matching(storage, "7777") == ["acdc-77777777"]
    assert job_index.matching(storage, "x") == []


def test_a_storage_from_before_the_index_keeps_its_jobs(storage: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    put_record(storage, "old-1", at(1))
    put_record(storage, "old-2", at(2))
    (storage / "jobs/half-made/job.json").write_bytes(b"{}")
    with monkeypatch.context() as read_only:
        read_only.setattr(location.LocalObject, "write", _refuse)
        assert job_index.newest(storage) == ["old-2", "old-1"], "who lists may have no right to write"
        assert job_index.newest(storage, 1) == ["old-2"]
    job_index.add(storage, "new", at(3))
    assert job_index.newest(storage) == ["new", "old-2", "old-1"]


def _refuse(*_: object) -> None:
    raise AuthError("read-only")


def test_an_interrupted_taking_in_is_done_again(storage: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        put_record(storage, f"old-{number}", at(number))
    written: list[str] = []
    write = location.LocalObject.write

    def dies(target: location.LocalObject, chunks: list[bytes]) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(target.path.name)
        write(target, chunks)

    with monkeypatch.context() as patched:
        patched.setattr(location.LocalObject, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            job_index.add(storage, "new", at(9))
    assert len(job_index.newest(storage)) == 4
    job_index.add(storage, "new", at(9))
    assert job_index.newest(storage) == ["new", "old-3", "old-2", "old-1", "old-0"]


def test_fault_L1_of_many_submitters_at_once_none_is_lost_or_doubled(storage: Location) -> None:
    for number in range(3):
        put_record(storage, f"old-{number}", at(number))
    ids = [f"job-{number:03d}" for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda job_id: job_index.add(storage, job_id, at(10)), ids))
    assert sorted(job_index.newest(storage)) == sorted([*ids, "old-0", "old-1", "old-2"])


def test_fault_L1_ten_thousand_jobs_are_listed_without_a_look_at_any(storage: Location) -> None:
    folder = storage.local_path / "job-index"
    job_index.add(storage, "first", at(0))
    for number in range(10_000):
        (folder / job_index._name(f"job-{number:05d}", f"2026-11-23T05:00:00.{number % 1000:03d}+00:00")).touch()
    began = time.perf_counter()
    assert len(job_index.newest(storage, 50)) == 50
    assert job_index.matching(storage, "job-00777") == ["job-00777"]
    assert time.perf_counter() - began < 1.0
    assert len(job_index.newest(storage)) == 10_001
    assert not (storage.local_path / "jobs").exists()
