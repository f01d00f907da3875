"""What the tests of tracking share: an MLflow client of their own, and a run to write to."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch.export import Dim

from tests.servers.mlflow import LossyProxy, MlflowServer, SilentServer
from udt_cluster.tracking import ModelVersion, Tracker, register_model, server_command

TAGS = {"data_version": "4f5e", "job_hash": "0123", "split_hash": "89ab", "git_sha": None, "baseline_dice": 0.31}
METRICS = {"dice": 0.9123456789, "hd95": float("nan")}


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    """MLflow's own client: what the code under test did is looked up with it."""
    return MlflowClient(tracking_uri=mlflow_server.uri, registry_uri=mlflow_server.uri)


@pytest.fixture
def tracker(mlflow_server: MlflowServer) -> Tracker:
    return Tracker(mlflow_server.uri)


@pytest.fixture
def experiment() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run_id(tracker: Tracker, experiment: str) -> str:
    return tracker.start_parent(experiment, "a run")


@pytest.fixture
def lossy(mlflow_server: MlflowServer) -> Iterator[Callable[[Callable[[str, str], bool]], LossyProxy]]:
    """Makes a proxy before the server that loses the answers which a function picks."""
    proxies: list[LossyProxy] = []

    def make(lost: Callable[[str, str], bool]) -> LossyProxy:
        proxies.append(LossyProxy(mlflow_server.port, lost))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    yield server
    server.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MlflowServer]:
    """The local target's server, which the test may stop; not started."""
    server = MlflowServer(tmp_path / "own-mlflow")
    server.command, server.environment = server_command(server.folder, server.port)
    yield server
    server.stop()


class Brightest(torch.nn.Module):
    """The channel that is brightest at each place after a convolution: a network in small."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.normalization = torch.nn.BatchNorm2d(4)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        return self.normalization(self.convolution(x_BHWC.permute(0, 3, 1, 2) / 255)).argmax(1)


@pytest.fixture(scope="session")
def network() -> Brightest:
    torch.manual_seed(0)
    return Brightest().eval()


@pytest.fixture(scope="session")
def program(network: Brightest) -> torch.export.ExportedProgram:
    dynamic = {0: Dim("B"), 1: Dim("H"), 2: Dim("W")}
    return torch.export.export(network, (torch.zeros(2, 20, 24, 3),), dynamic_shapes=(dynamic,))


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps({"schema": 1, "of": str(tmp_path)}))
    (folder / "model_0.safetensors").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def name(experiment: str) -> str:
    return f"{experiment}-udtransnet"


@pytest.fixture
def register(
    tracker: Tracker, name: str, run_id: str, own_files: Path, program: torch.export.ExportedProgram
) -> Callable[..., ModelVersion]:
    """Registers the stand-in; keyword arguments replace the defaults."""

    def call(**changed: Any) -> ModelVersion:
        arguments: dict[str, Any] = {
            "tracker": tracker,
            "name": name,
            "run_id": run_id,
            "folder": own_files,
            "program": program,
            "example": np.zeros((2, 20, 24, 3), np.float32),
            "tags": TAGS,
            "metrics": METRICS,
            "alias": "candidate",
        }
        arguments.update(changed)
        return register_model(arguments.pop("tracker"), **arguments)

    return call
