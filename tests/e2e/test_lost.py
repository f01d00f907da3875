"""Jobs whose cluster dies, whose hand-over goes wrong, and what stopped jobs leave behind: on a real cluster."""

import json
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.e2e.conftest import TINY, CommandLine
from tests.e2e.footprint import asked, environment_of, footprint, members, title
from tests.e2e.test_faults import ended, jobs_running, workers_of
from tests.servers.proxy import LOSE, Instead, Request, running_proxy
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3, pytest.mark.timeout(600)]


@pytest.fixture
def glas(udt_test_data: Path) -> list[str]:
    """A job that takes seconds an epoch, on real images."""
    return ["jobs/glas.yaml", "--set", f"data.source={udt_test_data / 'glas'}", *TINY]


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


@pytest.mark.timeout(900)
def test_fault_H1_a_job_whose_head_was_killed_is_lost_and_goes_on_in_the_same_run(
    own: CommandLine, glas: list[str]
) -> None:
    more = ["--stages", "prepare,train", "--set", "train.epochs=40", "--set", "train.global_batch_size=8"]
    own("submit", *glas, *more)
    before = own.json("status", "last")
    job = before["id"]
    wait_for(lambda: own.json("status", job)["progress"].get("epoch", 0) >= 2, seconds=240)
    gcs = next(process for process in members(own.home) if "gcs/gcs_server" in title(process))
    gcs.send_signal(signal.SIGKILL)
    wait_for(lambda: own.json("status", job)["state"] == "LOST", seconds=90)
    followed = own("status", job, "--follow", code=1)
    assert f"udt-cluster resume {job.rpartition('-')[2]}" in followed.stderr
    assert own.json("ls")[0]["state"] == "LOST"
    assert not [title(process) for process in members(own.home)], "the driver has not outlived its cluster"
    log = own("logs", job).stdout
    assert "stage train" in log
    assert re.search(r"epoch 2/40 step \d+ train_loss", log)
    assert not re.search(r"pid=|:actor_name:|Reporting training result|Deprecat", log)
    client = MlflowClient(own.tracking)
    assert client.get_run(before["run_id"]).info.status == "FAILED", "RUNNING is over"
    done = int(own.json("status", job)["progress"]["epoch"])
    own("resume", job, "--set", "model.num_heads=2", "--set", "model.architecture=udtransnet", code=3)
    own("resume", job, "--set", f"train.epochs={done + 2}", "--wait")
    after = own.json("status", job)
    assert (after["state"], after["life"], after["run_id"]) == ("SUCCEEDED", 1, before["run_id"])
    assert [attempt["kind"] for attempt in after["attempts"]] == ["driver_lost", "finished"]
    assert client.get_run(before["run_id"]).info.status == "FINISHED"
    experiment = client.get_run(before["run_id"]).info.experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{before['run_id']}'")
    assert [run.info.status for run in children] == ["FINISHED"]
    for key in ("val_dice", "train_loss"):
        steps = [point.step for point in client.get_metric_history(children[0].info.run_id, key)]
        assert steps == list(range(1, done + 3)), "each once, none twice, in both lives together"
    own("resume", job, code=3)


