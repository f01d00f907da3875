"""What answers at the Jobs API is judged before anything is handed over (fault S1)."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from udt_cluster.cluster.client import connection
from udt_cluster.cluster.client.targets import Target
from udt_cluster.errors import AuthError, TargetUnreachableError

TOKEN = "0123456789abcdef"


@contextmanager
def ray_head(*, token: str | None) -> Iterator[int]:
    """A server that answers as Ray's dashboard does: 200, or 401 and 403 where a token is asked for."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            status = 200 if token is None or given == f"Bearer {token}" else 401 if given is None else 403
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class OnTheNetwork(Target):
    """A target on a loopback port that counts as one that others reach."""

    @property
    def is_loopback(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def token_file(folder: Path, text: str) -> str:
    path = folder / "token"
    path.write_text(text)
    return str(path)


def test_fault_S1_an_open_cluster_on_the_network_is_refused() -> None:
    with ray_head(token=None) as port, pytest.raises(AuthError, match="answers without a token"):
        connection.check(OnTheNetwork("lab", jobs_api=f"http://127.0.0.1:{port}"))


def test_fault_S1_insecure_must_be_said() -> None:
    with ray_head(token=None) as port:
        connection.check(OnTheNetwork("lab", jobs_api=f"http://127.0.0.1:{port}", insecure=True))


def test_an_open_cluster_on_loopback_is_ones_own() -> None:
    with ray_head(token=None) as port:
        connection.check(Target("lab", jobs_api=f"http://127.0.0.1:{port}"))


def test_fault_S1_the_right_token_is_needed(tmp_path: Path) -> None:
    with ray_head(token=TOKEN) as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(AuthError, match="--token-path"):
            connection.check(OnTheNetwork("lab", jobs_api=url))
        with pytest.raises(AuthError, match="refused the token") as caught:
            connection.check(OnTheNetwork("lab", jobs_api=url, token_path=token_file(tmp_path, "wrong-canary")))
        assert "wrong-canary" not in str(caught.value)
        connection.check(OnTheNetwork("lab", jobs_api=url, token_path=token_file(tmp_path, TOKEN)))


def test_nothing_there_is_said_within_ten_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError, match="no answer"):
        connection.check(Target("lab", jobs_api="http://127.0.0.1:9"))
    assert time.monotonic() - began < 10


def test_loopback_is_told_from_the_network() -> None:
    assert Target("a", jobs_api="http://127.0.0.5:8265").is_loopback
    assert Target("a", jobs_api="http://localhost:8265").is_loopback
    assert not Target("a", jobs_api="http://127.example.org:8265").is_loopback
    assert not Target("a", jobs_api="http://10.0.0.1:8265").is_loopback
