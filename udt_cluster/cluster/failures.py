"""How an attempt ended, told apart by what is left of it, and whether there shall be another; nothing here waits.

Ray's errors are read by the names of their classes, so that this module imports nothing of Ray.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FINISHED, PREEMPTED, NODE_LOST, RESIZED, NO_ROOM = "finished", "preempted", "node_lost", "resized", "no_room"
DIED, OUT_OF_MEMORY, HANG, STORAGE, START = "worker_died", "out_of_memory", "hang", "storage", "start"
ERROR, NON_FINITE, REFUSED, VERSION, DATA = "error", "non_finite", "refused", "version", "data"

UNLIMITED = frozenset({PREEMPTED, NODE_LOST, RESIZED, NO_ROOM})
"""Nobody's fault: retried for ever, ever more slowly while nothing is gained."""
COUNTED = frozenset({DIED, OUT_OF_MEMORY, HANG, STORAGE, START, ERROR})
"""Retried as often as `retry.max` says; the count starts anew with every checkpoint."""
FINAL = frozenset({NON_FINITE, REFUSED, VERSION, DATA})
"""A retry would end in the same way."""

RESIZE_REASON = "resize"
"""How the reason begins for which an attempt was interrupted to get another number of workers."""

_LONGEST_WAIT = 60.0
_MOST_LINES = 4
_FIRST_WAIT = {PREEMPTED: 1.0, NODE_LOST: 1.0, RESIZED: 0.0, NO_ROOM: 5.0, STORAGE: 5.0}


@dataclass(frozen=True)
class Symptom:
    """What one rank, or Ray itself (`rank` None), has left behind.

    Attributes:
        names: Class names of the exception, its bases included.
        preempted: Ray says that the node was taken away on purpose.
    """

    rank: int | None
    names: tuple[str, ...]
    message: str
    preempted: bool = False


@dataclass(frozen=True)
class LastWords:
    """What a rank wrote before it ended itself, for example because it hung."""

    kind: str
    message: str


@dataclass(frozen=True)
class Traces:
    """What is known of the ranks from elsewhere than their errors.

    Attributes:
        places: Name of each rank's node.
        steps: Optimizer steps that each rank had done.
        words: Last words by rank.
        shortages: What a rank's node was short of shortly before (`40 MB left in /dev/shm`), by rank.
        lost_nodes: Nodes of the attempt that the cluster has lost.
    """

    places: Mapping[int, str]
    steps: Mapping[int, int]
    words: Mapping[int, LastWords]
    shortages: Mapping[int, str]
    lost_nodes: frozenset[str] = frozenset()


NO_TRACES = Traces({}, {}, {}, {})


@dataclass(frozen=True)
class Failure:
    """How an attempt ended.

    Attributes:
        kind: One of the words above.
        cause: A sentence for people.
        signature: Equal for equal errors of the program, whatever numbers and addresses their messages hold.
        step: Optimizer steps done when it ended.
        committed_step: Those of the last checkpoint that exists.
    """

    kind: str
    cause: str
    signature: str = ""
    step: int = 0
    committed_step: int = 0


@dataclass(frozen=True)
class Decision:
    """Whether to try again, after how many seconds, and why."""

    retry: bool
    wait_seconds: float
    reason: str


def symptoms_of(error: BaseException) -> list[Symptom]:
    """What is in the error that Ray's `fit` raised: one symptom for each rank that failed, or one of Ray's own."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    if failures:
        return [_symptom(rank, failure) for rank, failure in sorted(failures.items())]
    return [_symptom(None, getattr(error, "controller_failure", None) or error)]


def _symptom(rank: int | None, error: BaseException) -> Symptom:
    wrapped = [getattr(error, name, None) for name in ("health_check_failure", "cause")]
    inner = next((found for found in wrapped if isinstance(found, BaseException)), error)
    names = tuple(kind.__name__ for kind in type(inner).__mro__)
    return Symptom(rank, names, str(inner), preempted=bool(getattr(inner, "preempted", False)))


@dataclass(frozen=True)
class _Rule:
    """A kind of failure: how it is recognised, and the sentence for it; `{}` becomes the symptom's last line."""

    kind: str
    names: tuple[str, ...] = ()
    pattern: str = ""
    cause: str = "{}"

    def fits(self, symptom: Symptom) -> bool:
        named = not self.names or any(name in symptom.names for name in self.names)
        return named and (not self.pattern or re.search(self.pattern, symptom.message, re.I | re.S) is not None)


_NOT_FINITE = r"loss is not finite|validation loss is|NonFinite"
_COLLATERAL = (
    r"connection (closed|reset|refused)|broken pipe|remote process exited|socket (closed|timeout)"
    r"|gloo|nccl|processgroup"
)
_MEMORY = r"low on memory|memory usage threshold"
_NODE = r"node (has )?died|node was terminated|node is dead"
_NO_START = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
_REMEDY = "Lower train.micro_batch_size or data.cache, or give the workers more"

