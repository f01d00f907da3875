"""S3 that misbehaves: a small server in this process that fails as told. What real S3 does is tested on a real one."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import zarr

from udt_cluster.errors import AuthError, StorageUnreachableError
from udt_cluster.storage import Location

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class FaultyServer(ThreadingHTTPServer):
    """Holds `objects`; answers with each of `faults` first; `hides` answers 403 instead of 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.hides = False
        self.requests: list[str] = []


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.requests.append(f"GET {self.path}")
        fault = self.server.faults.pop(0) if self.server.faults else ""
        data = self.server.objects.get(self.path)
        if fault == "503":
            self.answer(503, SLOW_DOWN)
        elif fault == "hang up":
            self.close_connection = True
        elif data is None:
            self.answer(403, DENIED) if self.server.hides else self.answer(
                404, b"<Error><Code>NoSuchKey</Code></Error>"
            )
        else:
            self.answer(200, data, half=fault == "half")

    def do_HEAD(self) -> None:
        self.answer(403 if self.server.hides else 404, b"")

    def do_PUT(self) -> None:
        self.server.requests.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.faults and self.server.faults.pop(0) == "503":
            self.answer(503, SLOW_DOWN)
        else:
            self.server.objects[self.path] = data
            self.answer(200, b"")

    def answer(self, status: int, body: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.wfile.flush()
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        yield running
        running.shutdown()
        thread.join()


ROOT = Location.parse("s3://bucket/p")


@pytest.mark.parametrize("fault", ["503", "hang up", "half"])
@pytest.mark.parametrize("times", [1, 3])
def test_passing_faults_of_a_get_are_repeated(server: FaultyServer, fault: str, times: int) -> None:
    server.objects["/bucket/p/object"] = CONTENT
    server.faults = [fault] * times
    assert (ROOT / "object").read_bytes() == CONTENT
    assert len(server.requests) == times + 1


def test_a_server_that_ignores_ranges_is_understood(server: FaultyServer) -> None:
    server.objects["/bucket/p/object"] = CONTENT
    assert (ROOT / "object").read_bytes(start=5, end=9) == CONTENT[5:9]
    assert (ROOT / "object").checksum().size == len(CONTENT)


def test_a_put_is_repeated(server: FaultyServer) -> None:
    server.faults = ["503", "503"]
    (ROOT / "object").write_bytes(CONTENT)
    assert server.objects == {"/bucket/p/object": CONTENT}


@pytest.mark.parametrize("fault", ["503", "half"])
def test_lasting_faults_end_with_the_deadline(
    server: FaultyServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    server.objects["/bucket/p/object"] = CONTENT
    server.faults = [fault] * 1000
    with pytest.raises(StorageUnreachableError, match=r"127\.0\.0\.1") as caught:
        (ROOT / "object").read_bytes()
    assert "secret" not in str(caught.value)


def test_zarr_takes_what_it_may_not_see_for_an_error_and_not_for_zeros(server: FaultyServer) -> None:
    written = zarr.storage.MemoryStore()
    zarr.create_array(written, shape=(4,), chunks=(2,), dtype="u1", fill_value=0)
    server.objects["/bucket/p/zarr.json"] = written._store_dict["zarr.json"].to_bytes()
    array = zarr.open_array(ROOT.zarr_store(read_only=True), mode="r")
    assert np.asarray(array).tolist() == [0, 0, 0, 0], "absent, and known to be"
    server.hides = True
    with pytest.raises(AuthError, match="bucket/p/c/"):
        np.asarray(array)
    with pytest.raises(AuthError):
        (ROOT / "missing").exists()
