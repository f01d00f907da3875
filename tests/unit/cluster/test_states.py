"""A job's state, judged from its driver's words, the cluster's, and silence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from udt_cluster.cluster.client import states
from udt_cluster.cluster.client.jobs import find_job, follow, list_jobs
from udt_cluster.cluster.client.states import ClusterView, judge, look, look_at
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.heartbeat import LOST_SECONDS, Heartbeat
from udt_cluster.cluster.record import (
    FAILED,
    FORMAT,
    LOST,
    PENDING,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    JobRecord,
    Record,
    State,
)
from udt_cluster.config.job import Job
from udt_cluster.errors import VersionError
from udt_cluster.storage import Location

JOB = Job.model_validate({"name": "acdc", "data": {"source": "/nfs/a", "adapter": "acdc"}})
NOBODY = "http://127.0.0.1:9"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobRecord:
    """A job that was submitted an hour ago and runs."""
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    made = JobRecord(Location.parse(tmp_path / "store"), "acdc-00000001")
    facts = Record(
        id=made.id,
        name="acdc",
        job_hash=JOB.hash,
        submitted_at=ago(3600),
        user="u",
        target="local",
        run_id="r",
        versions={},
        format=FORMAT,
    )
    made.create(facts, JOB, "name: acdc\n")
    made.write_state(State(state=RUNNING, stage="train"))
    return made


def alive(record: JobRecord, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver gave its last sign of life so long ago."""
    with monkeypatch.context() as patched:
        patched.setattr("udt_cluster.cluster.record.now_exactly", lambda: ago(seconds))
        record.write_alive(0)


@pytest.mark.parametrize(
    ("written", "said", "silent_for", "expected"),
    [
        (PENDING, "PENDING", 3600, PENDING),
        (RUNNING, "RUNNING", 100, RUNNING),
        (RUNNING, "RUNNING", 3600, LOST),  # a head that came back with its tables believes that it still runs
        (RUNNING, None, 3600, LOST),
        (PENDING, None, 3600, LOST),
        (RUNNING, None, 5, RUNNING),
        (PENDING, None, 5, PENDING),
        (SUCCEEDED, None, 3600, SUCCEEDED),
        (STOPPED, "STOPPED", 0, STOPPED),
        (RUNNING, "STOPPED", 0, STOPPED),
        (RUNNING, "FAILED", 0, FAILED),
        (RUNNING, "SUCCEEDED", 0, FAILED),
        (FAILED, "RUNNING", 0, FAILED),
    ],
)
def test_the_drivers_last_word_counts_then_the_clusters_then_its_signs_of_life(
    record: JobRecord,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    said: str | None,
    silent_for: float,
    expected: str,
) -> None:
    alive(record, silent_for, monkeypatch)
    view = ClusterView({record.id: said} if said else {})
    assert judge(record, State(state=written), view).state == expected


def test_a_later_life_is_known_to_the_cluster_by_another_name(
    record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive(record, 5, monkeypatch)
    view = ClusterView({record.id: "FAILED", f"{record.id}-r2": "RUNNING"})
    assert judge(record, State(state=RUNNING, life=2), view).state == RUNNING
    alive(record, 3600, monkeypatch)
    assert judge(record, State(state=RUNNING, life=3), view).state == LOST


def test_fault_H1_a_cluster_that_does_not_answer_makes_a_silent_job_lost(
    record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Target("lab", jobs_api=NOBODY, tracking=None, storage=record.storage.uri)
    alive(record, 5, monkeypatch)
    (status,) = list_jobs(gone)
    assert (status.state, status.note) == (
        RUNNING,
        f"the cluster at {NOBODY} does not answer; its driver was alive a moment ago",
    )
    alive(record, LOST_SECONDS + 80, monkeypatch)
    status = find_job(gone, "last")
    assert status.state == LOST
    assert "does not answer" in status.message
    assert "no sign of life for 2 min" in status.message


def test_fault_H1_who_follows_a_job_is_told_that_it_is_lost(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Target("lab", jobs_api=NOBODY, tracking=None, storage=record.storage.uri)
    monkeypatch.setattr("udt_cluster.cluster.client.states.LOST_SECONDS", 1.5)
    monkeypatch.setattr("udt_cluster.cluster.client.jobs._POLL_SECONDS", 0.1)
    record.write_alive(0)
    seen: list[str] = []
    assert follow(gone, record.id, on_update=lambda status: seen.append(status.state)).state == LOST
    assert seen == [RUNNING, LOST]


def test_a_local_cluster_that_is_down_is_not_asked(record: JobRecord) -> None:
    down = Target("local", storage=record.storage.uri)
    assert look(down).silent == look_at(down, record.id).silent == "its local cluster is not running"
    assert find_job(down, "last").state == LOST


def test_an_ended_job_is_shown_without_asking_the_cluster(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(target: Target) -> ClusterView:
        raise AssertionError("the cluster was asked")

    monkeypatch.setattr(states, "connect", asked)
    record.write_state(State(state=SUCCEEDED, run_ended=True))
    assert list_jobs(Target("lab", jobs_api=NOBODY, storage=record.storage.uri))[0].state == SUCCEEDED


def test_a_driver_gives_signs_of_life_until_a_later_life_begins(record: JobRecord) -> None:
    called: list[str] = []
    heart = Heartbeat(record, 0, ended=called.append, every=0.02)
    for _ in range(200):
        if record.alive_at() != record.record().submitted_at:
            break
        heart._thread.join(0.02)
    assert states.silence(record) < 5
    record.write_state(replace(record.state(), life=1))
    heart._thread.join(5.0)
    assert called == ["the job was resumed elsewhere"]
    heart.close()


def test_fault_H1_a_driver_whose_head_is_gone_gives_no_more_signs(
    record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    heart = Heartbeat(record, 0, ended=called.append, every=0.02)
    monkeypatch.setattr("udt_cluster.cluster.driver.heartbeat.os.getppid", lambda: 1)
    heart._thread.join(5.0)
    assert called == ["the cluster that started this driver is gone"]
    assert not heart._thread.is_alive()


def test_a_record_of_a_newer_version_is_refused_and_listed(record: JobRecord) -> None:
    record.create(replace(record.record(), format=FORMAT + 1), JOB, "")
    down = Target("local", storage=record.storage.uri)
    with pytest.raises(VersionError, match=f"a newer udt-cluster .format {FORMAT + 1}, this one reads"):
        find_job(down, "last")
    (status,) = list_jobs(down)
    assert (status.id, status.state) == (record.id, "NEWER")
    assert VersionError.exit_code == 3


def test_what_a_newer_version_adds_to_a_state_is_passed_over(record: JobRecord) -> None:
    (record.folder / "state.json").write_bytes(b'{"state": "RUNNING", "mood": "good"}')
    assert record.state() == State(state=RUNNING)
