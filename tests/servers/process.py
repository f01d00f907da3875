"""A server process that ends with the tests, whatever way they end."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A TCP port of the loopback interface that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess:
    """One running server; its output goes to a file, whose end is shown when it fails.

    Raises:
        RuntimeError: from `wait_until`, when the process ended or does not answer.
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(os.environ if env is None else env),
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def wait_until(self, answers: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `answers` is true."""
        end = time.monotonic() + seconds
        while not answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{self.last_words()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not answer in {seconds:.0f} s:\n{self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The end of what the process wrote."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """End the process: politely, then not."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def _die_with_parent() -> None:
    """pytest-timeout ends pytest without any clean-up; the kernel then ends the server."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
