"""Training across hosts of their own, which are switched off, cut off, slow, and come back."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import CommandLine
from tests.hosts.client import command_line
from tests.hosts.lab import Lab
from tests.hosts.network import Network
from tests.hosts.training import Training
from tests.waiting import wait_for

pytestmark = [
    *(pytest.mark.e2e, pytest.mark.hosts, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3),
    pytest.mark.timeout(900),
]
STEPS_AN_EPOCH = 9  # 48 pictures, a quarter of them held out, in batches of four
ELASTIC = "resources.workers={min: 1, max: 2}"
LONG = "train.epochs=40"


@pytest.fixture(scope="module")
def started_lab() -> Iterator[Lab]:
    """A head, two workers of one core each, and a host with S3, MLflow and Redis."""
    folder = Path(tempfile.mkdtemp(prefix="udt-hosts-", dir="/tmp"))
    with Network(folder) as network, closing(Lab(network, redis=True, proxied=True)) as lab:
        yield lab
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(started_lab: Lab) -> Lab:
    """The same, with all its hosts, whatever the test before did to them."""
    for worker in started_lab.workers:
        if not worker.host.is_up:
            worker.start()
    started_lab.wait_for_nodes(started_lab.head.host, *(worker.host for worker in started_lab.workers))
    return started_lab


@pytest.fixture
def udt(lab: Lab) -> CommandLine:
    """The command line of somebody whose machine reaches the lab."""
    return command_line(lab)


def on_both(job: Training, *, step: int) -> int:
    """Wait until both hosts train and that many steps are done; the number of the attempt."""
    wait_for(lambda: job.attempts() and job.attempts()[-1]["workers"] == 2, seconds=400, what="two workers")
    wait_for(job.checkpoints, seconds=400, what="a checkpoint")
    job.wait_for_step(step)
    return len(job.attempts()) - 1


def test_fault_C5_a_host_that_loses_its_power_in_mid_epoch_is_finished_by_the_other(lab: Lab, udt: CommandLine) -> None:
    job = Training(lab, udt, ELASTIC, "train.epochs=12")
    number = on_both(job, step=STEPS_AN_EPOCH + 3)
    lab.workers[1].host.kill()
    attempts = job.wait(seconds=600)["attempts"][number:]
    assert attempts[0]["kind"] in {"node_lost", "worker_died"}, "Ray may be late to know that the node is gone"
    assert attempts[-1]["kind"] == "finished"
    assert [attempt["workers"] for attempt in attempts] == [2, 1]
    assert attempts[1]["nodes"] == [lab.workers[0].host.address]
    assert attempts[1]["resumed_step"] == attempts[0]["committed_step"] >= STEPS_AN_EPOCH
    assert job.metrics("val_dice") == list(range(1, 13))


@pytest.mark.slow
def test_fault_C5_a_host_that_is_cut_off_is_left_and_taken_back(lab: Lab, udt: CommandLine) -> None:
    job = Training(lab, udt, ELASTIC, LONG)
    number = on_both(job, step=STEPS_AN_EPOCH)
    lab.workers[1].host.cut()
    try:
        wait_for(lambda: len(job.attempts()) > number + 1, seconds=240, what="another attempt")
        job.wait_for_step(job.attempts()[number + 1]["resumed_step"] + 1)
    finally:
        lab.workers[1].host.mend()
    cut_off, alone = job.attempts()[number : number + 2]
    assert (cut_off["workers"], alone["workers"]) == (2, 1)
    assert cut_off["kind"] in {"node_lost", "worker_died", "hang"}
    lab.wait_for_nodes(lab.head.host, *(worker.host for worker in lab.workers))
    job.wait(seconds=600)
    assert job.metrics("val_dice") == list(range(1, 41))


@pytest.mark.slow
def test_fault_M1_N2_storage_and_mlflow_may_be_away_slow_and_break_off(lab: Lab, udt: CommandLine) -> None:
    job = Training(lab, udt, "resources.workers=2", LONG)
    job.wait_for_step(STEPS_AN_EPOCH)
    lab.services.cut()
    time.sleep(15)
    lab.services.mend()
    lab.services.slow("4mbit")
    for _ in range(20):
        lab.proxy.reset()
        time.sleep(0.5)
    lab.services.full_speed()
    attempts = job.wait(seconds=600)["attempts"]
    assert [attempt["kind"] for attempt in attempts] == ["finished"], "nobody was interrupted"
    for key in ("val_dice", "train_loss", "lr"):
        assert job.metrics(key) == list(range(1, 41))


@pytest.mark.slow
def test_fault_H1_a_head_with_redis_comes_back_and_the_job_is_resumed(lab: Lab, udt: CommandLine) -> None:
    job = Training(lab, udt, "resources.workers=2", LONG)
    job.wait_for_step(2 * STEPS_AN_EPOCH)
    rays = [sorted(process.pid for process in worker.host.processes("raylet/raylet")) for worker in lab.workers]
    lab.head.stop()
    lab.head.start()
    lab.wait_for_nodes(lab.head.host, *(worker.host for worker in lab.workers))
    assert rays == [sorted(one.pid for one in worker.host.processes("raylet/raylet")) for worker in lab.workers]
    wait_for(lambda: job.status()["state"] in {"LOST", "FAILED"}, seconds=180, what="that the job is lost")
    udt("resume", job.id)
    status = job.wait(seconds=600)
    assert job.metrics("val_dice") == list(range(1, 41))
    assert status["attempts"][-1]["resumed_step"] >= STEPS_AN_EPOCH
