"""What may change when a job goes on, what may not, and what a refusal shows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster.client import resumption
from udt_cluster.cluster.client.handover import InDoubtError
from udt_cluster.cluster.client.jobs import resume as resume_job
from udt_cluster.cluster.client.resumption import changed, differences, resume
from udt_cluster.cluster.client.submit import Source
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.heartbeat import LOST_SECONDS, silence
from udt_cluster.cluster.record import (
    FAILED,
    FORMAT,
    LOST,
    PENDING,
    RUNNING,
    SUCCEEDED,
    Attempt,
    JobRecord,
    Record,
    State,
)
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFileError, RefusedError, TargetUnreachableError, VersionError
from udt_cluster.storage import Location

JOB = Job.model_validate({"name": "acdc", "data": {"source": "/nfs/a", "adapter": "acdc"}})
PREPARED = {"prepare": {"version": "ab12", "group_by": "patient", "cases": 8}}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobRecord:
    """A job that failed while it trained."""
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    made = JobRecord(Location.parse(tmp_path / "store"), "acdc-00000001")
    facts = Record(
        id=made.id,
        name="acdc",
        job_hash=JOB.hash,
        submitted_at="2026-01-01T00:00:00.000+00:00",
        user="u",
        target="local",
        run_id="r",
        versions=resumption.versions(),
        data_version="ab12",
        group_by="case",
        format=FORMAT,
    )
    made.create(facts, JOB, "name: acdc\n")
    made.write_state(State(state=FAILED, stage="train", message="out of memory", results=PREPARED))
    return made


@pytest.fixture
def handed(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lives that were handed over, to a target that is up."""
    lives: list[int] = []

    def hand_over(target: Target, given: JobRecord, *, life: int) -> None:
        assert given.state() == State(state=PENDING, life=life, results=PREPARED)
        assert silence(given) < LOST_SECONDS, "whoever looks at it now does not take it for lost"
        lives.append(life)

    monkeypatch.setattr(resumption, "ready", lambda target, say: (target, None))
    monkeypatch.setattr(resumption, "hand_over", hand_over)
    monkeypatch.setattr(resumption, "await_preflight", lambda target, record, *, life: None)
    monkeypatch.setattr(resumption, "look_at_source", lambda job, *, upload: Source())
    return lives


def go_on(record: JobRecord, overrides: Sequence[str] = ()) -> list[str]:
    said: list[str] = []
    resume(record, target=Target("local", storage=record.storage.uri), overrides=overrides, say=said.append)
    return said


def test_a_job_goes_on_as_itself_with_its_data_and_what_was_changed(record: JobRecord, handed: list[int]) -> None:
    go_on(record, ["train.epochs=20", "resources.workers=2"])
    go_on(record, ["retry.max=9"])
    assert handed == [1, 2]
    life = record.life(2)
    assert life is not None
    assert (life.data_version, life.group_by, life.overrides) == ("ab12", "patient", ("retry.max=9",))
    job = record.job()
    assert (job.train.epochs, job.resources.workers.max, job.retry.max) == (20, 2, 9)
    assert record.record().run_id == "r"


