"""A run's attempts, as its driver sees them: find room, start the workers, learn how they ended, decide, start again.

Ray Train places the workers, makes their process group and shows them in its dashboard; it never retries. It tells no
two failures apart that we do, resumes by name, and keeps its number of workers.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster import failures
from udt_cluster.cluster.driver.elastic import GROW_SECONDS, LOOK_SECONDS, Growth, Room, look_at_cluster, need_of_worker
from udt_cluster.cluster.failures import Decision, Failure
from udt_cluster.cluster.plan import RunPlan, scratch_folder
from udt_cluster.cluster.record import Attempt, now
from udt_cluster.cluster.signs import Sign, read_signs, signs_folder, traces_of
from udt_cluster.cluster.worker.signals import ask_to_stop
from udt_cluster.cluster.worker.train import train_worker
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, UdtError
from udt_cluster.storage import Location

if TYPE_CHECKING:
    from udt_cluster.training import CheckpointCatalog

Say = Callable[[str], None]
Launch = Callable[[RunPlan, int], None]
"""Runs an attempt with so many workers to its end, or raises what ended it."""

DRIVER_LOST = "driver_lost"
"""How an attempt ended that an earlier life of the job's driver left open."""
_PLACEMENT_SECONDS = 60
_POLL_SECONDS = 1.0
_LEAST_HEALTH_SECONDS = 10.0

log = logging.getLogger("udt_cluster")


def train_run(plan: RunPlan, job: Job, *, gpus: int, say: Say) -> dict[str, Any]:
    """Train one run to its end, over as many attempts as it takes; a run that has reached it is left as it is.

    Args:
        plan: The run.
        job: What to train; the workers are given the plan's own.
        gpus: GPUs of each worker.
        say: Told of every failure and what is done about it.

    Returns:
        `epochs` done, `best_epoch`, `best_val_dice`.

    Raises:
        UdtError: the run failed for good; the message says why in plain words.
    """
    room = Room(job.worker_counts, need_of_worker(job, gpus=gpus), say=say)
    Attempts(plan, job, room=room, launch=RayLaunch(job, gpus=gpus), say=say).run()
    return outcome(plan)


def outcome(plan: RunPlan) -> dict[str, Any]:
    """Epochs and the best of them, from the checkpoints."""
    catalog = _catalog(plan)
    newest, best = catalog.newest_info(), catalog.best().info
    epochs = newest.epoch if newest else best.epoch
    val_dice = None if best.val_dice != best.val_dice else best.val_dice
    return {"epochs": epochs, "best_epoch": best.epoch, "best_val_dice": val_dice}


def _catalog(plan: RunPlan) -> "CheckpointCatalog":
    from udt_cluster.training import CheckpointCatalog

    return CheckpointCatalog(plan.folder / "checkpoints", plan.run)


@dataclass(frozen=True)
class Aftermath:
    """What the cluster says when an attempt has failed.

    Attributes:
        lost_nodes: Ids of the nodes that it has lost.
        outputs: The end of what each dead worker wrote, by rank.
    """

    lost_nodes: frozenset[str] = frozenset()
    outputs: Mapping[int, str] = field(default_factory=dict)


def inquire(plan: RunPlan) -> Aftermath:
    """Look at the nodes, and ship what the dead had written and not shipped, while their nodes live."""
    from ray.exceptions import RayError

    from udt_cluster.cluster.logship import collect_last_words

    outputs: Mapping[int, str] = {}
    with suppress(RayError, UdtError, OSError):
        outputs = collect_last_words(plan.record.logs, plan.run, plan.attempt)
    # The nodes last: of a host without power the cluster knows only later, and its words are waited for in vain.
    return Aftermath(look_at_cluster().lost, outputs)


@dataclass(frozen=True)
class Ended:
    """An attempt that failed, with the error that Ray's `fit` raised."""

    failure: Failure
    error: Exception


