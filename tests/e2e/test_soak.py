"""The short form of the soak: a handful of faults in a few minutes; the long one is `python -m tests.soak`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.hosts.client import command_line
from tests.hosts.lab import Lab
from tests.hosts.network import Network
from tests.soak.faults import FAULTS
from tests.soak.soak import Soak

pytestmark = [
    *(pytest.mark.e2e, pytest.mark.hosts, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3),
    *(pytest.mark.slow, pytest.mark.timeout(1800)),
]
_HANDFUL = ("worker killed (SIGKILL)", "MLflow away", "worker host without power", "S3 connections reset", "S3 away")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab on which every fault can happen."""
    folder = Path(tempfile.mkdtemp(prefix="udt-soak-", dir="/tmp"))
    with Network(folder) as network, closing(Lab(network, redis=True, proxied=True, disk="1g")) as lab:
        yield lab
    shutil.rmtree(folder, ignore_errors=True)


def test_a_handful_of_faults_loses_nothing_and_leaves_nothing(lab: Lab) -> None:
    chosen = tuple(fault for name in _HANDFUL for fault in FAULTS if fault.name == name)
    assert len(chosen) == len(_HANDFUL)
    report = Soak(lab, command_line(lab), minutes=3.5, every=40, seed=1, faults=chosen).run()
    assert len(report.strikes) >= len(chosen), report.markdown()
    assert report.passed, report.markdown()
