"""What goes wrong on a real cluster: a killed worker, an interrupted follower, those who should not get in."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.e2e.conftest import CANARY, TINY, CommandLine
from tests.e2e.footprint import title
from tests.servers.swift import S3Server
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def glas(udt_test_data: Path) -> list[str]:
    """A job that takes seconds an epoch, on real images."""
    return ["jobs/glas.yaml", "--set", f"data.source={udt_test_data / 'glas'}", *TINY]


def workers_of(udt: CommandLine) -> list[psutil.Process]:
    """The training workers of this home's cluster."""
    head = psutil.Process(json.loads((udt.home / "local.json").read_text())["ray"]["pid"])
    return [child for child in head.children(recursive=True) if "RayTrainWorker" in title(child)]


def test_fault_C5_a_killed_worker_resumes_and_every_metric_arrives_once(udt: CommandLine, glas: list[str]) -> None:
    more = ["--set", "train.epochs=4", "--set", "resources.workers=2", "--set", "train.global_batch_size=8"]
    udt("submit", *glas, *more, "--set", "data.size=[64,64]")
    job = udt.json("status", "last")["id"]
    wait_for((udt.home / "store" / "jobs" / job / "progress.json").exists, seconds=240)
    victims = workers_of(udt)
    assert len(victims) == 2
    victims[0].send_signal(signal.SIGKILL)
    status = wait_for(lambda: ended(udt, job), seconds=300)
    assert status["state"] == "SUCCEEDED", udt("logs", job).stdout[-3000:]
    client = MlflowClient(udt.tracking)
    experiment = client.get_run(status["run_id"]).info.experiment_id
    child = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{status['run_id']}'")
    assert len(child) == 1
    for key in ("val_dice", "train_loss", "lr"):
        assert [point.step for point in client.get_metric_history(child[0].info.run_id, key)] == [1, 2, 3, 4]
    log = udt("logs", job).stdout
    assert not re.search(r"epoch 1/4.*epoch 1/4", log, re.DOTALL), "epoch 1 was committed, so it is not trained again"


def ended(udt: CommandLine, job: str) -> dict[str, Any] | None:
    """The status, once the job has ended."""
    status: dict[str, Any] = udt.json("status", job)
    return status if status["state"] in {"SUCCEEDED", "FAILED", "STOPPED", "LOST"} else None


def test_fault_Z5_ctrl_c_leaves_the_job_alive_and_stop_leaves_nothing(
    udt: CommandLine, glas: list[str], request: pytest.FixtureRequest
) -> None:
    following = udt.start("submit", *glas, "--set", "train.epochs=200", "--set", "register.model=never", "--wait")
    request.addfinalizer(lambda: stop_all(udt, following))
    wait_for(lambda: jobs_running(udt), seconds=120)
    job = jobs_running(udt)[0]["id"]
    wait_for(lambda: udt.json("status", job)["progress"].get("epoch"), seconds=240)
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=60)
    assert following.returncode == 130
    assert "udt-cluster status" in said, "it says how to return"
    assert "Traceback" not in said
    assert udt.json("status", job)["state"] == "RUNNING"
    udt("rm", job, "--yes", code=3)
    udt("stop", job)
    status = udt.json("status", job)
    assert status["state"] == "STOPPED"
    wait_for(lambda: not workers_of(udt), seconds=60)
    assert not [model for model in udt.json("models", "ls") if model["name"] == "never"]
    client = MlflowClient(udt.tracking)
    experiment = client.get_run(status["run_id"]).info.experiment_id
    runs = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{status['run_id']}'")
    assert {run.info.status for run in runs} == {"KILLED"}
    assert client.get_run(status["run_id"]).info.status == "KILLED"
    udt("stop", job, code=3)
    udt("rm", job, "--yes")
    udt("status", job, code=2)


def stop_all(udt: CommandLine, following: "subprocess.Popen[str]") -> None:
    """A test that failed half-way leaves no job behind that takes the cores of the next ones."""
    following.kill()
    following.wait()
    for job in jobs_running(udt):
        udt("stop", job["id"])


def jobs_running(udt: CommandLine) -> list[dict[str, Any]]:
    """Jobs that have not ended."""
    if not (udt.home / "local.json").exists():
        return []
    return [job for job in udt.json("ls") if job["state"] in {"PENDING", "RUNNING"}]


def test_fault_J1_the_same_job_twice_is_two_runs(udt: CommandLine, glas: list[str]) -> None:
    for _ in range(2):
        udt("submit", *glas, "--stages", "prepare", "--wait")
    first, second = [job for job in udt.json("ls") if job["stage"] == "prepare"][:2]
    assert first["id"] != second["id"]
    assert first["run_id"] != second["run_id"]
    assert first["name"] == second["name"]


