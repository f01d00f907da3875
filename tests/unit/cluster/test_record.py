"""The record of a job, and how its state is judged from it and from what the cluster says."""

from dataclasses import replace
from pathlib import Path

import pytest

from udt_cluster.cluster.client.jobs import find_job, remove
from udt_cluster.cluster.client.states import ClusterView
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import (
    RUNNING,
    Attempt,
    JobRecord,
    Record,
    State,
    list_records,
)
from udt_cluster.config.job import Job
from udt_cluster.errors import RefusedError, UsageError
from udt_cluster.storage import Location

JOB = Job.model_validate({"name": "acdc", "data": {"source": "/nfs/a", "adapter": "acdc"}})


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    return Location.parse(str(tmp_path / "store"))


def add(storage: Location, job_id: str, at: str) -> JobRecord:
    record = JobRecord(storage, job_id)
    facts = Record(
        id=job_id, name="acdc", job_hash=JOB.hash, submitted_at=at, user="u", target="local", run_id="r", versions={}
    )
    record.create(facts, JOB, "name: acdc\n")
    return record


def test_a_record_comes_back_as_it_was(storage: Location) -> None:
    record = add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00")
    again = JobRecord(storage, "acdc-00000001")
    assert again.job() == JOB
    assert again.record().run_id == "r"
    assert again.state() == State()
    assert again.progress() == {}
    record.write_state(State(state=RUNNING, stage="train"))
    assert again.state().stage == "train"
    assert [found.id for found in list_records(storage)] == ["acdc-00000001"]


def test_fault_J1_two_jobs_of_one_name_are_two_jobs(storage: Location) -> None:
    add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00")
    add(storage, "acdc-0000000f", "2026-01-02T00:00:00+00:00")
    target = Target("local", storage=storage.uri)
    assert find_job(target, "last").id == "acdc-0000000f"
    assert find_job(target, "acdc-00000001").id == "acdc-00000001"
    assert find_job(target, "0000000f").id == "acdc-0000000f"
    with pytest.raises(UsageError, match="could be any of acdc-00000001, acdc-0000000f"):
        find_job(target, "acdc")
    with pytest.raises(UsageError, match="no job 'glas'"):
        find_job(target, "glas")
    runs = {JobRecord(storage, name).runs.uri for name in ("acdc-00000001", "acdc-0000000f")}
    assert len(runs) == 2


def test_a_lost_job_can_be_removed_whole(storage: Location) -> None:
    record = add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00")
    (record.runs / "r" / "checkpoints" / "x").write_bytes(b"1")
    target = Target("local", storage=storage.uri)
    remove(target, "last")
    assert [entry.key for entry in storage.entries()] == ["job-index/0"]


def test_a_running_job_is_not_removed(storage: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00").write_alive(0)
    monkeypatch.setattr(
        "udt_cluster.cluster.client.jobs.look", lambda target: ClusterView({"acdc-00000001": "RUNNING"})
    )
    with pytest.raises(RefusedError, match="stop it first"):
        remove(Target("local", storage=storage.uri), "last")


def test_attempts_come_back_in_order_and_as_they_were_last(storage: Location) -> None:
    record = add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00")
    assert record.attempts() == []
    first = Attempt("acdc-00000001-f0-s1", 0, 2, "2026-01-01T00:00:01+00:00", nodes=("node-a", "node-b"))
    second = Attempt("acdc-00000001-f0-s1", 1, 1, "2026-01-01T00:00:09+00:00", resumed_step=6)
    other = Attempt("acdc-00000001-f1-s1", 0, 1, "2026-01-01T00:00:05+00:00")
    for attempt in (second, first, other):
        record.write_attempt(attempt)
    ended = replace(first, ended_at="2026-01-01T00:00:07+00:00", kind="worker_died", cause="killed", lost_steps=2)
    record.write_attempt(ended)
    assert record.attempts() == [ended, other, second]
    assert record.attempts("acdc-00000001-f0-s1") == [ended, second]


def test_a_job_is_scored_again_as_its_sweep_has_made_it(storage: Location) -> None:
    record = add(storage, "acdc-00000001", "2026-01-01T00:00:00+00:00")
    assert record.trained_job() == record.job()
    best = {"number": 3, "score": 0.9, "settings": {"model.num_heads": 2, "train.lr": 0.01}}
    record.write_state(replace(record.state(), results={"tune": {"best": best}}))
    job = record.trained_job()
    assert (job.model.num_heads, job.train.lr, job.tune) == (2, 0.01, None)
