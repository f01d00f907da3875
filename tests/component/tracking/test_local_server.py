"""The local target's own MLflow server: what is allowed, where things lie, how it ends."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
import pytest
from mlflow import MlflowClient

from tests.servers.mlflow import MlflowServer
from tests.servers.swift import S3Server
from udt_cluster.tracking import Tracker, server_command

pytestmark = [pytest.mark.component, pytest.mark.mlflow]


@pytest.fixture(scope="module")
def local_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("local"))
    server.command, server.environment = server_command(server.folder, server.port)
    try:
        yield server.start()
    finally:
        server.stop()


def status(url: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_foreign_hosts_and_origins_are_refused(local_server: MlflowServer) -> None:
    url = f"{local_server.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status(url) == 200
    assert status(url, {"Host": f"localhost:{local_server.port}"}) == 200
    assert status(url, {"Host": "evil.test"}) == 403
    assert status(url, {"Host": f"10.0.0.1:{local_server.port}"}) == 403
    json = {"Content-Type": "application/json"}
    create = f"{local_server.uri}/api/2.0/mlflow/experiments/create"
    assert status(create, json | {"Origin": "http://evil.test"}, b'{"name": "from-a-foreign-page"}') == 403
    assert MlflowClient(local_server.uri).get_experiment_by_name("from-a-foreign-page") is None


def test_it_listens_on_loopback_and_is_one_process(local_server: MlflowServer) -> None:
    assert local_server.process is not None
    process = psutil.Process(local_server.process.pid)
    listening = {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert process.children(recursive=True) == []


def test_state_lies_under_the_home(local_server: MlflowServer, tmp_path: Path) -> None:
    run_id = Tracker(local_server.uri).start_parent("e", "n")
    Tracker(local_server.uri).log_text(run_id, "hello", "note.txt")
    client = MlflowClient(local_server.uri)
    assert client.get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:/")
    folder = local_server.folder / "mlflow"
    assert (folder / "mlflow.db").is_file()
    assert [path.read_text() for path in folder.rglob("note.txt")] == ["hello"]
    assert folder.stat().st_mode & 0o077 == 0
    assert Path(client.download_artifacts(run_id, "note.txt", str(tmp_path))).read_text() == "hello"


def test_sigterm_ends_it_and_the_data_stays(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path / "home")
    server.command, server.environment = server_command(server.folder, server.port)
    run_id = Tracker(server.start().uri).start_parent("e", "n")
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    process.send_signal(signal.SIGTERM)
    server.process.stop()
    assert not process.is_running()
    server.start()
    try:
        assert Tracker(server.uri).run(run_id).name == "n"
    finally:
        server.stop()


@pytest.mark.s3
def test_artifacts_go_to_s3_through_the_server(
    s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_env.make_bucket()
    server = MlflowServer(tmp_path / "home")
    server.command, server.environment = server_command(server.folder, server.port, artifacts=f"s3://{bucket}/mlflow")
    assert server.environment["MLFLOW_S3_ENDPOINT_URL"] == s3_env.endpoint
    server.start()
    s3 = boto3.client("s3", endpoint_url=s3_env.endpoint)
    try:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)  # the client has no credentials: the server alone talks to S3
        run_id = Tracker(server.uri).start_parent("e", "n")
        Tracker(server.uri).log_text(run_id, "hello", "note.txt")
        read = MlflowClient(server.uri).download_artifacts(run_id, "note.txt", str(tmp_path))
        assert Path(read).read_text() == "hello"
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    finally:
        server.stop()
    assert [key for key in keys if key.startswith("mlflow/") and key.endswith(f"{run_id}/artifacts/note.txt")]


def test_command_does_not_import_mlflow() -> None:
    code = (
        "import sys; from pathlib import Path; from udt_cluster.tracking.server import server_command; "
        "from udt_cluster.tracking import default_uri; server_command(Path('/h'), 1); "
        "sys.exit(any(name == 'mlflow' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
