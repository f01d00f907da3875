"""A proxy that misbehaves in front of a real HTTP server, one request at a time, as a test decides."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "expect"}


@dataclass(frozen=True)
class Request:
    """What came in: the method, the path without its query, the names in the query."""

    method: str
    path: str
    query: frozenset[str]

    @property
    def verb(self) -> str:
        """The S3 call, as far as tests tell them apart."""
        part = self.query & {"uploads", "uploadId", "list-type", "delete"}
        return f"{self.method} {next(iter(part))}" if part else self.method


@dataclass(frozen=True)
class Instead:
    """An answer of the proxy's own; with `passed` the server has done what was asked before."""

    status: int
    body: bytes = b""
    passed: bool = False


LOSE = Instead(0, passed=True)
"""The server does what was asked, and the connection ends without an answer."""

Verdict = Callable[[Request], Instead | None]


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on unless `verdict` says what happens instead. `requests`: all that came, in order."""

    daemon_threads = True

    def __init__(self, port: int, verdict: Verdict) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.port, self.verdict = port, verdict
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """URL of the proxy."""
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, verb: str, ending: str = "") -> int:
        """How many such requests came."""
        return sum(request.verb == verb and request.path.endswith(ending) for request in self.requests)

    def handle_error(self, *_: object) -> None:
        """A client that has gone is none of ours."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _take(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        request = Request(self.command, split.path, frozenset(parse_qs(split.query, keep_blank_values=True)))
        with self.server.lock:
            self.server.requests.append(request)
            instead = self.server.verdict(request)
        if instead is None:
            self._answer(*self._ask(body))
            return
        if instead.passed:
            self._ask(body)
        if instead.status:
            self._answer(instead.status, {"Content-Type": "application/xml"}, instead.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _take

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        for key, value in headers.items():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", length or "0")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_proxy(port: int, verdict: Verdict) -> Iterator[FaultyProxy]:
    """A proxy before the server at a loopback port, until the end of the block."""
    with FaultyProxy(port, verdict) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