# The first rule that fits any symptom names the failure: causes come before what they entail on other ranks.
_RULES = (
    _Rule(REFUSED, ("SupersededError",), cause="a newer attempt has taken this run over: {}"),
    _Rule(NON_FINITE, ("NonFiniteLossError", "NonFiniteError")),
    _Rule(NON_FINITE, ("JobFailedError",), _NOT_FINITE),
    _Rule(VERSION, ("VersionError",)),
    _Rule(DATA, ("DataError", "CorruptError")),
    _Rule(REFUSED, ("RefusedError", "UsageError")),
    _Rule(RESIZED, ("PreemptedError",), rf"\b{RESIZE_REASON}"),
    _Rule(PREEMPTED, ("PreemptedError",)),
    _Rule(PREEMPTED, ("PreemptionError",), cause="the node was taken away before the workers had saved"),
    _Rule(OUT_OF_MEMORY, ("OutOfMemoryError",), r"cuda|gpu", f"the GPU has too little memory. {_REMEDY}: {{}}"),
    _Rule(OUT_OF_MEMORY, ("RayActorError",), _MEMORY, f"{{who}} was ended because memory ran out. {_REMEDY} memory"),
    _Rule(OUT_OF_MEMORY, ("MemoryError", "OutOfMemoryError"), cause=f"memory ran out in {{who}}. {_REMEDY} memory"),
    _Rule(OUT_OF_MEMORY, ("RuntimeError",), r"can'?t allocate memory|alloc_cpu", f"memory ran out: {{}}. {_REMEDY}"),
    _Rule(
        NODE_LOST, ("RayActorError",), r"node (has )?died|node was terminated|node is dead", "the node of {who} is gone"
    ),
    _Rule(HANG, ("WorkerHealthCheckTimeoutError",), cause="{who} did not answer any more: stopped, or stuck"),
    _Rule(HANG, (), r"timed out waiting \d+ ?ms|collective operation timeout|watchdog caught collective", "{who}: {}"),
    _Rule(DIED, ("ActorUnavailableError",), cause="{who} cannot be reached any more"),
    _Rule(DIED, ("RayActorError",), cause="{who} died without an error of its own: killed, crashed, or out of memory"),
    _Rule(STORAGE, ("OSError",), r"no space left|\[errno 28\]", "the disk is full: {}"),
    _Rule(STORAGE, ("OutOfDiskError", "ObjectStoreFullError"), cause="Ray's disk for spilled objects is full: {}"),
    _Rule(STORAGE, ("CheckpointError",)),
    _Rule(STORAGE, ("StorageUnreachableError",), cause="storage did not answer: {}"),
    _Rule(
        NO_ROOM,
        ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError"),
        cause="the cluster has no room",
    ),
    _Rule(START, ("WorkerGroupStartupFailedError",), cause="the workers did not start: {}"),
    _Rule(START, ("RuntimeEnvSetupError",), cause="a node could not prepare the workers' environment: {}"),
)
_LAST_RULE = _Rule(DIED, (), _COLLATERAL, "{who} lost its connection to the others: {}")


def classify(symptoms: Sequence[Symptom], traces: Traces = NO_TRACES, *, committed_step: int = 0) -> Failure:
    """Name the failure that explains all symptoms.

    Args:
        symptoms: Of every rank that Ray reports; not empty.
        traces: What else is known.
        committed_step: Step of the newest checkpoint.
    """
    assert symptoms, "an attempt that failed has left an error"
    step = max(traces.steps.values(), default=0)
    kind, cause, symptom = _named(symptoms, traces)
    if kind == ERROR and symptom is not None and symptom.rank is not None:
        step = traces.steps.get(symptom.rank, step)
    signature = signature_of(symptom) if kind == ERROR and symptom is not None else ""
    return Failure(kind, cause, signature, max(step, committed_step), committed_step)


def _named(symptoms: Sequence[Symptom], traces: Traces) -> tuple[str, str, Symptom | None]:
    if any(symptom.preempted for symptom in symptoms):
        return PREEMPTED, "the node was taken away before the workers had saved", None
    told = _from_last_words(symptoms, traces)
    rule, symptom = next(_fitting(symptoms), (None, symptoms[0]))
    if told is not None and (rule is None or rule.kind in {DIED, HANG}):
        return told
    if rule is None:
        if not _LAST_RULE.fits(symptom):
            return ERROR, f"{_who(symptom, traces)} raised {symptom.names[0]}: {_last_line(symptom)}", symptom
        rule = _LAST_RULE
    if rule.kind == DIED and traces.lost_nodes:
        return NODE_LOST, f"the node {', '.join(sorted(traces.lost_nodes))} is gone", symptom
    cause = rule.cause.replace("{who}", _who(symptom, traces)).replace("{}", _last_line(symptom))
    return rule.kind, cause + _shortage(rule.kind, symptom, traces), symptom


