"""The local servers when their first process has died: what still serves is used, what is left over is ended."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster.client import local
from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.home import read_state, write_state

LOCAL = Target("local")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a server had started before it died."""
    environment = {**os.environ, "UDT_LOCAL_INSTANCE": "4"}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    yield process
    process.kill()
    process.wait()


def dead(port: int) -> dict[str, Any]:
    """A server whose pid is somebody else's by now."""
    return {"pid": os.getpid(), "started": "0", "url": f"http://127.0.0.1:{port}", "log": "/dev/null"}


def test_fault_Z5_what_a_dead_head_has_left_is_ended(orphan: subprocess.Popen[bytes]) -> None:
    write_state("local.json", {"ray": dead(4), "mlflow": dead(5)})
    assert local.running(LOCAL) is None
    assert local.known(LOCAL).jobs_api is None
    (said,) = local.down()
    assert said == "1 process of a server at http://127.0.0.1:4 that had died"
    assert orphan.wait(10) != 0
    assert read_state("local.json") == {}
    assert local.down() == []


@pytest.fixture
def server() -> Iterator[int]:
    """Answers 200 to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield running.server_port
    running.shutdown()
    running.server_close()


def test_a_cluster_whose_first_process_died_is_used_as_long_as_it_answers(server: int, home: Path) -> None:
    write_state("local.json", {"ray": {**dead(server), "address": "127.0.0.2:7"}, "mlflow": dead(server)})
    found = local.running(LOCAL)
    assert found is not None
    assert (found.jobs_api, found.ray_address) == (f"http://127.0.0.1:{server}", "127.0.0.2:7")
    assert local.known(LOCAL) == found
    assert local.ensure(LOCAL) == found, "no second one is started"


def test_storage_is_known_where_nothing_runs(home: Path) -> None:
    known = local.known(LOCAL)
    assert (known.jobs_api, known.tracking, known.storage) == (None, None, str(home / "store"))
