"""Sweeps and studies on a real cluster: killed, resumed, registered; every trial trained once."""

import json
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.e2e.conftest import CommandLine
from tests.e2e.footprint import asked, environment_of, members, title
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3, pytest.mark.timeout(900)]
TRIALS = 5


@pytest.fixture
def own(udt: CommandLine) -> Iterator[CommandLine]:
    """A cluster that may be killed."""
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    line = udt.at_home(home)
    try:
        yield line
    finally:
        line("down")
        shutil.rmtree(home, ignore_errors=True)


def job_file(folder: Path, source: Path, **sections: Any) -> str:
    """A job of seconds, on real images."""
    job = {
        "name": "glas-sweep",
        "data": {"source": str(source), "adapter": "glas", "group_by": "case", "size": [32, 32], "splits": {"k": 2}},
        "model": {"embed_dim": 16, "num_layers": 1},
        "train": {"epochs": 3, "global_batch_size": 16, "picture_every": 0, "augment": "none"},
        "evaluate": {"worst": 0, "metrics": ["dice"]},
        **sections,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return str(path)


def trials_of(udt: CommandLine, job: str) -> list[dict[str, Any]]:
    """The record's trials, read as any program would."""
    folder = udt.home / "store" / "jobs" / job / "trials"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9].json"))]


def ended(udt: CommandLine, job: str, count: int) -> bool:
    return sum(trial["state"] != "running" for trial in trials_of(udt, job)) >= count


def resumed(udt: CommandLine, job: str) -> None:
    """Resume, as soon as the job is known to have died."""
    wait_for(lambda: udt.json("status", job)["state"] in {"LOST", "FAILED"}, seconds=200, what="that it has died")
    udt("resume", job)


def kill_driver(udt: CommandLine, job: str) -> None:
    (driver,) = [
        process
        for process in members(udt.home)
        if environment_of(process).get("UDT_JOB_ID") == job and title(process).startswith("python -m udt_cluster")
    ]
    driver.send_signal(signal.SIGKILL)


def kill_head(udt: CommandLine, job: str) -> None:
    gcs = next(process for process in members(udt.home) if "gcs/gcs_server" in title(process))
    gcs.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "kills",
    [[kill_driver], pytest.param([kill_driver, kill_head], marks=pytest.mark.slow)],
    ids=["driver", "driver-then-head"],
)
def test_fault_T1_a_sweep_whose_driver_and_then_head_are_killed_trains_each_trial_once(
    own: CommandLine, udt_test_data: Path, tmp_path: Path, kills: list[Callable[[CommandLine, str], None]]
) -> None:
    tune = {
        "search": {
            "model.num_heads": {"choice": [1, 2, 4]},
            "model.num_layers": {"int": [1, 2]},
            "model.skips": {"subsets": True},
        },
        **{"min_epochs": 1, "budget": {"trials": TRIALS}, "concurrency": 2, "searcher": "random"},
    }
    own("submit", job_file(tmp_path, udt_test_data / "glas", tune=tune, repeat={"folds": [0, 1]}))
    job = own.json("status", "last")["id"]

    before: dict[int, Any] = {}
    for number, kill in enumerate(kills):
        wait_for(lambda least=2 * number + 1: ended(own, job, least), seconds=300, what="another trial's end")
        before |= {trial["number"]: trial for trial in trials_of(own, job) if trial["state"] != "running"}
        kill(own, job)
        resumed(own, job)
    wait_for(lambda: own.json("status", job)["state"] == "SUCCEEDED", seconds=400, what="the sweep's end")

    trials = trials_of(own, job)
    assert [trial["number"] for trial in trials] == list(range(TRIALS)), "their number is kept"
    assert {trial["state"] for trial in trials} <= {"finished", "pruned"}
    for number, trial in before.items():
        assert trials[number] == trial, "what had ended is as it was"
    check_runs(own, job, trials)
    highest = max(sum(run["value"] for run in trial["runs"]) for trial in trials if trial["state"] == "finished")
    registered = own.json("models", "show", "glas-sweep@candidate")
    assert registered["tags"]["job"] == job
    page = (own.home / "store" / "jobs" / job / "sweep" / "index.html").read_text()
    assert "model.num_heads" in page
    best_file = own.home / "store" / "jobs" / job / "best.yaml"
    own("validate", str(best_file))
    first = own.json("tune", "show", job)["trials"][0]
    assert sum(run["value"] for run in trials[first["number"]]["runs"]) == highest
    groups = asked(own, "/api/v0/placement_groups?limit=1000")["data"]["result"]["result"]
    assert [group for group in groups if group["state"] != "REMOVED"] == []


def check_runs(udt: CommandLine, job: str, trials: list[dict[str, Any]]) -> None:
    """In MLflow: a run for each trial, one below it for each fold, every epoch of each once."""
    client = MlflowClient(udt.tracking)
    parent = udt.json("status", job)["run_id"]
    experiment = client.get_run(parent).info.experiment_id
    runs = client.search_runs([experiment], max_results=500)
    names = Counter(run.info.run_name for run in runs)
    assert set(names.values()) == {1}, "no run was made twice"
    assert {run.info.status for run in runs} == {"FINISHED"}
    below: dict[str, list[Any]] = {}
    for run in runs:
        below.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run)
    for trial in trials:
        run = next(run for run in below[parent] if run.data.tags.get("trial") == str(trial["number"]))
        assert run.data.params["parameters"] == str(trial["parameters"])
        assert run.data.tags["trial_state"] == trial["state"]
        epochs = {}
        for fold in below.get(run.info.run_id, []):
            steps = [point.step for point in client.get_metric_history(fold.info.run_id, "val_dice")]
            assert steps == list(range(1, len(steps) + 1)), "each epoch once, in order"
            epochs[fold.info.run_name] = len(steps)
        if trial["state"] == "finished":
            assert list(epochs.values()) == [3, 3]


def test_a_study_answers_its_question(udt: CommandLine, udt_test_data: Path, tmp_path: Path) -> None:
    study = {
        "question": "Does a U-Net need its skip connections here?",
        "arms": {"all": {}, "none": {"model.skips": ["none"] * 4}},
        "reference": "all",
    }
    path = job_file(
        tmp_path, udt_test_data / "glas", study=study, model={"architecture": "unet"}, repeat={"folds": [0, 1]}
    )
    udt("submit", path, "--wait")
    status = udt.json("status", "last")
    assert status["state"] == "SUCCEEDED"
    folder = udt.home / "store" / "jobs" / status["id"] / "study"
    page = unescape((folder / "study.html").read_text())
    assert study["question"] in page
    assert "85 cases" in page
    found = json.loads((folder / "findings.json").read_text())
    assert found["conclusion"][0] in page
    shown = udt("study", "show", status["id"]).stdout
    assert found["conclusion"][0] in shown
    artifacts = {entry.path for entry in MlflowClient(udt.tracking).list_artifacts(status["run_id"], "study")}
    assert "study/study.html" in artifacts
    assert len((folder / "scores.csv").read_text().splitlines()) == 1 + 2 * 85, "each case once for each arm"
