"""Failures told apart, and what is decided after each."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from udt_cluster.cluster import failures
from udt_cluster.cluster.failures import Failure, LastWords, Symptom, Traces, classify, decide, symptoms_of
from udt_cluster.errors import (
    AuthError,
    CorruptError,
    DataError,
    JobFailedError,
    StorageUnreachableError,
    VersionError,
)
from udt_cluster.training.protocols import CheckpointError, PreemptedError, SupersededError

KILLED = ActorDiedError()
KILLED.error_msg = (
    "The actor died unexpectedly before finishing this task.\nThe actor is dead because its worker process has died. "
    "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End "
    "of file. Some common causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) "
    "ray stop --force was called, (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)
PRESSED = RayActorError(
    error_msg="Task was killed due to the node running low on memory.\nMemory on the node was 95 GB"
)
NODE_GONE = RayActorError(
    error_msg="The actor died because its node has died. Node Id: 12ab\n\tthe actor's node was gone"
)
RECLAIMED = RayActorError(error_msg="its node was drained", preempted=True)
NOT_FINITE = JobFailedError("the loss is not finite at epoch 1, step 3: {}; samples [4]. Look at these samples")
PEER_GONE = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2345")
LATE = RuntimeError(
    "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 30000ms for recv operation to complete"
)


def dead(error: Exception) -> Exception:
    """As Ray Train wraps the death of an actor."""
    return WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", failure=error)


def group(**ranks: Exception) -> WorkerGroupError:
    """`r0=...`: what each rank has left."""
    return WorkerGroupError("...", {int(name[1:]): error for name, error in ranks.items()})


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (group(r1=dead(KILLED)), failures.DIED, "worker 1 on alpha died without an error of its own"),
        (group(r0=PEER_GONE, r1=dead(KILLED)), failures.DIED, "worker 1 on alpha died"),
        (group(r0=PEER_GONE), failures.DIED, "worker 0 lost its connection to the others"),
        (group(r0=ValueError("collateral"), r1=dead(KILLED)), failures.DIED, "worker 1 on alpha died"),
        (group(r0=dead(ActorUnavailableError("RPC error", None))), failures.DIED, "cannot be reached"),
        (group(r0=PEER_GONE, r1=dead(NODE_GONE)), failures.NODE_LOST, "the node of worker 1 on alpha is gone"),
        (group(r0=PEER_GONE, r1=dead(RECLAIMED)), failures.PREEMPTED, "taken away"),
        (PreemptionError(PreemptionInfo(None, {"a": [0]}), True), failures.PREEMPTED, "taken away"),
        (group(r0=PreemptedError("SIGTERM", 7), r1=PreemptedError("SIGTERM", 7)), failures.PREEMPTED, "SIGTERM"),
        (group(r0=PreemptedError("resize from 1 to 2 workers", 7)), failures.RESIZED, "resize from 1 to 2 workers"),
        (group(r0=dead(PRESSED)), failures.OUT_OF_MEMORY, "memory ran out"),
        (group(r0=MemoryError()), failures.OUT_OF_MEMORY, "memory ran out in worker 0"),
        (group(r0=OutOfMemoryError("CUDA out of memory. Tried")), failures.OUT_OF_MEMORY, "train.micro_batch_size"),
        (
            group(r1=WorkerHealthCheckTimeoutError("hanging for 12 s")),
            failures.HANG,
            "worker 1 on alpha did not answer",
        ),
        (group(r0=LATE), failures.HANG, "Timed out waiting"),
        (
            group(r0=LATE, r1=WorkerHealthCheckTimeoutError("hanging")),
            failures.HANG,
            "worker 1 on alpha did not answer",
        ),
        (group(r0=OSError(28, "No space left on device")), failures.STORAGE, "the disk is full"),
        (group(r0=StorageUnreachableError("s3://b: no answer")), failures.STORAGE, "s3://b: no answer"),
        (group(r0=CheckpointError("twice")), failures.STORAGE, "twice"),
        (group(r0=ValueError("axis 3")), failures.ERROR, "worker 0 raised ValueError: axis 3"),
        (group(r0=NOT_FINITE, r1=NOT_FINITE), failures.NON_FINITE, "epoch 1, step 3"),
        (group(r0=JobFailedError("the validation loss is nan after epoch 2: ...")), failures.NON_FINITE, "epoch 2"),
        (group(r0=JobFailedError("something else")), failures.ERROR, "something else"),
        (group(r0=VersionError("ZeRO 2 -> 1")), failures.VERSION, "ZeRO 2 -> 1"),
        (group(r0=DataError("two patients")), failures.DATA, "two patients"),
        (group(r0=CorruptError("chunk 3")), failures.DATA, "chunk 3"),
        (group(r0=AuthError("s3 said no")), failures.REFUSED, "s3 said no"),
        (group(r0=SupersededError("attempt 3")), failures.REFUSED, "a newer attempt"),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), failures.NO_ROOM, "no room"),
        (ControllerError(WorkerGroupStartupFailedError("actor failed")), failures.START, "actor failed"),
        (KILLED, failures.DIED, "Ray's controller of the run died"),
    ],
)
def test_a_failure_is_named_by_its_cause_and_not_by_what_it_entails(error: Exception, kind: str, said: str) -> None:
    failure = classify(symptoms_of(error), Traces({1: "alpha"}, {}, {}, {}))
    assert failure.kind == kind
    assert said in failure.cause
    assert "\n" not in failure.cause


def test_each_kind_is_either_counted_or_free_or_final() -> None:
    kinds = [failures.UNLIMITED, failures.COUNTED, failures.FINAL]
    assert len(frozenset.union(*kinds)) == sum(map(len, kinds)) == 14


def test_the_last_words_of_a_rank_explain_its_death_and_that_of_those_who_waited() -> None:
    words = {1: LastWords(failures.HANG, "made no step for 10 s; its stacks are in its log")}
    traces = Traces({1: "alpha"}, {0: 7, 1: 7}, words, {})
    failure = classify(symptoms_of(group(r0=PEER_GONE, r1=dead(KILLED))), traces, committed_step=4)
    assert failure == Failure(
        failures.HANG, "worker 1 on alpha made no step for 10 s; its stacks are in its log", "", 7, 4
    )
    waited = Traces({0: "alpha", 1: "beta"}, {}, {0: LastWords(failures.HANG, "made no step")}, {})
    blamed = classify(symptoms_of(group(r0=dead(KILLED), r1=WorkerHealthCheckTimeoutError("hanging"))), waited).cause
    assert blamed == "worker 1 on beta did not get on any more: worker 0 on alpha made no step"
    refused = classify(symptoms_of(group(r0=DataError("x"), r1=dead(KILLED))), traces)
    assert refused.kind == failures.DATA, "old words do not hide a better cause"


def test_a_crash_is_told_by_what_the_process_wrote_last() -> None:
    outputs = {
        0: "epoch 1\n",
        1: "step 4\nFatal Python error: Bus error\n\nCurrent thread 0x1 (most recent call first)",
    }
    said = failures.crash_in(outputs)
    assert "worker 1 ended with Bus error" in said
    assert "shared memory" in said
    assert failures.crash_in({0: "epoch 1"}) == failures.crash_in({}) == ""
    assert "shared memory" not in failures.crash_in({0: "Fatal Python error: Segmentation fault"})


def test_a_step_is_never_before_the_last_checkpoint() -> None:
    assert classify(symptoms_of(group(r0=dead(KILLED))), Traces({}, {0: 3}, {}, {}), committed_step=5).step == 5


def test_a_dead_worker_is_told_with_what_its_node_was_short_of() -> None:
    traces = Traces({}, {}, {}, {1: "3 MB left in /dev/shm"})
    assert "3 MB left in /dev/shm just before" in classify(symptoms_of(group(r1=dead(KILLED))), traces).cause
    assert "/dev/shm" not in classify(symptoms_of(group(r0=dead(KILLED))), traces).cause


def test_a_lost_connection_is_a_lost_node_where_the_cluster_has_lost_one() -> None:
    traces = Traces({}, {}, {}, {}, frozenset({"beta"}))
    failure = classify(symptoms_of(group(r0=PEER_GONE)), traces)
    assert (failure.kind, failure.cause) == (failures.NODE_LOST, "the node beta is gone")
    assert classify(symptoms_of(group(r0=ValueError("x"))), traces).kind == failures.ERROR


def test_a_failure_is_at_the_step_of_the_rank_that_failed() -> None:
    traces = Traces({}, {0: 9, 1: 8}, {}, {})
    assert classify(symptoms_of(group(r1=ValueError("x"))), traces).step == 8
    assert classify(symptoms_of(ControllerError(WorkerGroupStartupFailedError("x"))), traces).step == 9


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("index 3 is out of bounds", "index 17 is out of bounds", True),
        ("<Tensor at 0x7f3a01bc>", "<Tensor at 0x7f00aabb>", True),
        ("no file /tmp/udt-1-abc/x.json", "no file /tmp/udt-2-def/x.json", True),
        ("no such key", "no such value", False),
    ],
)
def test_the_signature_of_an_error_has_no_numbers(first: str, second: str, same: bool) -> None:
    signatures = [classify([Symptom(0, ("ValueError",), text)]).signature for text in (first, second)]
    assert (signatures[0] == signatures[1]) is same


def at(kind: str, step: int = 5, committed: int = 4, signature: str = "") -> Failure:
    return Failure(kind, "", signature, step, committed)


@pytest.mark.parametrize("kind", sorted(failures.UNLIMITED))
def test_what_nobody_could_help_is_retried_for_ever_and_more_slowly_without_progress(kind: str) -> None:
    history = [at(kind)] * 40
    assert decide(history, at(kind), most=0) == decide(history[:20], at(kind), most=0)
    waits = [decide(history[:n], at(kind), most=0).wait_seconds for n in range(40)]
    assert waits == sorted(waits)
    assert waits[0] <= 5
    assert waits[-1] == 60
    assert decide(history, at(kind, committed=6), most=0).wait_seconds == waits[0], "a new checkpoint is progress"


@pytest.mark.parametrize("kind", sorted(failures.COUNTED))
def test_what_may_be_our_fault_is_retried_max_times_between_two_checkpoints(kind: str) -> None:
    history = [at(kind, step=n) for n in range(5, 8)]
    assert [decide(history[:n], at(kind, step=9), most=3).retry for n in range(4)] == [True, True, True, False]
    assert decide(history, at(kind, step=9, committed=8), most=3).retry, "the count starts anew with a checkpoint"
    assert not decide([], at(kind), most=0).retry
    assert "retry.max is 3" in decide(history, at(kind, step=9), most=3).reason


def test_kinds_that_are_counted_are_counted_together() -> None:
    history = [at(failures.DIED), at(failures.PREEMPTED), at(failures.HANG)]
    assert decide(history, at(failures.STORAGE), most=3).retry
    assert not decide(history, at(failures.STORAGE), most=2).retry


@pytest.mark.parametrize("kind", sorted(failures.FINAL))
def test_what_would_end_in_the_same_way_is_not_tried_again(kind: str) -> None:
    assert not decide([], at(kind), most=3).retry


def test_fault_F2_the_same_error_at_the_same_step_twice_is_a_bug() -> None:
    error = at(failures.ERROR, signature="ValueError: x")
    assert decide([], error, most=9).retry
    again = decide([error, at(failures.PREEMPTED)], error, most=9)
    assert not again.retry
    assert "bug" in again.reason
    assert decide([error], at(failures.ERROR, step=6, signature="ValueError: x"), most=9).retry, "at another step"
    assert decide([error], at(failures.ERROR, signature="ValueError: y"), most=9).retry, "another error"
