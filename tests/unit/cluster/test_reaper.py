"""Runs whose jobs have ended do not stay RUNNING in MLflow."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import udt_cluster.tracking
from udt_cluster.cluster.client import reaper
from udt_cluster.cluster.client.reaper import Ended, reap
from udt_cluster.cluster.record import FAILED, LOST, RUNNING, STOPPED, SUCCEEDED, JobRecord
from udt_cluster.storage import Location
from udt_cluster.tracking import EndedRuns

URI = "http://mlflow:5000"


@dataclass
class FakeTracker:
    """Statuses of runs by id; `end_stale` is the real one's."""

    runs: dict[str, str] = field(default_factory=lambda: {"p": "RUNNING"})
    is_away: bool = False
    seconds: float = 0.0
    asked: int = 0

    def __call__(self, uri: str) -> "FakeTracker":
        return self

    def end_stale(self, run_id: str, status: str, *, seconds: float) -> EndedRuns:
        self.asked += 1
        time.sleep(self.seconds)
        if self.is_away:
            return EndedRuns(problem="away")
        if self.runs.get(run_id) == "RUNNING":
            self.runs[run_id] = status
        return EndedRuns()


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTracker:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    fake = FakeTracker()
    monkeypatch.setattr(udt_cluster.tracking, "Tracker", fake, raising=False)
    return fake


def ended(tmp_path: Path, state: str, **changes: Any) -> Ended:
    job = Ended(JobRecord(Location.parse(tmp_path / "store"), "j"), run_id="p", state=state, life=0, run_ended=False)
    return replace(job, **changes)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(LOST, "FAILED"), (FAILED, "FAILED"), (STOPPED, "KILLED"), (SUCCEEDED, "FINISHED"), (RUNNING, "RUNNING")],
)
def test_fault_H1_runs_end_as_their_job_did(tracker: FakeTracker, tmp_path: Path, state: str, expected: str) -> None:
    reap([ended(tmp_path, state)], URI)
    assert tracker.runs == {"p": expected}


def test_a_job_is_reaped_once_in_each_life(tracker: FakeTracker, tmp_path: Path) -> None:
    for _ in range(3):
        reap([ended(tmp_path, LOST)], URI)
    assert tracker.asked == 1
    tracker.runs["p"] = "RUNNING"
    reap([ended(tmp_path, LOST, life=1)], URI)
    assert tracker.runs == {"p": "FAILED"}
    reap([ended(tmp_path, LOST, life=2, run_ended=True)], URI)
    assert tracker.asked == 2, "its driver has told MLflow"


def test_an_mlflow_that_is_away_is_silent_and_left_alone_for_a_minute(
    tracker: FakeTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.is_away = True
    for _ in range(3):
        reap([ended(tmp_path, LOST)], URI)
    assert tracker.asked == 1
    tracker.is_away = False
    monkeypatch.setattr(reaper, "_AGAIN_SECONDS", 0.0)
    reap([ended(tmp_path, LOST)], URI)
    assert tracker.runs == {"p": "FAILED"}


def test_a_slow_mlflow_does_not_hold_who_lists_many_jobs(tracker: FakeTracker, tmp_path: Path) -> None:
    tracker.seconds = 0.2
    many = [
        Ended(JobRecord(Location.parse(tmp_path / "store"), f"j-{number}"), f"p{number}", LOST, life=0, run_ended=False)
        for number in range(100)
    ]
    began = time.monotonic()
    reap(many, URI, seconds=0.5)
    assert time.monotonic() - began < 2.0
    assert 1 < tracker.asked < 10


def test_nothing_is_asked_where_nothing_is_due(tracker: FakeTracker, tmp_path: Path) -> None:
    reap([ended(tmp_path, RUNNING), ended(tmp_path, SUCCEEDED, run_ended=True)], URI)
    reap([ended(tmp_path, LOST)], None)
    assert tracker.asked == 0
