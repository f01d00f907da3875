"""Why a worker should stop soon: SIGTERM, the drain of a node, a word of the driver."""

import json
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from udt_cluster.errors import UdtError
from udt_cluster.storage import Location

_terminated = threading.Event()


def install_sigterm_handler() -> None:
    """Take SIGTERM as the wish to save and end. Only a process's main thread may do this."""
    _terminated.clear()
    signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: object) -> None:
    _terminated.set()


class Interruption:
    """Asked at every step why this process should stop; None while it should not.

    Args:
        preemption: What the cluster has announced: an object with `preempted_node_ids`, or None.
        control: What the driver has asked for; see :class:`ControlReader`.
    """

    def __init__(self, preemption: Callable[[], Any], control: Callable[[], str] = str) -> None:
        self._preemption, self._control = preemption, control

    def __call__(self) -> str | None:
        """The reason, for people."""
        if _terminated.is_set():
            return "SIGTERM: somebody, or the system, wants this worker to end"
        if self._preemption() is not None:
            return "a node of this run is being taken away"
        return self._control() or None


def announced_preemption() -> Callable[[], Any]:
    """Asks Ray what it has told this worker.

    Ray's public `get_preemption_info` waits for all ranks at each call; here each looks at its own, and the ranks agree
    with the loss that they exchange anyway.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    context = get_train_context().preemption_context
    return lambda: context.preemption_info


def control_location(job_folder: Location) -> Location:
    """Where the driver writes what it wants of the workers."""
    return job_folder / "control.json"


def ask_to_stop(job_folder: Location, run: str, attempt: int, reason: str) -> None:
    """Ask the workers of an attempt to save and end."""
    wish = {"run": run, "attempt": attempt, "reason": reason}
    control_location(job_folder).write_bytes(json.dumps(wish).encode())


class ControlReader:
    """Reads what the driver wants of an attempt, from a thread of its own."""

    def __init__(self, job_folder: Location, run: str, attempt: int, *, every: float = 5.0) -> None:
        self._location, self._addressee, self._every = control_location(job_folder), (run, attempt), every
        self._reason = ""
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="udt-control", daemon=True).start()

    def __call__(self) -> str:
        """The reason to stop; empty while there is none."""
        return self._reason

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()

    def _run(self) -> None:
        while not self._reason and not self._closed.wait(self._every):
            with suppress(UdtError, OSError, ValueError):
                wish = json.loads(self._location.read_bytes())
                if (wish["run"], wish["attempt"]) == self._addressee:
                    self._reason = wish["reason"]
