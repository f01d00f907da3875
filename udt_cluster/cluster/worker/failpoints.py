"""Faults that a training worker does to itself at a given step, for tests and for `verify-resume`.

::

    kill:step=7,rank=1,attempt=0; nan:step=9

`step` is the optimizer step (from 1) before which it happens, `rank` (default 0) to whom, `attempt` in which attempt
(default: in every one).
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udt_cluster.errors import UsageError

if TYPE_CHECKING:
    from udt_cluster.training.protocols import Batch

VARIABLE = "UDT_FAULTS"
"""Read by the driver of a job alone."""


class FailpointError(RuntimeError):
    """What `raise` raises."""


@dataclass(frozen=True)
class Fault:
    """One fault, once or in every attempt."""

    kind: str
    step: int
    rank: int = 0
    attempt: int | None = None

    def is_due(self, *, step: int, rank: int, attempt: int) -> bool:
        """Whether it happens here and now."""
        return (self.step, self.rank) == (step, rank) and self.attempt in (None, attempt)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults as they are written above; none of an empty text.

    Raises:
        UsageError: it says something else.
    """
    return tuple(_parse(part.strip()) for part in text.split(";") if part.strip())


def _parse(text: str) -> Fault:
    kind, _, rest = text.partition(":")
    pairs = [pair.strip().partition("=") for pair in rest.split(",")]
    values = {name: int(value) for name, _, value in pairs if name in _FIELDS and value.isdecimal()}
    if kind not in ACTIONS or len(values) != len(pairs) or values.get("step", 0) < 1:
        raise UsageError(
            f"fault {text!r}: must be KIND:step=N, or with rank=N or attempt=N too; KIND: {', '.join(ACTIONS)}; step "
            "from 1, the others from 0"
        )
    return Fault(kind, **values)


_FIELDS = ("step", "rank", "attempt")


class Failpoints:
    """The faults of one rank in one attempt.

    Args:
        text: See :func:`parse_faults`.
        rank: This process.
        attempt: The number of the attempt.
    """

    def __init__(self, text: str, *, rank: int, attempt: int) -> None:
        mine = (f for f in parse_faults(text) if f.is_due(step=f.step, rank=rank, attempt=attempt))
        self._by_step = {fault.step: fault.kind for fault in mine}

    def __bool__(self) -> bool:
        return bool(self._by_step)

    def before_step(self, step: int, batches: "Sequence[Batch]") -> None:
        """Do what is due at this step, if anything is."""
        if kind := self._by_step.get(step):
            ACTIONS[kind](step, batches)


def _raise(step: int, batches: "Sequence[Batch]") -> None:
    raise FailpointError(f"fault raised before step {step}")


def _poison(step: int, batches: "Sequence[Batch]") -> None:
    batches[0].images.fill_(float("nan"))


def _hang(step: int, batches: "Sequence[Batch]") -> None:
    threading.Event().wait()


def _exit(step: int, batches: "Sequence[Batch]") -> None:
    os._exit(1)


def _signal(number: signal.Signals) -> "Callable[[int, Sequence[Batch]], None]":
    def send(step: int, batches: "Sequence[Batch]") -> None:
        os.kill(os.getpid(), number)

    return send


ACTIONS: "Mapping[str, Callable[[int, Sequence[Batch]], None]]" = {
    "kill": _signal(signal.SIGKILL),
    "bus": _signal(signal.SIGBUS),
    "term": _signal(signal.SIGTERM),
    "stop": _signal(signal.SIGSTOP),
    "raise": _raise,
    "nan": _poison,
    "exit": _exit,
    "hang": _hang,
}
"""What each kind does before a step."""
