"""Training across hosts of their own, which are switched off, cut off and come back."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import CommandLine
from tests.hosts.client import command_line
from tests.hosts.lab import Lab
from tests.hosts.network import Network
from tests.hosts.training import Training

pytestmark = [
    *(pytest.mark.e2e, pytest.mark.hosts, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3),
    pytest.mark.timeout(900),
]
STEPS_AN_EPOCH = 9  # 24 pictures, a quarter of them held out, in batches of two


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A head, two workers of one core each, and a host with S3 and MLflow."""
    folder = Path(tempfile.mkdtemp(prefix="udt-hosts-", dir="/tmp"))
    with Network(folder) as network, closing(Lab(network)) as lab:
        yield lab
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def udt(lab: Lab) -> CommandLine:
    """The command line of somebody whose machine reaches the lab."""
    return command_line(lab)


def test_fault_C5_a_host_that_loses_its_power_in_mid_epoch_is_finished_by_the_other(lab: Lab, udt: CommandLine) -> None:
    job = Training(lab, udt, "resources.workers={min: 1, max: 2}")
    done = job.wait_for_step(STEPS_AN_EPOCH + 3)
    assert job.attempts()[0]["workers"] == 2
    lab.workers[1].host.kill()
    status = job.wait(seconds=300)
    first, second = status["attempts"]
    assert (first["kind"], second["kind"]) == ("node_lost", "finished")
    assert (first["workers"], second["workers"]) == (2, 1)
    assert second["nodes"] == [lab.workers[0].host.address]
    assert second["resumed_step"] == first["committed_step"] >= done - done % STEPS_AN_EPOCH
    assert 0 <= first["lost_steps"] <= STEPS_AN_EPOCH
    assert job.metrics("val_dice") == [1, 2, 3, 4, 5, 6]
    print(first, second)
