"""Metrics reach a real MLflow server once each, whatever happens on the way."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from mlflow import MlflowClient

from tests.servers.mlflow import LossyProxy, MlflowServer, SilentServer
from udt_cluster.tracking import MetricLog, Tracker

pytestmark = [pytest.mark.component, pytest.mark.mlflow]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
)


def history(client: MlflowClient, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, key)]


def median_log(log: MetricLog, steps: range, **metrics: float) -> float:
    """Milliseconds of the median call: other processes of this machine may hold any single one up."""
    times = []
    for step in steps:
        began = time.perf_counter()
        log.log(step, metrics)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


def test_points_and_pictures_arrive_in_order(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    for epoch in range(3):
        log.log(epoch, {"val_dice": epoch / 10, "loss": float("nan") if epoch == 1 else 1.0})
        log.picture("validation", PNG, epoch)
    assert log.close(timeout=60) == 0

    assert history(client, run_id, "val_dice") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert [step for step, _ in history(client, run_id, "loss")] == [0, 1, 2]
    pictures = client.list_artifacts(run_id, "pictures/validation")
    assert [Path(item.path).name for item in pictures] == [f"step-{step:08d}.png" for step in range(3)]
    fetched = Path(client.download_artifacts(run_id, pictures[0].path, str(tmp_path)))
    assert fetched.read_bytes() == PNG
    assert not (tmp_path / "spool").exists()
    assert not (tmp_path / "spool.pictures").exists()


def test_burst_is_sent_in_batches(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    for step in range(3000):
        log.log(step, {"a": step, "b": -step})
    assert log.close(timeout=120) == 0
    assert [step for step, _ in history(client, run_id, "a")] == list(range(3000))
    assert len(history(client, run_id, "b")) == 3000


def test_bad_point_does_not_keep_the_others_out(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    bad: Mapping[str, float] = {"no good!": 1.0, "x": 2.0, "text": "three"}  # type: ignore[dict-item]
    log.log(1, bad)
    log.log(2, {"x": 3.0})
    assert log.close(timeout=60) == 0
    assert client.get_run(run_id).data.metrics == {"x": 3.0}
    assert history(client, run_id, "x") == [(1, 2.0), (2, 3.0)]


def test_deleted_run_ends_quietly(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.delete_run(run_id)
    log = MetricLog(mlflow_server.uri, run_id, tmp_path / "spool")
    log.log(1, {"x": 2.0})
    assert log.close(timeout=60) == 0
    assert "not logged" in caplog.text


@pytest.mark.parametrize("same_spool", [True, False])
def test_fault_m3_killed_process_reports_again_and_nothing_is_twice(
    mlflow_server: MlflowServer, client: MlflowClient, run_id: str, tmp_path: Path, same_spool: bool
) -> None:
    """A process is killed with points sent and unsent; the next reports from epoch 1 on what it is not sure of."""
    killed = f"""
        import os, signal, time
        from pathlib import Path
        from udt_cluster.tracking import MetricLog
        log = MetricLog({mlflow_server.uri!r}, {run_id!r}, Path({str(tmp_path / "spool")!r}))
        for epoch in range(3):
            log.log(epoch, {{"loss": 1.0 - epoch / 10, "dice": epoch / 10}})
        while log.unsent:
            time.sleep(0.05)
        tracker = log._delivery._tracker
        tracker.uri = "http://127.0.0.1:9"  # MLflow is out of reach from here on
        tracker._client, tracker._answered = None, -1e9
        log.log(3, {{"loss": 0.7, "dice": 0.3}})
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", dedent(killed)], check=False, timeout=120)
    assert ended.returncode == -9
    assert [step for step, _ in history(client, run_id, "loss")] == [0, 1, 2]

    log = MetricLog(mlflow_server.uri, run_id, tmp_path / ("spool" if same_spool else "another"))
    for epoch in range(1, 5):
        log.log(epoch, {"loss": 1.0 - epoch / 10 + 1e-9, "dice": epoch / 10})
    assert log.close(timeout=60) == 0

    for key in ("loss", "dice"):
        assert [step for step, _ in history(client, run_id, key)] == [0, 1, 2, 3, 4]
    first_value = {True: 0.7, False: 0.7 + 1e-9}[same_spool]
    assert history(client, run_id, "loss")[3] == (3, pytest.approx(first_value, abs=1e-12))


@pytest.mark.parametrize("retries", ["0", "2"])
def test_points_are_once_when_the_answer_is_lost(
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    client: MlflowClient,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    retries: str,
) -> None:
    """Sent again by us (0) or by MLflow's client (2), a point has the time at which it was measured."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    batches: list[str] = []

    def every_second_batch(_method: str, path: str) -> bool:
        if path.endswith("/runs/log-batch"):
            batches.append(path)
            return len(batches) % 2 == 1
        return False

    log = MetricLog(lossy(every_second_batch).uri, run_id, tmp_path / "spool")
    for step in range(5):
        log.log(step, {"loss": step})
        time.sleep(0.4)
    assert log.close(timeout=60) == 0
    assert [step for step, _ in history(client, run_id, "loss")] == [0, 1, 2, 3, 4]
    assert len(batches) >= 2


def test_fault_m1_server_is_down_at_the_start_and_comes(own_server: MlflowServer, tmp_path: Path) -> None:
    run_id = Tracker(own_server.start().uri).start_parent("e", "n")
    client = MlflowClient(own_server.uri)
    own_server.stop()

    log = MetricLog(own_server.uri, run_id, tmp_path / "spool")
    assert median_log(log, range(200), loss=1.0) < 1.0
    assert log.unsent == 200
    own_server.start()
    log.log(200, {"loss": 2.0})
    assert log.close(timeout=60) == 0
    assert [step for step, _ in history(client, run_id, "loss")] == list(range(201))


def test_fault_m1_server_goes_and_a_later_process_sends_the_rest(own_server: MlflowServer, tmp_path: Path) -> None:
    run_id = Tracker(own_server.start().uri).start_parent("e", "n")
    log = MetricLog(own_server.uri, run_id, tmp_path / "spool")
    log.log(0, {"loss": 1.0})
    deadline = time.monotonic() + 60
    while log.unsent and time.monotonic() < deadline:
        time.sleep(0.05)
    own_server.stop()
    for step in range(1, 4):
        log.log(step, {"loss": 1.0})
    log.picture("validation", PNG, 3)
    began = time.monotonic()
    assert log.close(timeout=2) == 4
    assert time.monotonic() - began < 5

    own_server.start()
    client = MlflowClient(own_server.uri)
    assert MetricLog(own_server.uri, run_id, tmp_path / "spool").close(timeout=60) == 0
    assert [step for step, _ in history(client, run_id, "loss")] == [0, 1, 2, 3]
    assert len(client.list_artifacts(run_id, "pictures/validation")) == 1


def test_fault_m2_silent_server_neither_blocks_nor_raises(silent: SilentServer, tmp_path: Path) -> None:
    log = MetricLog(silent.uri, "0" * 32, tmp_path / "spool")
    time.sleep(1.0)  # its thread hangs in a request by now
    assert median_log(log, range(500), loss=1.0) < 1.0
    began = time.monotonic()
    assert log.close(timeout=2) == 500
    assert time.monotonic() - began < 5
    lines = (tmp_path / "spool").read_text().splitlines()
    assert len(lines) == 500