def _fitting(symptoms: Sequence[Symptom]) -> Iterator[tuple[_Rule, Symptom]]:
    return ((rule, symptom) for rule in _RULES for symptom in symptoms if rule.fits(symptom))


def _from_last_words(symptoms: Sequence[Symptom], traces: Traces) -> tuple[str, str, Symptom | None] | None:
    """What a rank said of its own end explains why it, and those who waited for it, are gone.

    A rank that hangs says so, and so does each that waits for it; who says nothing is the one that was waited for.
    """
    if not traces.words:
        return None
    rank, words = min(traces.words.items())
    symptom = next((found for found in symptoms if found.rank == rank), Symptom(rank, (), words.message))
    cause = f"{_who(symptom, traces)} {words.message}"
    silent = [Symptom(other, (), "") for other in sorted(traces.places.keys() - traces.words.keys())]
    if words.kind == HANG and silent:
        cause = f"{', '.join(_who(other, traces) for other in silent)} did not get on any more: {cause}"
    return words.kind, cause, symptom


def _who(symptom: Symptom, traces: Traces) -> str:
    if symptom.rank is None:
        return "Ray's controller of the run"
    place = traces.places.get(symptom.rank)
    return f"worker {symptom.rank}" + (f" on {place}" if place else "")


def _last_line(symptom: Symptom) -> str:
    """The line that a person would look for: our errors begin with it, a traceback ends with it."""
    lines = [line.strip() for line in symptom.message.splitlines() if line.strip()] or [symptom.names[0]]
    return " ".join(lines[:_MOST_LINES]) if "UdtError" in symptom.names else lines[-1]


def _shortage(kind: str, symptom: Symptom, traces: Traces) -> str:
    """A worker that vanished may have been ended by the system, for something that its node was short of."""
    short = traces.shortages.get(-1 if symptom.rank is None else symptom.rank)
    return f" ({short} just before)" if short and kind == DIED else ""


def crash_in(outputs: Mapping[int, str]) -> str:
    """How a process crashed, from the end of its output; for the end of a cause."""
    for rank, text in sorted(outputs.items()):
        if found := re.search(r"Fatal Python error: ([^\n]+)", text):
            hint = ", as when shared memory or a disk is full under a mapped file" if "Bus error" in found[1] else ""
            return f"; worker {rank} ended with {found[1]}{hint}"
    return ""


def signature_of(symptom: Symptom) -> str:
    """The error without what differs from one attempt to the next: numbers, addresses, temporary names."""
    text = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+", "#", _last_line(symptom))
    return f"{symptom.names[0]}: {re.sub(r'/tmp/[^ ]*', '/tmp/#', text)}"


def decide(history: Sequence[Failure], failure: Failure, *, most: int) -> Decision:
    """Whether the run is tried again.

    Args:
        history: The failures of this run before, the oldest first.
        failure: The newest.
        most: `retry.max`.
    """
    if failure.kind in FINAL:
        return Decision(False, 0.0, "another attempt would end in the same way")
    if failure.kind in UNLIMITED:
        again = _in_a_row(history, failure, UNLIMITED)
        return Decision(True, _pause(failure.kind, again), "not counted against retry.max")
    if failure.kind == ERROR and any(_same_error(failure, earlier) for earlier in history):
        return Decision(False, 0.0, f"the same error at the same step ({failure.step}) twice is a bug, not bad luck")
    count = 1 + _in_a_row(history, failure, COUNTED)
    if count > most:
        times = "once" if count == 1 else f"{count} times"
        return Decision(False, 0.0, f"it failed {times} without a new checkpoint, and retry.max is {most}")
    reason = f"{count} of at most {most} without a new checkpoint"
    return Decision(True, _pause(failure.kind, count - 1), reason)


def _same_error(failure: Failure, earlier: Failure) -> bool:
    return (earlier.kind, earlier.signature, earlier.step) == (ERROR, failure.signature, failure.step)


def _in_a_row(history: Sequence[Failure], failure: Failure, kinds: frozenset[str]) -> int:
    """Earlier failures of these kinds since the newest checkpoint."""
    return sum(earlier.kind in kinds and earlier.committed_step >= failure.committed_step for earlier in history)


def _pause(kind: str, again: int) -> float:
    """The first retry is at once or nearly so; then twice as long each time, up to a minute."""
    first = _FIRST_WAIT.get(kind, 0.0)
    return min(_LONGEST_WAIT, first if again == 0 else max(first, 2.5) * 2.0**again)
