"""What tracking exports, and what it does without a server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import urllib3.exceptions
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

import udt_cluster.tracking as tracking
from udt_cluster.errors import AuthError, RefusedError, TrackingUnreachableError, UdtError, UsageError
from udt_cluster.tracking import Tracker, default_uri, flatten, resolve, server_command, tracking_errors
from udt_cluster.tracking.address import shown
from udt_cluster.tracking.artifact import checksum


def test_all_is_complete_and_sorted() -> None:
    assert tracking.__all__ == sorted(set(tracking.__all__))
    assert {name for names in tracking._MODULES.values() for name in names} == set(tracking.__all__)
    for name in tracking.__all__:
        assert getattr(tracking, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tracking.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("user", [{}, {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7", "MLFLOW_DISABLE_TELEMETRY": "false"}])
def test_defaults_do_not_replace_the_users(user: dict[str, str]) -> None:
    code = (
        "import json, os, udt_cluster.tracking as t; print(json.dumps({k: os.environ[k] for k in t.CLIENT_DEFAULTS}))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | user
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == tracking.CLIENT_DEFAULTS | user


def test_address_comes_from_the_environment_or_the_local_target(
    isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingUnreachableError, match="export MLFLOW_TRACKING_URI=http"):
        default_uri()
    (isolated_home / "local.json").write_text(json.dumps({"tracking": "http://127.0.0.1:1234"}))
    assert default_uri() == "http://127.0.0.1:1234"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert default_uri() == "http://elsewhere:5000"


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "databricks", "", "http://"])
def test_only_servers_are_addresses(uri: str) -> None:
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        Tracker(uri)


def test_password_is_not_shown() -> None:
    assert shown("https://me:secret@mlflow.lab:5000/x") == "https://...@mlflow.lab:5000/x"
    with pytest.raises(TrackingUnreachableError) as raised, tracking_errors("http://me:secret@h:1"):
        raise ConnectionError("refused")
    assert "secret" not in str(raised.value)


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} from the artifact store", response=response)


FOREIGN: list[tuple[Callable[[], BaseException], type[UdtError]]] = [
    (lambda: MlflowException("down"), TrackingUnreachableError),
    (lambda: MlflowException("busy", databricks_pb2.TEMPORARILY_UNAVAILABLE), TrackingUnreachableError),
    (lambda: MlflowException("slow down", databricks_pb2.REQUEST_LIMIT_EXCEEDED), TrackingUnreachableError),
    (lambda: MlflowException("who?", databricks_pb2.UNAUTHENTICATED), AuthError),
    (lambda: MlflowException("who?", databricks_pb2.CUSTOMER_UNAUTHORIZED), AuthError),
    (lambda: MlflowException("not you", databricks_pb2.PERMISSION_DENIED), AuthError),
    (lambda: MlflowException("no run", databricks_pb2.RESOURCE_DOES_NOT_EXIST), UsageError),
    (lambda: MlflowException("bad name", databricks_pb2.INVALID_PARAMETER_VALUE), RefusedError),
    (lambda: MlflowException("there already", databricks_pb2.RESOURCE_ALREADY_EXISTS), RefusedError),
    (lambda: MlflowException(""), TrackingUnreachableError),
    (lambda: http_error(401), AuthError),
    (lambda: http_error(404), UsageError),
    (lambda: http_error(503), TrackingUnreachableError),
    (lambda: requests.HTTPError("without a response"), TrackingUnreachableError),
    (lambda: requests.ConnectionError("refused"), TrackingUnreachableError),
    (lambda: requests.ReadTimeout("slow"), TrackingUnreachableError),
    (lambda: requests.exceptions.ChunkedEncodingError("cut off"), TrackingUnreachableError),
    (lambda: requests.exceptions.JSONDecodeError("no json", "", 0), TrackingUnreachableError),
    (lambda: urllib3.exceptions.ProtocolError("cut off"), TrackingUnreachableError),
    (lambda: ConnectionResetError("reset"), TrackingUnreachableError),
    (lambda: TimeoutError("slow"), TrackingUnreachableError),
]


@pytest.mark.parametrize(("foreign", "ours"), FOREIGN)
def test_every_foreign_error_is_mapped(foreign: Callable[[], BaseException], ours: type[UdtError]) -> None:
    with pytest.raises(UdtError) as raised, tracking_errors("http://mlflow.lab:5000"):
        raise foreign()
    assert type(raised.value) is ours
    assert "http://mlflow.lab:5000" in str(raised.value)
    assert raised.value.__cause__ is not None


def test_every_error_code_of_mlflow_is_mapped() -> None:
    for code in databricks_pb2.ErrorCode.values():
        with pytest.raises(UdtError), tracking_errors("http://h:1"):
            raise MlflowException("x", code)


def test_errors_of_ours_and_of_files_pass() -> None:
    with pytest.raises(RefusedError, match=r"^ours$"), tracking_errors("http://h:1"):
        raise RefusedError("ours")
    with pytest.raises(FileNotFoundError), tracking_errors("http://h:1"):
        raise FileNotFoundError("job.json")


def test_missing_files_are_named_before_the_server_is_asked(tmp_path: Path) -> None:
    tracker = Tracker("http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match=r"job\.json"):
        tracker.log_file("r", tmp_path / "job.json")
    with pytest.raises(NotADirectoryError, match="scores"):
        tracker.log_folder("r", tmp_path / "scores")


def test_stalled_name_server_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import time

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_more: time.sleep(30))
    began = time.monotonic()
    with pytest.raises(TrackingUnreachableError, match=r"no name server.*mlflow\.lab"):
        Tracker("http://mlflow.lab:5000").ping()
    assert time.monotonic() - began < 10


def test_params_are_flat_text() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, "x"]}, "e": None, "f": "text", "g": True, "p": Path("/x")}
    assert flatten(nested) == {"a.b.c": "1", "a.d": '[1, "x"]', "e": "null", "f": "text", "g": "true", "p": '"/x"'}
    assert len(flatten({"long": "x" * 10_000})["long"]) == 6000


@pytest.mark.parametrize("reference", ["", "a b", "models:/", "a@b@c", "a/b", "a/3/x", "s3://b/model", "a@", "/a"])
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(UsageError, match="NAME@ALIAS"):
        resolve(reference, tracker=Tracker("http://127.0.0.1:9"))


def test_checksum_is_of_names_and_contents(tmp_path: Path) -> None:
    seen = set()
    for name, content in (("a", b"1"), ("b", b"1"), ("a", b"2"), ("sub/a", b"1")):
        folder = tmp_path / str(len(seen))
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        seen.add(checksum(folder))
    assert len(seen) == 4
    assert checksum(tmp_path / "0") == checksum(tmp_path / "0")


def test_server_command_names_its_folder_and_the_s3_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.lab")
    command, environment = server_command(tmp_path, 5050)
    assert command[1:] == [
        *("-m", "udt_cluster.tracking.server", "--folder", str(tmp_path / "mlflow"), "--port", "5050"),
        *("--artifacts", str(tmp_path / "mlflow" / "artifacts")),
    ]
    assert "MLFLOW_S3_ENDPOINT_URL" not in environment
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"] == "127.0.0.1,127.0.0.1:*,localhost,localhost:*"
    _, environment = server_command(tmp_path, 5050, artifacts="s3://bucket/mlflow")
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == "http://s3.lab"
