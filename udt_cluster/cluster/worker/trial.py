"""One trial of a sweep: its folds and seeds one after the other, with a stop at each rung.

It runs in a thread of a process that stays for the next trial: to import torch and DeepSpeed takes half a minute, and a
trial may take one.
"""

import gc
import json
import queue
import threading
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from udt_cluster.cluster.plan import PATIENCE_SECONDS, RunPlan
from udt_cluster.cluster.signs import Sign, SignWriter, signs_folder
from udt_cluster.cluster.worker.train import Place, Watch, log_to_stdout, train_rank
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, UdtError
from udt_cluster.search.rungs import Rungs
from udt_cluster.search.trials import Rung, TrialRun

_JOIN_SECONDS = 60.0


@dataclass(frozen=True)
class TrialPlan:
    """What a process needs to train one trial.

    Attributes:
        number: Of the trial.
        runs: One for each fold and seed, in the order in which they are trained.
        rungs: Where it is compared.
        metric: What it is compared by.
        most: How often a run may be begun without coming further; see `retry.max`.
        done: Runs that were trained to their end before.
        scores: Score each run's best checkpoint, case by case, on what its fold held out.
    """

    number: int
    runs: tuple[RunPlan, ...]
    rungs: Rungs
    metric: str
    most: int
    done: tuple[TrialRun, ...] = ()
    scores: bool = False

    def to_json(self) -> str:
        """As it lies in the job's record."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        values["runs"] = tuple(RunPlan(**run) for run in values["runs"])
        values["done"] = tuple(TrialRun(**run) for run in values["done"])
        values["rungs"] = Rungs(tuple(values["rungs"]["epochs"]), values["rungs"]["runs"])
        return cls(**values)


@dataclass(frozen=True)
class Report:
    """What a trial says when it has come to a rung, or to its end.

    Attributes:
        rung: The rung; None at the end.
        runs: Folds and seeds that are done.
        outcome: How it ended; empty at a rung.
        message: Why it did not finish.
    """

    rung: Rung | None
    runs: tuple[TrialRun, ...]
    outcome: Literal["", "finished", "diverged", "failed"] = ""
    message: str = ""

    def to_json(self) -> str:
        """As it goes from process to process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        rung = Rung(**values["rung"]) if values["rung"] else None
        return cls(**{**values, "rung": rung, "runs": tuple(TrialRun(**run) for run in values["runs"])})


class StoppedError(Exception):
    """The trial shall not go on from the rung that it has reached."""


AtRung = Callable[[Report], None]
"""Told of a rung; returns when the trial goes on, raises StoppedError when not."""


Train = Callable[[RunPlan, Callable[[dict[str, float]], None]], int]
"""Trains one run, tells of each epoch's metrics, and returns the network's trainable numbers."""


def train_trial(plan: TrialPlan, at_rung: AtRung, *, train: Train) -> Report:
    """Every fold and seed that is not done, each with its rungs; how the trial ended.

    Args:
        plan: What to train.
        at_rung: Asked at every rung.
        train: Trains one run.

    Raises:
        StoppedError: by `at_rung`.
    """
    from udt_cluster.training.protocols import NonFiniteError

    course = _Course(plan, at_rung, train, list(plan.done))
    try:
        for index in range(len(plan.done), len(plan.runs)):
            course.run(index)
    except NonFiniteError as error:
        return course.ended("diverged", error.message)
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - one trial that fails must not end the others
        traceback.print_exc()
        return course.ended(
            "failed", error.message if isinstance(error, UdtError) else f"{type(error).__name__}: {error}"
        )
    return course.ended("finished")


@dataclass
class _Course:
    """How far a trial has come."""

    plan: TrialPlan
    at_rung: AtRung
    train: Train
    done: list[TrialRun]

    def run(self, index: int) -> None:
        """Train one fold and seed."""
        plan, best = self.plan.runs[index], _Best(self.plan.metric)

        def tell(metrics: dict[str, float]) -> None:
            best.add(metrics)
            rung = self.plan.rungs.at_epoch(best.epoch) if index == 0 else None
            if rung is not None:
                self._ask(rung, best.epoch, best.value)

        parameters = self.train(plan, tell)
        self.done.append(best.as_run(plan, parameters))
        spent = sum(run.epochs for run in self.done)
        self._ask(self.plan.rungs.at_end_of(index), spent, sum(run.value for run in self.done) / len(self.done))

    def _ask(self, rung: int, epochs: int, value: float) -> None:
        self.at_rung(Report(Rung(index=rung, epochs=epochs, value=value), tuple(self.done)))

    def ended(self, outcome: Literal["finished", "diverged", "failed"], message: str = "") -> Report:
        """The last word."""
        return Report(None, tuple(self.done), outcome, message)