def test_fault_H2_a_lost_reply_and_a_cluster_without_an_agent_make_exactly_one_job(
    udt: CommandLine, glas: list[str]
) -> None:
    udt("dashboard")
    url = json.loads((udt.home / "local.json").read_text())["ray"]["url"]
    faults: list[Instead] = [Instead(500, b"No available agent to submit job, please try again later."), LOSE]

    def verdict(request: Request) -> Instead | None:
        is_submission = request.method == "POST" and request.path.rstrip("/") == "/api/jobs"
        return faults.pop(0) if is_submission and faults else None

    with running_proxy(int(url.rpartition(":")[2]), verdict) as proxy:
        far = udt.with_environment(
            UDT_JOBS_API=proxy.endpoint,
            MLFLOW_TRACKING_URI=udt.tracking,
            UDT_STORAGE=str(udt.home / "store"),
            RAY_AUTH_TOKEN_PATH=str(udt.home / "ray-token"),
        )
        known = {job["id"] for job in far.json("ls", "--all")}
        far("submit", *glas, "--stages", "prepare", "--wait")
    assert not faults, "both have happened"
    (new,) = [job for job in udt.json("ls", "--all") if job["id"] not in known]
    assert new["state"] == "SUCCEEDED"
    assert [entry["submission_id"] for entry in asked(udt, "/api/jobs/") if entry["submission_id"] == new["id"]]
    of_this_job = [entry for entry in asked(udt, "/api/jobs/") if entry["metadata"].get("udt_job") == new["id"]]
    assert len(of_this_job) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "moments",
    [("handed over", "refused", "left"), ("training", "placed", "handed over") * 7],
    ids=["three", "twenty-one"],
)
def test_fault_Z5_nothing_is_left_of_jobs_that_were_stopped_left_or_refused(
    udt: CommandLine, glas: list[str], moments: tuple[str, ...]
) -> None:
    udt("submit", *glas, "--stages", "prepare", "--wait")
    before, folders = footprint(udt), job_folders(udt)
    for moment in moments:
        {"refused": refuse, "left": leave}.get(moment, partial(stop_when, moment=moment))(udt, glas)
    wait_for(lambda: not footprint(udt).added(before), seconds=60)
    assert job_folders(udt) == folders, "neither record, nor log, nor checkpoint"


def stop_when(udt: CommandLine, glas: list[str], *, moment: str) -> None:
    """Submit, stop at this moment, remove."""
    udt("submit", *glas, "--set", "train.epochs=200")
    job = udt.json("status", "last")["id"]
    if moment != "handed over":
        wait_for(lambda: workers_of(udt), seconds=240)
    if moment == "training":
        wait_for(lambda: udt.json("status", job)["progress"].get("epoch"), seconds=240)
    udt("stop", job)
    udt("rm", job, "--yes")


def leave(udt: CommandLine, glas: list[str]) -> None:
    """Ctrl-C while the job is handed over; it may live on."""
    left = udt.start("submit", *glas)
    assert left.stderr is not None
    next(line for line in left.stderr if line.startswith("handing"))
    left.send_signal(signal.SIGINT)
    left.communicate(timeout=60)
    assert left.returncode == 130
    for job in jobs_running(udt):
        udt("stop", job["id"])
        udt("rm", job["id"], "--yes")


def refuse(udt: CommandLine, glas: list[str]) -> None:
    """A job that the nodes cannot run."""
    refused = udt("submit", *glas, "--set", "resources.workers=64", "--set", "train.global_batch_size=128", code=3)
    assert "64 workers" in refused.stderr


def job_folders(udt: CommandLine) -> set[str]:
    """What storage holds of jobs."""
    store = udt.home / "store"
    return {path.name for kind in ("jobs", "runs") for path in (store / kind).glob("*") if any(path.rglob("*.*"))}


@pytest.mark.slow
def test_fault_H1_a_driver_that_was_killed_is_seen_and_its_last_words_are_kept(
    udt: CommandLine, glas: list[str]
) -> None:
    udt("submit", *glas, "--set", "train.epochs=200")
    job = udt.json("status", "last")["id"]
    (driver,) = [
        process
        for process in members(udt.home)
        if environment_of(process).get("UDT_JOB_ID") == job and title(process).startswith("python -m udt_cluster")
    ]
    driver.send_signal(signal.SIGKILL)
    status = wait_for(lambda: ended(udt, job), seconds=60)
    assert (status["state"], "died without a word" in status["message"]) == ("FAILED", True)
    assert "stage preflight" in udt("logs", job).stdout
    assert MlflowClient(udt.tracking).get_run(status["run_id"]).info.status == "FAILED"
    udt("rm", job, "--yes")
