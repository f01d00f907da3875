"""A cluster that is a dictionary: the same functions as the real one, without Ray, MLflow or storage."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from udt_cluster.cli.app import main
from udt_cluster.errors import UsageError

RESULTS = {
    "prepare": {
        "dataset": "acdc",
        "version": "ab12",
        "cases": 8,
        "samples": 120,
        "test_cases": 3,
        "warnings": ["folds may leak"],
    },
    "train": {"heart-1a2b3c4d-f0-s1": {"epochs": 10, "best_epoch": 9, "best_val_dice": 0.87}},
    "evaluate": {
        "headline": "Dice 0.87 (2 cases; baseline 0.61)",
        "mean": {"dice": 0.87},
        "runs": {
            "heart-1a2b3c4d-f0-s1": {
                "validation": {
                    "cases": 2,
                    "unit": "mm",
                    "mean": {"dice": 0.87, "iou": 0.77, "hd95": float("nan")},
                    "baseline": {"dice": 0.61},
                    "warnings": ["empty masks: 1"],
                }
            }
        },
    },
    "register": {"name": "heart", "version": 3, "alias": "candidate"},
}


@dataclass(frozen=True)
class FakeStatus:
    id: str = "heart-1a2b3c4d"
    name: str = "heart"
    state: str = "RUNNING"
    message: str = ""
    stage: str = "train"
    progress: dict[str, Any] = field(default_factory=dict)
    submitted_at: str = "2026-01-02T03:04:05+00:00"
    finished_at: str = ""
    note: str = ""
    dashboard_url: str = "http://127.0.0.1:8265/#/jobs/heart-1a2b3c4d"
    mlflow_url: str = "http://127.0.0.1:5000/#/runs/r1"
    run_id: str = "r1"
    target: str = "local"
    results: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    life: int = 0
    run_ended: bool = False
    attempts: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FakeCluster:
    """What the fake functions do is decided by these fields; what was asked of them is in `calls`."""

    known: list[FakeStatus] = field(default_factory=list)
    updates: list[FakeStatus] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    fails: BaseException | None = None
    models_: list[dict[str, Any]] = field(default_factory=list)
    sets: list[dict[str, Any]] = field(default_factory=list)
    report: Any = None

    def _asked(self, name: str, what: Any = None) -> None:
        self.calls.append((name, what))
        if self.fails is not None:
            raise self.fails

    def plan(self, job: Any, target: Any) -> list[tuple[str, str]]:
        self.calls.append(("plan", job.name))
        return [("job", job.name), ("target", target.name)]

    def submit(self, job: Any, *, target: Any, job_text: str, on_event: Callable[[str], None]) -> FakeStatus:
        self._asked("submit", (job, job_text, target.name))
        on_event("looking at the nodes")
        return FakeStatus(state="PENDING", stage="")

    def list_jobs(self, target: Any, *, limit: int | None = None) -> list[FakeStatus]:
        self._asked("list_jobs", target.name)
        return self.known[:limit]

    def find_job(self, target: Any, wanted: str) -> FakeStatus:
        self._asked("find_job", wanted)
        found = [status for status in self.known if wanted in (status.id, "last") or status.id.endswith(wanted)]
        if not found:
            raise UsageError(f"no job {wanted!r}")
        return found[0]

    def follow(self, target: Any, job_id: str, *, on_update: Callable[[FakeStatus], None]) -> FakeStatus:
        self.calls.append(("follow", job_id))
        for status in self.updates:
            on_update(status)
        if self.fails is not None:
            raise self.fails
        return self.updates[-1]

    def logs(self, target: Any, job_id: str, *, follow: bool, rank: int | None = 0) -> Iterator[str]:
        self.calls.append(("logs", (follow, rank)))
        yield "first\n"
        yield "second\n"
        if self.fails is not None:
            raise self.fails

    def stop(self, target: Any, job_id: str) -> FakeStatus:
        self._asked("stop", job_id)
        return replace(self.known[0], state="STOPPED")

    def resume(self, target: Any, job_id: str, *, overrides: Any, on_event: Callable[[str], None]) -> FakeStatus:
        self._asked("resume", (job_id, tuple(overrides)))
        return replace(self.known[0], state="PENDING", life=1)

    def remove(self, target: Any, job_id: str) -> None:
        self._asked("remove", job_id)

    def evaluate(self, target: Any, job_id: str, *, test: bool, on_event: Callable[[str], None]) -> FakeStatus:
        self._asked("evaluate", (job_id, test))
        return FakeStatus(id="heart-99999999", state="PENDING", stage="")

    def prepare_data(self, job: Any, *, target: Any, to: str | None, on_event: Callable[[str], None]) -> dict[str, Any]:
        self._asked("prepare_data", (job.data.source, to))
        return {**self.sets[0], "already_there": True, "seconds": 0.4}

    def data_sets(self, target: Any) -> list[dict[str, Any]]:
        self._asked("data_sets")
        return self.sets

    def check_data(
        self, config: Any, *, target: Any, pictures: bool, on_progress: Callable[[int, int, str], None]
    ) -> Any:
        self._asked("check_data", (config.adapter, pictures))
        on_progress(1, 1, "cases")
        return self.report

    def remove_data(self, target: Any, uri: str) -> dict[str, Any]:
        self._asked("remove_data", uri)
        return self.sets[0]

    def collect_data(self, target: Any, *, older_than: timedelta, dry_run: bool) -> list[dict[str, Any]]:
        self._asked("collect_data", (older_than, dry_run))
        return [{"uri": "s3://bucket/x/data/acdc/ab12", "bytes": 2000, "why": "not used"}]

    def show_data(self, target: Any, uri: str, *, preview: Path | None, augment: str = "released") -> dict[str, Any]:
        self._asked("show_data", (uri, preview))
        return {**self.sets[0], "info": {}, **({"preview": str(preview)} if preview else {})}

    def models(self, target: Any, *, limit: int | None = None) -> list[dict[str, Any]]:
        self._asked("models")
        return self.models_[:limit]

    def remove_model(self, target: Any, reference: str, *, force: bool = False) -> dict[str, Any]:
        self._asked("remove_model", (reference, force))
        return self.models_[0]

    def show_model(self, target: Any, reference: str) -> dict[str, Any]:
        self._asked("show_model", reference)
        return {**self.models_[0], "uri": "models:/heart/3", "tags": {"udt.job": "heart-1a2b3c4d"}}

    def dashboards(self, target: Any) -> dict[str, str]:
        self._asked("dashboards")
        return {"ray": "http://127.0.0.1:8265", "mlflow": "http://127.0.0.1:5000"}

    def down(self) -> list[str]:
        self._asked("down")
        return ["Ray at http://127.0.0.1:8265 (process group 7)"]


# Which functions of the fake stand in for which module of the cluster.
PLACES = {
    "udt_cluster.cluster.client.jobs": (
        *("plan", "submit", "list_jobs", "find_job", "follow", "logs", "stop", "resume", "remove", "evaluate"),
    ),
    "udt_cluster.cluster.client.catalog": ("models", "show_model", "remove_model", "dashboards"),
    "udt_cluster.cluster.client.datasets": (
        *("check_data", "prepare_data", "data_sets", "show_data", "remove_data", "collect_data"),
    ),
    "udt_cluster.cluster.client.local": ("down",),
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> FakeCluster:
    """The fake, in the place of the real modules."""
    import udt_cluster.cluster.client

    fake = FakeCluster()
    for place, names in PLACES.items():
        module = ModuleType(place)
        for name in names:
            setattr(module, name, getattr(fake, name))
        monkeypatch.setitem(sys.modules, place, module)
        monkeypatch.setattr(udt_cluster.cluster.client, place.rpartition(".")[2], module, raising=False)
    for variable in ("UDT_TARGET", "UDT_JOBS_API", "UDT_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    return fake


@dataclass(frozen=True)
class Ran:
    """What one command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process."""

    def command(*words: str) -> Ran:
        capfd.readouterr()
        code = main(words)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "heart.yaml"
    path.write_text("name: heart\ndata: {source: ACDC, adapter: acdc}\n")
    return path