def status_code(url: str, token: str | None) -> int:
    """What a GET is answered with."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_fault_S1_the_local_head_asks_for_its_token(udt: CommandLine) -> None:
    udt("dashboard", "--json")
    url = json.loads((udt.home / "local.json").read_text())["ray"]["url"]
    token = (udt.home / "ray-token").read_text()
    assert status_code(f"{url}/api/jobs/", None) == 401
    assert status_code(f"{url}/api/jobs/", "0" * 64) == 403
    assert status_code(f"{url}/api/jobs/", token) == 200
    assert (udt.home / "ray-token").stat().st_mode & 0o777 == 0o600


def test_fault_S2_no_secret_is_written_anywhere(udt: CommandLine, s3_server: S3Server, glas: list[str]) -> None:
    on_s3 = udt.with_environment(UDT_STORAGE=f"s3://{s3_server.make_bucket()}")
    said = on_s3("submit", *glas, "--stages", "prepare", "--wait")
    secrets = [CANARY, s3_server.secret_key, (udt.home / "ray-token").read_text()]
    assert not any(secret in said.stdout + said.stderr for secret in secrets)
    allowed = {udt.home / "ray-token"}
    files = [path for path in udt.home.rglob("*") if path.is_file() and path not in allowed]
    found = [(path, secret[:6]) for path in files for secret in secrets if secret.encode() in read(path)]
    assert not found
    token = secrets[2]
    url = json.loads((udt.home / "local.json").read_text())["ray"]["url"]
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        listed = answer.read().decode()
    assert "UDT_JOB_ID" in listed, "the job's environment is listed there"
    assert not any(secret in listed for secret in secrets)


def read(path: Path) -> bytes:
    """The bytes of a file, sockets and vanished ones aside."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_fault_S5_a_job_file_cannot_run_a_command(udt: CommandLine, tmp_path: Path) -> None:
    canary = udt.home / "executed"
    folder = Path(f"{tmp_path}/data; touch {canary}; `touch {canary}` | touch {canary} & '; touch {canary}")
    write_pairs(folder, count=4)
    job = tmp_path / "job.yaml"
    data = {"source": str(folder), "adapter": "image_folder", "group_by": "case", "size": [32, 32], "splits": {"k": 2}}
    data["classes"] = [f"$(touch {canary})"]
    job.write_text(json.dumps({"name": "a", "data": data}))
    udt("submit", str(job), "--stages", "prepare", "--wait")
    status = udt.json("status", "last")
    assert status["results"]["prepare"]["cases"] == 4, "the value arrived verbatim"
    assert status["results"]["prepare"]["class_names"] == ["background", f"$(touch {canary})"]
    assert not canary.exists()


def write_pairs(folder: Path, *, count: int) -> None:
    """Images and masks of coarse squares; no two images look alike."""
    for index in range(count):
        squares = np.random.default_rng(index).integers(0, 256, (5, 5), dtype=np.uint8)
        pixels = np.kron(squares, np.ones((8, 8), np.uint8))
        for name, values in (("images", pixels), ("masks", (pixels > 100).astype(np.uint8))):
            path = folder / name / f"case{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)


def test_fault_S6_a_job_has_no_runtime_environment(udt: CommandLine, tmp_path: Path) -> None:
    for field in ("runtime_env", "pip", "py_executable", "working_dir", "container", "env_vars"):
        job = tmp_path / f"{field}.yaml"
        job.write_text(json.dumps({"name": "a", "data": {"source": "x", "adapter": "glas"}, field: {"pip": ["evil"]}}))
        refused = udt("submit", str(job), code=2)
        assert field in refused.stderr


def test_bad_data_is_refused_by_name_before_anything_starts(udt: CommandLine, tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", count=2)
    (tmp_path / "set" / "masks" / "case0.png").rename(tmp_path / "set" / "masks" / "alone.png")
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps({"name": "a", "data": {"source": "set", "adapter": "image_folder", "group_by": "case"}}))
    home = udt.with_environment(UDT_HOME=str(tmp_path / "home"))
    refused = home("submit", str(job), code=3)
    assert "alone.png" in refused.stderr
    assert "case0.png" in refused.stderr
    assert not (tmp_path / "home" / "local.json").exists()


def test_what_does_not_answer_is_said_within_ten_seconds(udt: CommandLine, glas: list[str], tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"
    addresses = {"UDT_JOBS_API": nobody, "MLFLOW_TRACKING_URI": nobody, "UDT_STORAGE": str(tmp_path / "s")}
    began = time.monotonic()
    refused = udt.with_environment(**addresses)("submit", *glas, code=4)
    assert time.monotonic() - began < 15, "10 s, and the start of Python on a busy machine"
    assert nobody in refused.stderr
    assert "Traceback" not in refused.stderr


def test_down_leaves_no_process(udt: CommandLine, tmp_path: Path) -> None:
    home = Path(f"/tmp/udt-down-{os.getpid()}")
    line = CommandLine({**udt.environment, "UDT_HOME": str(home)}, home)
    line("models", "ls")
    pid = json.loads((home / "local.json").read_text())["mlflow"]["pid"]
    assert psutil.pid_exists(pid)
    line("down")
    wait_for(lambda: not psutil.pid_exists(pid), seconds=10)
    assert "nothing" in line("down").stderr.lower()
