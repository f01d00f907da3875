"""What the tests of tracking share: an MLflow client of their own, and a run to write to."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.servers.mlflow import LossyProxy, MlflowServer, SilentServer
from udt_cluster.tracking import Tracker, server_command


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