class Attempts:
    """The attempts at one run.

    Args:
        room: Finds room for the workers.
        launch: Runs one attempt.
        inquire: Asks the cluster about an attempt that failed.
        say: Told of every failure.
        sleep: As in :mod:`time`.
        grow_seconds: See :mod:`udt_cluster.cluster.driver.elastic`.
        look_seconds: Between two looks at a running attempt.
    """

    def __init__(
        self,
        plan: RunPlan,
        job: Job,
        *,
        room: Room,
        launch: Launch,
        say: Say,
        inquire: Callable[[RunPlan], Aftermath] = inquire,
        sleep: Callable[[float], object] = time.sleep,
        grow_seconds: float = GROW_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._plan, self._job, self._room, self._launch = plan, job, room, launch
        self._say, self._sleep, self._inquire = say, sleep, inquire
        self._grow_seconds, self._look_seconds = grow_seconds, look_seconds
        self._record, self._catalog = plan.record, _catalog(plan)
        self._history: list[Failure] = []
        self._failed_at: float | None = None

    def run(self) -> None:
        """Until one finishes, or there shall be none any more.

        Raises:
            UdtError: see :func:`train_run`.
        """
        before = [self._closed(attempt) for attempt in self._record.attempts(self._plan.run)]
        if self._is_trained(before):
            self._say(f"run {self._plan.run} has been trained to its end before")
            return
        number = self._next_number(before)
        while (ended := self._attempt(number)) is not None:
            decision = failures.decide(self._history, ended.failure, most=self._job.retry.max)
            self._history.append(ended.failure)
            self._tell(number, ended.failure, decision)
            if not decision.retry:
                raise _for_good(self._plan, ended, decision) from ended.error
            self._sleep(decision.wait_seconds)
            number += 1

    def _closed(self, attempt: Attempt) -> Attempt:
        """An attempt of an earlier life; what nobody could write any more is written now."""
        if attempt.kind:
            return attempt
        committed = self._committed_step()
        step = max([committed, *(sign.step for sign in read_signs(self._signs(attempt.number)))])
        cause = "the job's driver ended before the attempt did"
        return self._write_end(attempt, Failure(DRIVER_LOST, cause, step=step, committed_step=committed))

    def _is_trained(self, before: list[Attempt]) -> bool:
        """Whether the last attempt finished, and no more epochs have been asked for since."""
        newest = self._catalog.newest_info()
        finished = bool(before) and before[-1].kind == failures.FINISHED
        return finished and newest is not None and newest.epoch >= self._job.train.epochs

    def _next_number(self, before: list[Attempt]) -> int:
        from udt_cluster.training import StorageCheckpoints

        seen = StorageCheckpoints.next_attempt(self._catalog.root)
        return max([seen, *(attempt.number + 1 for attempt in before)])

    def _attempt(self, number: int) -> Ended | None:
        """One attempt; None when it finished."""
        workers = self._room.wait()
        began_from = self._committed_step()
        attempt = Attempt(self._plan.run, number, workers, now(), resumed_step=began_from, committed_step=began_from)
        self._record.write_attempt(attempt)
        growth = Growth(self._room, workers, seconds=self._grow_seconds)
        with Follower(self, attempt, growth, every=self._look_seconds) as follower:
            error = self._run_one(replace(self._plan, attempt=number), workers)
        signs = read_signs(self._signs(number))
        attempt, committed = follower.seen(signs), self._committed_step()
        if error is None:
            self._write_end(attempt, Failure(failures.FINISHED, "", step=committed, committed_step=committed))
            return None
        ended = Ended(self._explain(error, number, signs, committed), error)
        self._failed_at = max((sign.beat_at for sign in signs if sign.beat_at), default=self._failed_at or time.time())
        self._write_end(attempt, ended.failure)
        return ended

    def _run_one(self, plan: RunPlan, workers: int) -> Exception | None:
        from ray.exceptions import RayError
        from ray.train.v2.api.exceptions import TrainingFailedError

        ended: Exception | None = None
        try:
            self._launch(plan, workers)
        except (TrainingFailedError, RayError) as error:
            ended = error
        return ended

    def _explain(self, error: Exception, number: int, signs: list[Sign], committed: int) -> Failure:
        found = self._inquire(replace(self._plan, attempt=number))
        traces = traces_of(signs, lost_nodes=found.lost_nodes)
        failure = failures.classify(failures.symptoms_of(error), traces, committed_step=committed)
        return replace(failure, cause=failure.cause + failures.crash_in(found.outputs))

    def _write_end(self, attempt: Attempt, failure: Failure) -> Attempt:
        ended = replace(
            attempt,
            ended_at=now(),
            kind=failure.kind,
            cause=failure.cause,
            step=failure.step,
            committed_step=failure.committed_step,
            lost_steps=failure.step - failure.committed_step,
        )
        self._record.write_attempt(ended)
        return ended

    def _tell(self, number: int, failure: Failure, decision: Decision) -> None:
        run = self._plan.run.removeprefix(f"{self._plan.job_id}-")
        lost = failure.step - failure.committed_step
        cost = f"{lost} step{'' if lost == 1 else 's'} lost" if lost else "nothing lost"
        then = f"trying again{_after(decision.wait_seconds)} ({decision.reason})"
        more = then if decision.retry else f"not tried again: {decision.reason}"
        self._say(f"attempt {number} of {run} ended at step {failure.step}: {failure.cause}; {cost}; {more}")

    def _committed_step(self) -> int:
        newest = self._catalog.newest_info()
        return newest.step if newest else 0

    def _signs(self, number: int) -> Location:
        return signs_folder(self._record.folder, self._plan.run, number)

    def observe(self, attempt: Attempt, signs: list[Sign]) -> Attempt:
        """The attempt with what its workers say of themselves."""
        began = [sign for sign in signs if sign.began_at]
        if not began:
            return replace(attempt, nodes=tuple(sign.node for sign in signs))
        first = min(sign.began_at for sign in began)
        return replace(
            attempt,
            nodes=tuple(sign.node for sign in signs),
            resumed_step=min(sign.first_step for sign in began) - 1,
            step=max(sign.step for sign in signs),
            recovery_seconds=None if self._failed_at is None else round(first - self._failed_at, 1),
        )

    def look_at(self, attempt: Attempt, growth: Growth) -> Attempt:
        """Bring a running attempt's record up to date, and interrupt it when it should have more workers."""
        seen = self.observe(attempt, read_signs(self._signs(attempt.number)))
        if seen != attempt:
            self._record.write_attempt(seen)
        if seen.step and (larger := growth.look()) is not None:
            reason = f"{failures.RESIZE_REASON} from {attempt.workers} to {larger} workers"
            ask_to_stop(self._record.folder, attempt.run, attempt.number, reason)
        return seen


@dataclass
class Follower:
    """Looks at a running attempt from a thread of its own."""

    attempts: Attempts
    attempt: Attempt
    growth: Growth
    every: float
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Follower":
        self._thread = threading.Thread(target=self._run, name="udt-follower", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def seen(self, signs: list[Sign]) -> Attempt:
        """The attempt as it was seen last."""
        return self.attempts.observe(self.attempt, signs) if signs else self.attempt

    def _run(self) -> None:
        while not self._over.wait(self.every):
            with suppress(UdtError, OSError):
                self.attempt = self.attempts.look_at(self.attempt, self.growth)


def _after(seconds: float) -> str:
    return f" in {seconds:.0f} s" if seconds else ""


def _for_good(plan: RunPlan, ended: Ended, decision: Decision) -> UdtError:
    """Our own error as it was raised, with its exit code; or one that says what happened."""
    raised = getattr(ended.error, "worker_failures", None) or {}
    own = next((error for error in raised.values() if isinstance(error, UdtError)), None)
    if own is not None and ended.failure.kind in failures.FINAL:
        return own
    return JobFailedError(f"run {plan.run} failed: {ended.failure.cause}. It is not tried again: {decision.reason}")


class RayLaunch:
    """Runs an attempt on Ray Train, which is told never to retry."""

    def __init__(self, job: Job, *, gpus: int) -> None:
        self._need = need_of_worker(job, gpus=gpus)
        self._gpus, self._hang = gpus, job.retry.hang.total_seconds()

    def __call__(self, plan: RunPlan, workers: int) -> None:
        """Until all workers have ended.

        Raises:
            TrainingFailedError, RayError: of Ray.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from udt_cluster.cluster.worker.backend import WorkerTorchConfig

        os.environ.update(ray_limits(self._hang))
        scratch = scratch_folder()
        gpu = bool(self._gpus)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=asdict(plan),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=self._need),
            run_config=RunConfig(
                # A name that was never used: Ray would resume whatever lies there.
                name=f"{plan.run}-a{plan.attempt}-{time.time_ns()}",
                storage_path=str(scratch),
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0),
            ),
            torch_config=WorkerTorchConfig(
                backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=int(self._hang) + _PLACEMENT_SECONDS
            ),
        )
        try:
            trainer.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def ray_limits(hang_seconds: float) -> dict[str, str]:
    """Time limits of Ray Train, which are environment variables; it takes them on to its controller and workers."""
    return {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(_POLL_SECONDS),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(max(_LEAST_HEALTH_SECONDS, hang_seconds)),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_PLACEMENT_SECONDS),
        "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(hang_seconds + _PLACEMENT_SECONDS),
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": str(2 * _POLL_SECONDS),
    }
