"""Runs whose jobs have ended do not stay RUNNING in MLflow."""

import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster import reaper
from udt_cluster.cluster.reaper import Ended, end_runs, reap
from udt_cluster.cluster.record import FAILED, LOST, RUNNING, STOPPED, SUCCEEDED, JobRecord
from udt_cluster.errors import TrackingUnreachableError, UsageError
from udt_cluster.storage import Location

URI = "http://mlflow:5000"


@dataclass(frozen=True)
class FakeRun:
    run_id: str
    status: str
    parent_id: str | None = None


@dataclass
class FakeTracker:
    """Runs by id, with the calls of the real one that the reaper makes."""

    runs: dict[str, FakeRun] = field(default_factory=dict)
    is_away: bool = False
    hangs: threading.Event | None = None
    asked: int = 0

    def __call__(self, uri: str) -> "FakeTracker":
        return self

    def _answer(self) -> None:
        self.asked += 1
        if self.hangs is not None:
            self.hangs.wait(10)
        if self.is_away:
            raise TrackingUnreachableError("away")

    def list_runs(self, *, parent_id: str) -> list[FakeRun]:
        self._answer()
        return [run for run in self.runs.values() if run.parent_id == parent_id]

    def run(self, run_id: str) -> FakeRun:
        self._answer()
        if run_id not in self.runs:
            raise UsageError("no such run")
        return self.runs[run_id]

    def finish(self, run_id: str, status: str) -> None:
        self.runs[run_id] = replace(self.runs[run_id], status=status)

    def statuses(self) -> list[str]:
        return [run.status for run in self.runs.values()]


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTracker:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    fake = FakeTracker({"p": FakeRun("p", "RUNNING"), "c": FakeRun("c", "RUNNING", "p")})
    import udt_cluster.tracking

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
    assert tracker.statuses() == [expected, expected]


def test_what_has_ended_in_mlflow_stays_as_it_is(tracker: FakeTracker, tmp_path: Path) -> None:
    tracker.runs["c"] = FakeRun("c", "FINISHED", "p")
    end_runs(tracker, ended(tmp_path, LOST))  # type: ignore[arg-type]
    assert tracker.statuses() == ["FAILED", "FINISHED"]


def test_a_job_is_reaped_once_in_each_life(tracker: FakeTracker, tmp_path: Path) -> None:
    for _ in range(3):
        reap([ended(tmp_path, LOST)], URI)
    asked = tracker.asked
    assert asked == 2
    tracker.runs["p"] = FakeRun("p", "RUNNING")
    reap([ended(tmp_path, LOST, life=1)], URI)
    assert tracker.statuses()[0] == "FAILED"
    reap([ended(tmp_path, LOST, life=2, run_ended=True)], URI)
    assert tracker.asked == 2 * asked, "its driver has told MLflow"


def test_a_run_that_somebody_deleted_is_no_error(tracker: FakeTracker, tmp_path: Path) -> None:
    tracker.runs.clear()
    reap([ended(tmp_path, FAILED)], URI)
    assert JobRecord(Location.parse(tmp_path / "store"), "j").is_reaped(0)


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
    assert tracker.statuses() == ["FAILED", "FAILED"]


def test_an_mlflow_that_never_answers_holds_nobody(tracker: FakeTracker, tmp_path: Path) -> None:
    tracker.hangs = threading.Event()
    began = time.monotonic()
    reap([ended(tmp_path, LOST)], URI, seconds=0.1)
    reap([ended(tmp_path, LOST)], URI, seconds=5.0)
    took = time.monotonic() - began
    tracker.hangs.set()
    for thread in threading.enumerate():
        if thread.name == "udt-reaper":
            thread.join(5)
    assert took < 4.0
    assert tracker.statuses() == ["FAILED", "FAILED"], "what was under way has been done all the same"


def test_nothing_is_imported_where_nothing_is_due(tracker: FakeTracker, tmp_path: Path) -> None:
    known = set(sys.modules)
    reap([ended(tmp_path, RUNNING), ended(tmp_path, SUCCEEDED, run_ended=True)], URI)
    reap([ended(tmp_path, LOST)], None)
    assert tracker.asked == 0
    assert not {name for name in set(sys.modules) - known if name.startswith("mlflow")}
