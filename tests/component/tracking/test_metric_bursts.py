"""A thousand metrics a second, and an MLflow that refuses, hangs, restarts and loses answers meanwhile."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from mlflow import MlflowClient

from tests.servers.mlflow import LossyProxy, MlflowServer
from udt_cluster.tracking import ChildRun, MetricLog, Tracker

pytestmark = [pytest.mark.component, pytest.mark.mlflow]

RATE = 1000
"""Calls a second, each with one metric."""


def steps_of(client: MlflowClient, run_id: str, key: str = "loss") -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, key)]


def paced(steps: range) -> Iterator[int]:
    """The steps at the rate of a burst."""
    began = time.perf_counter()
    for number, step in enumerate(steps, 1):
        yield step
        if (ahead := began + number / RATE - time.perf_counter()) > 0:
            time.sleep(ahead)


def burst(log: MetricLog, steps: range) -> list[float]:
    """Microseconds of each call."""
    taken = []
    for step in paced(steps):
        began = time.perf_counter()
        log.log(step, {"loss": 1 / (1 + step)})
        taken.append((time.perf_counter() - began) * 1e6)
    return taken


def quantile(taken: list[float], part: float) -> float:
    return sorted(taken)[int(part * (len(taken) - 1))]


def test_fault_M1_M2_a_burst_goes_on_while_mlflow_refuses_hangs_and_comes_back(
    own_server: MlflowServer, tmp_path: Path
) -> None:
    run_id = Tracker(own_server.start().uri).start_parent("e", "n")
    log = MetricLog(own_server.uri, run_id, tmp_path / "spool")
    taken = burst(log, range(1500))
    own_server.stop()
    taken += burst(log, range(1500, 3000))
    with socket.create_server(("127.0.0.1", own_server.port), backlog=64):  # connects, and never answers
        taken += burst(log, range(3000, 4500))
        most = log.unsent
        in_memory = log._waiting + log._backlog._loose_points
    own_server.start()
    taken += burst(log, range(4500, 6000))
    began = time.monotonic()
    assert log.close(timeout=60) == log.dropped == 0
    assert time.monotonic() - began < 60
    assert steps_of(MlflowClient(own_server.uri), run_id) == list(range(6000))
    assert most >= 2500, "they waited"
    assert in_memory < RATE, "on disk"
    assert quantile(taken, 0.5) < 100, "microseconds: 1 % of a step of ten milliseconds"
    assert quantile(taken, 0.99) < 5_000, "no call waits for a disk or a server"
    assert list(tmp_path.glob("spool*")) == []


@pytest.mark.parametrize("same_spool", [True, False])
def test_fault_M3_a_burst_that_is_killed_and_comes_again_is_there_once(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path, same_spool: bool
) -> None:
    """Killed in the middle of a burst; the next process, here or on another node, reports from its checkpoint on."""
    code = f"""
        import time
        from pathlib import Path
        from udt_cluster.tracking import MetricLog
        log = MetricLog({mlflow_server.uri!r}, {run_id!r}, Path({str(tmp_path / "spool")!r}))
        for step in range(100_000):
            log.log(step, {{"loss": step / 7, "dice": float("nan")}})
            time.sleep(0.0008)
            if step == 500:
                assert log.flush(10)
                print("checkpoint", flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "checkpoint\n"
        deadline = time.monotonic() + 60
        while len(steps_of(client, run_id)) < 800 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    sent = len(steps_of(client, run_id))
    assert sent >= 800, "beyond the checkpoint"
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / ("spool" if same_spool else "another"))
    burst_of_two(log, range(500, sent + 1500))
    assert log.close(timeout=60) == 0
    for key in ("loss", "dice"):
        steps = steps_of(client, run_id, key)
        assert steps == sorted(set(steps)), "once, and in order"
        assert steps[: sent + 1500] == list(range(sent + 1500)), "none is missing"


def burst_of_two(log: MetricLog, steps: range) -> None:
    for step in paced(steps):
        log.log(step, {"loss": step / 7, "dice": float("nan")})


def test_fault_M2_lost_answers_in_a_burst_double_nothing(
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    client: MlflowClient,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    batches: list[str] = []

    def every_other(_method: str, path: str) -> bool:
        if path.endswith("/runs/log-batch"):
            batches.append(path)
            return len(batches) % 2 == 1
        return False

    log = MetricLog(lossy(every_other).uri, run_id, tmp_path / "spool")
    burst(log, range(3000))
    assert log.close(timeout=60) == 0
    assert steps_of(client, run_id) == list(range(3000))
    assert len(batches) >= 6


def test_fault_M1_the_first_start_without_mlflow_does_not_end_the_run(own_server: MlflowServer, tmp_path: Path) -> None:
    """Submitted with MLflow up; when the driver makes the run of a fold, MLflow is away: the log makes it later."""
    parent = Tracker(own_server.start().uri).start_parent("e", "job-1", key="job-1")
    own_server.stop()
    child = ChildRun(parent, "job-1-f0-s1", tags={"fold": 0, "seed": None}, params={"fold": 0})
    began = time.monotonic()
    log = MetricLog(own_server.uri, child, tmp_path / "spool")
    burst(log, range(500))
    assert log.close(timeout=1) == 500
    assert time.monotonic() - began < 5
    again = MetricLog(own_server.uri, child, tmp_path / "spool")
    burst(again, range(400, 1000))
    own_server.start()
    assert again.close(timeout=60) == 0

    client = MlflowClient(own_server.uri)
    tracker = Tracker(own_server.uri)
    (run,) = tracker.list_runs(parent_id=parent)
    assert steps_of(client, run.run_id) == list(range(1000))
    assert (run.name, run.params, run.tags["fold"]) == ("job-1-f0-s1", {"fold": "0"}, "0")
    assert tracker.start(child) == run.run_id
    assert len(tracker.list_runs()) == 2


def test_fault_M3_a_run_made_late_is_made_once_though_its_answers_are_lost(
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    tracker: Tracker,
    client: MlflowClient,
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    parent = tracker.start_parent(experiment, "p")
    lost: list[str] = []

    def first_creation(_method: str, path: str) -> bool:
        if path.endswith("/runs/create") and not lost:
            lost.append(path)
            return True
        return False

    log = MetricLog(lossy(first_creation).uri, ChildRun(parent, "p-f0-s1"), tmp_path / "spool")
    burst(log, range(100))
    assert log.close(timeout=30) == 0
    (run,) = tracker.list_runs(parent_id=parent)
    assert steps_of(client, run.run_id) == list(range(100))
    assert lost


def test_fault_M4_bad_names_in_a_burst_keep_nothing_else_out(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that MLflow refuses, at every step: it is left out after three refusals, the rest is sent in batches."""
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    for step in paced(range(2000)):
        log.log(step, {"loss": step, "no good!": step})
    began = time.monotonic()
    assert log.close(timeout=60) == 0
    assert time.monotonic() - began < 20
    assert steps_of(client, run_id) == list(range(2000))
    assert caplog.text.count("not logged to run") == 3
    assert "it is left out from here on" in caplog.text


def test_a_deleted_run_is_given_up_at_once(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    burst(log, range(100))
    client.delete_run(run_id)
    burst(log, range(100, 2000))
    began = time.monotonic()
    assert log.close(timeout=60) == 0
    assert time.monotonic() - began < 10
    assert caplog.text.count("nothing more will be") == 1