def test_every_change_that_may_be_made_may_be_made() -> None:
    kept = changed(
        JOB,
        ["train.epochs=7", "train.early_stopping=3", "train.checkpoint_every=5m", "train.keep=4", "retry.hang=2m"],
        trained=True,
    )
    assert (kept.train.epochs, kept.train.early_stopping, kept.train.keep) == (7, 3, 4)


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        (["model.num_heads=8"], "model.num_heads: 4 -> 8"),
        (["train.lr=0.5"], "train.lr: 0.001 -> 0.5"),
        (["data.size=[64,64]"], "data.size: [224, 224] -> [64, 64]"),
        (["repeat.folds=[0,1]"], "repeat.folds: [0] -> [0, 1]"),
    ],
)
def test_another_model_or_recipe_is_refused_with_the_difference(
    record: JobRecord, handed: list[int], overrides: list[str], shown: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        go_on(record, [*overrides, "train.epochs=3"])
    assert refused.value.problems == (shown,)
    assert handed == []
    assert record.state().state == FAILED


def test_an_override_that_is_wrong_is_said_without_a_file_nobody_wrote(record: JobRecord) -> None:
    with pytest.raises(JobFileError, match=r"^the job cannot run with these changes") as wrong:
        go_on(record, ["train.epochs=none"])
    assert "train.epochs" in wrong.value.problems[0]


def test_fault_W1_zero_checkpoints_keep_their_number_of_workers() -> None:
    train = JOB.train.model_copy(update={"zero_stage": 2})
    zero = Job.from_json(JOB.model_copy(update={"train": train}).to_json())
    with pytest.raises(RefusedError, match=r"fit 1 workers only, not 2; resume with resources.workers=1"):
        changed(zero, ["resources.workers=2"], trained=True)
    assert changed(zero, ["resources.workers=2"], trained=False).resources.workers.max == 2
    assert changed(JOB, ["resources.workers=2"], trained=True).resources.workers.max == 2


def test_other_data_is_refused_with_the_difference(
    record: JobRecord, handed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "look_at_source", lambda job, *, upload: Source("cd34", "patient", (), 9))
    with pytest.raises(RefusedError, match="not what it was when the job began") as refused:
        go_on(record)
    assert refused.value.problems == ("data version: ab12 -> cd34", "cases: 8 prepared -> 9 found")
    assert handed == []
    monkeypatch.setattr(resumption, "look_at_source", lambda job, *, upload: Source("ab12", "patient", (), 8))
    go_on(record)
    assert handed == [1]


def test_other_packages_are_said(record: JobRecord, handed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    old = resumption.versions()
    monkeypatch.setattr(resumption, "versions", lambda: {**old, "torch": "99.0"})
    assert any(f"torch {old['torch']} and goes on with 99.0" in line for line in go_on(record))
    assert not any("torch" in line for line in go_on(record)), "the life before had that version already"


def test_a_job_that_could_not_be_handed_over_stays_as_it_had_ended(
    record: JobRecord, handed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise TargetUnreachableError("nobody")

    monkeypatch.setattr(resumption, "hand_over", refuses)
    with pytest.raises(TargetUnreachableError):
        go_on(record)
    state = record.state()
    assert (state.state, state.message, state.results, state.life) == (FAILED, "out of memory", PREPARED, 1)


def test_a_lost_job_that_could_not_be_handed_over_does_not_look_alive(
    record: JobRecord, handed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write_state(State(state=RUNNING, stage="train", results=PREPARED))

    def refuses(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resumption, "hand_over", refuses)
    with pytest.raises(KeyboardInterrupt):
        go_on(record)
    assert record.state().state == FAILED


def test_a_job_in_doubt_stays_handed_over(
    record: JobRecord, handed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubts(*_: Any, **__: Any) -> None:
        raise InDoubtError("who knows")

    monkeypatch.setattr(resumption, "hand_over", doubts)
    with pytest.raises(InDoubtError):
        go_on(record)
    assert (record.state().state, record.state().life) == (PENDING, 1)


def test_only_what_has_ended_goes_on(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Target("local", storage=record.storage.uri)
    record.write_state(State(state=SUCCEEDED, run_ended=True))
    with pytest.raises(RefusedError, match="has finished"):
        resume_job(place, "last", overrides=(), on_event=print)
    record.write_state(State(state=RUNNING))
    record.write_alive(0)
    with pytest.raises(RefusedError, match=r"is RUNNING \(its local cluster is not running; .*counts as LOST"):
        resume_job(place, "last", overrides=(), on_event=print)


def test_a_record_of_another_version_is_refused(record: JobRecord) -> None:
    place = Target("local", storage=record.storage.uri)
    (record.folder / "job.json").write_bytes(JOB.to_json().replace('"epochs"', '"rounds"').encode())
    with pytest.raises(VersionError, match="submitted by another version of udt-cluster"):
        resume_job(place, "last", overrides=(), on_event=print)
    record.create(replace(record.record(), format=FORMAT + 1), JOB, "")
    with pytest.raises(VersionError, match="recorded by a newer udt-cluster"):
        resume_job(place, "last", overrides=(), on_event=print)


def test_differences_name_the_field_and_both_values() -> None:
    assert differences({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}) == [
        "a.c: [1] -> [2]",
        "d: 2 -> None",
        "e: None -> 3",
    ]
    assert differences(JOB.model_dump(mode="json"), JOB.model_dump(mode="json")) == []


def test_attempts_make_a_job_one_that_has_trained(record: JobRecord, handed: list[int]) -> None:
    record.write_attempt(Attempt(f"{record.id}-f0-s1", 0, 1, "2026-01-01T00:00:00+00:00", kind=LOST))
    go_on(record, ["resources.workers=2"])
    assert handed == [1]


def test_a_sweep_that_goes_on_compares_what_is_alike() -> None:
    tune = {"search": {"train.lr": {"choice": [0.1, 0.01]}}, "searcher": "grid"}
    job = Job.model_validate({"name": "a", "data": {"source": "/d", "adapter": "acdc"}, "tune": tune})
    with pytest.raises(RefusedError, match="would not be comparable") as raised:
        changed(job, ["train.epochs=7"], trained=False, compares=True)
    assert list(raised.value.problems) == ["train.epochs: 100 -> 7"]
    assert changed(job, ["retry.max=7"], trained=False, compares=True).retry.max == 7
    assert changed(job, ["train.epochs=7"], trained=False).train.epochs == 7
