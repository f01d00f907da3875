"""S3 that misbehaves: a small server in this process that fails as told. What real S3 does is tested on a real one."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
MISSING = b"<Error><Code>NoSuchKey</Code></Error>"


class FaultyServer(ThreadingHTTPServer):
    """Holds `objects` by "/bucket/key".

    Each GET or PUT takes the first of `faults`: "503", "hang up" before an answer; "half" of the body and then the end,
    "reset" (RST) or "stall" (silence, longer than a client waits) instead of the rest. `hides`: what is not there, and
    every listing, is answered 403, as for a role that may get objects and nothing else.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.hides = False
        self.requests: list[str] = []
        self.over = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        """AWS variables that lead here."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


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
            self.answer(*((403, DENIED) if self.server.hides else (404, MISSING)))
        else:
            self.answer(200, data, fault)

    def do_HEAD(self) -> None:
        data = self.server.objects.get(self.path)
        if data is None:
            self.answer(403 if self.server.hides else 404, b"")
        else:
            self.head(200, len(data))

    def do_PUT(self) -> None:
        self.server.requests.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.faults and self.server.faults.pop(0) == "503":
            self.answer(503, SLOW_DOWN)
        else:
            self.server.objects[self.path] = data
            self.answer(200, b"")

    def head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"tag"')
        self.end_headers()

    def answer(self, status: int, body: bytes, fault: str = "") -> None:
        self.head(status, len(body))
        self.wfile.write(body[: len(body) // 2] if fault else body)
        if not fault:
            return
        self.wfile.flush()
        self.close_connection = True
        if fault == "stall":
            self.server.over.wait(30)
        if fault == "reset":
            time.sleep(0.05)  # what was sent shall arrive before the reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def finish(self) -> None:
        if self.connection.fileno() >= 0:
            super().finish()


@contextmanager
def running_faulty_server() -> Iterator[FaultyServer]:
    """A server, until the end of the block."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()