@dataclass
class _Best:
    """The best of a run so far."""

    metric: str
    epoch: int = 0
    best_epoch: int = 0
    value: float = float("nan")
    memory_gb: float | None = None

    def add(self, metrics: dict[str, float]) -> None:
        self.epoch = int(metrics["epoch"])
        value = metrics.get(self.metric, float("nan"))
        if value == value and not value <= self.value:
            self.value, self.best_epoch = value, self.epoch
        self.memory_gb = metrics.get("memory_gb")

    def as_run(self, plan: RunPlan, parameters: int) -> TrialRun:
        return TrialRun(
            run=plan.run,
            run_id=plan.run_id,
            fold=plan.fold,
            seed=plan.seed,
            epochs=self.epoch,
            best_epoch=self.best_epoch,
            value=self.value,
            parameters=parameters,
            memory_gb=self.memory_gb,
        )


class TrialThread:
    """A trial in a thread of its own, which waits at each rung until it is asked for what comes next.

    Args:
        work: Trains; given what to call at a rung.
    """

    def __init__(self, work: Callable[[AtRung], Report]) -> None:
        self._reports: queue.Queue[Report | BaseException] = queue.Queue()
        self._verdicts: queue.Queue[bool] = queue.Queue()
        self._waits = False
        self._thread = threading.Thread(target=self._run, args=(work,), name="udt-trial", daemon=True)
        self._thread.start()

    def next(self) -> Report:
        """What it says next: it goes on from the rung at which it waits.

        Raises:
            BaseException: whatever ended it that is not an outcome.
        """
        if self._waits:
            self._verdicts.put(True)
            self._waits = False
        found = self._reports.get()
        if isinstance(found, BaseException):
            raise found
        self._waits = not found.outcome
        return found

    def stop(self) -> bool:
        """Let it end; whether it has."""
        self._verdicts.put(False)
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _run(self, work: Callable[[AtRung], Report]) -> None:
        try:
            self._reports.put(work(self._at_rung))
        except StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            self._reports.put(error)

    def _at_rung(self, report: Report) -> None:
        self._reports.put(report)
        if not self._verdicts.get():
            raise StoppedError


def train_alone(plan: RunPlan, tell: Callable[[dict[str, float]], None], *, most: int, scores: bool) -> int:
    """Train one run in this process, the only rank; from its newest checkpoint when there is one.

    Args:
        plan: The run; its number of attempts is found in storage.
        tell: Told of every epoch, of those before the checkpoint too.
        most: So many attempts may begin at one place.
        scores: Score the best checkpoint afterwards.

    Returns:
        Trainable numbers of the network.

    Raises:
        JobFailedError: it has begun too often without coming further.
    """
    from udt_cluster.cluster.logship import ship_own_output

    plan, job = replace(plan, attempt=next_attempt(plan, most)), plan.job()
    here = Place(0, 1, _device())
    logs = plan.record.logs / plan.run / f"a{plan.attempt}-r0"
    signs_at = signs_folder(plan.record.folder, plan.run, plan.attempt)
    with closing(ship_own_output(logs)), closing(SignWriter(signs_at, _sign())) as signs:
        log_to_stdout(0)
        with closing(Watch(plan, job, signs, here, preemption=lambda: None)) as watch:
            try:
                parameters = train_rank(plan, job, here, watch, tell, is_shown=False)
            finally:
                _let_go()
        if scores:
            _score(plan, job)
    return parameters


def _score(plan: RunPlan, job: Job) -> None:
    """Tables and overlays of the best checkpoint; a process that died in the middle of it has left none."""
    from udt_cluster.cluster.worker.score import score_run
    from udt_cluster.tracking import Tracker

    (plan.folder / "model").delete_tree()
    run_id = Tracker(plan.tracking, patience=PATIENCE_SECONDS).start(plan.child())
    score_run(replace(plan, run_id=run_id), job.to_json())


def next_attempt(plan: RunPlan, most: int) -> int:
    """The attempt's number, after a note of where it begins."""
    from udt_cluster.training import CheckpointCatalog, StorageCheckpoints

    root = plan.folder / "checkpoints"
    newest = CheckpointCatalog(root, plan.run).newest_info()
    step = newest.step if newest else 0
    note = plan.folder / "begun.json"
    begun: list[int] = []
    with suppress(FileNotFoundError, ValueError):
        begun = json.loads(note.read_bytes())
    if begun.count(step) > most:
        raise JobFailedError(
            f"its process died {begun.count(step)} times after step {step}; what it said last: udt-cluster logs"
        )
    note.write_bytes(json.dumps([*begun, step]).encode())
    return max(StorageCheckpoints.next_attempt(root), len(begun))


def _sign() -> Sign:
    import ray

    return Sign(0, node=ray.util.get_node_ip_address(), node_id=ray.get_runtime_context().get_node_id())


def _device() -> Any:
    import torch

    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def _let_go() -> None:
    """Give back what a run has held, for the next one in this process."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
