"""A real `mlflow server` on a free loopback port, and a proxy that misbehaves in front of it.

The top conftest imports the fixture `mlflow_server`; tests that stop a server start one of their own.
"""

import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers.process import ServerProcess, free_port

START_SECONDS = 120
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass
class MlflowServer:
    """One server; `start` after `stop` brings the same data back on the same port.

    Attributes:
        folder: Database, artifacts and log.
        command: What to run instead of `mlflow server`.
        environment: Added to this process's own.
        address: To listen at.
        prefix: Written before the command, to start it on another host.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    prefix: list[str] = field(default_factory=list)
    process: ServerProcess | None = None

    @property
    def uri(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start(self) -> "MlflowServer":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = ServerProcess(
            [*self.prefix, *(self.command or self._mlflow_server())],
            log=self.folder / "server.log",
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.environment},
        )
        self.process.wait_until(self._is_healthy, seconds=START_SECONDS)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def _mlflow_server(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", self.address, "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(self.folder / "artifacts")),
        ]

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class LossyProxy:
    """Passes requests on to a server, and closes the connection instead of answering those that `lost` picks.

    The server has done what was asked; its client does not learn of it.
    """

    def __init__(self, target_port: int, lost: Callable[[str, str], bool]) -> None:
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Passing(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    self._pass_on()

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = HTTPConnection("127.0.0.1", target_port, timeout=60)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                proxy.requests.append((self.command, self.path))
                if not lost(self.command, self.path):
                    self._answer(answer, content)
                connection.close()

            def _answer(self, answer: HTTPResponse, content: bytes) -> None:
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in _HOP_BY_HOP:
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SilentServer:
    """Accepts connections and never answers."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._accepted: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                self._accepted.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends the waiting `accept`, which `close` alone does not
        self._accepting.join()
        self._listener.close()
        for connection in self._accepted:
            connection.close()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for the whole session; experiments of each test have names of their own."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        yield server.start()
    finally:
        server.stop()
