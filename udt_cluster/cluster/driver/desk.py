"""Trials of a sweep, and arms of a study: begun, heard, and kept in storage and in MLflow."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from udt_cluster.cluster.driver.elastic import need_of_worker
from udt_cluster.cluster.driver.stages import PreparedData, Say, Scope
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import now
from udt_cluster.config.arms import arm_job
from udt_cluster.config.job import Job
from udt_cluster.data import DataStore
from udt_cluster.errors import UdtError
from udt_cluster.search.trials import Trial
from udt_cluster.storage import Location
from udt_cluster.tracking import Tracker

if TYPE_CHECKING:
    from udt_cluster.cluster.driver.trials import Desk
    from udt_cluster.cluster.worker.trial import Report, TrialPlan
    from udt_cluster.search.proposals import Cost
    from udt_cluster.search.sweep import Course, Sweep

log = logging.getLogger("udt_cluster")
_ONLY_FOR_RESUMING = ("checkpoints", "model")
_STATE_TAG = "trial_state"
_LOOKED_AT = 20


@dataclass(frozen=True)
class Manner:
    """How trials are run.

    Attributes:
        metric: What they are compared by.
        what: What one is called: `trial` or `arm`.
        scores: Each run's best checkpoint is scored, case by case, on what its fold held out.
        most: So many at a time; None: as many as the cluster has room for.
    """

    metric: str
    what: str = "trial"
    scores: bool = False
    most: int | None = None


def run_trials(
    scope: Scope, prepared: Mapping[str, PreparedData], course: "Course", manner: Manner, say: Say
) -> "Sweep":
    """Run all that the course proposes; go on with what an earlier life of the job has begun.

    Args:
        scope: The job.
        prepared: Its data sets by name, its own first.
        course: What the trials go by.
        manner: How they are run.
        say: Told of each.
    """
    from udt_cluster.cluster.driver import trials

    share = _share_of_gpu(scope, prepared, course, say) if scope.gpus else 0.0
    desk = TrialDesk(scope, prepared, course, manner, say, share=share)
    most = manner.most or room_for_trials(scope.job, scope.resources, gpus=share)
    say(f"{most} {manner.what}{'s' * (most > 1)} at a time")
    trials.run_trials(desk.as_desk(), most=most, need=need_of_worker(scope.job, gpus=share))
    desk.close()
    return desk.sweep


def _share_of_gpu(scope: Scope, prepared: Mapping[str, PreparedData], course: "Course", say: Say) -> float:
    """What of a GPU a trial is given, by the memory of the largest of the first ones."""
    from udt_cluster.cluster.driver.packing import largest, measure, trials_per_gpu

    first = [found for number in range(_LOOKED_AT) if (found := course.propose(number, [])) is not None]
    one = largest(first)
    dataset = str(one.point.get("dataset", scope.job.data.dataset))
    job = arm_job(scope.job, one.settings, dataset) if scope.job.study else scope.job.with_settings(one.settings)
    info = DataStore.open(prepared[dataset].store).info
    channels = info.channels * job.data.channels_per_image
    memory = measure(job, in_channels=channels, num_classes=info.num_classes)
    cores = scope.resources.get("CPU", 1.0) / scope.resources["GPU"]
    count = trials_per_gpu(memory, cores_per_gpu=cores, cores_per_trial=job.resources.cpus_per_worker)
    say(f"{memory.peak / 1e9:.1f} of {memory.total / 1e9:.0f} GB of a GPU are needed: {count} on each")
    return 1.0 / count


def room_for_trials(job: Job, resources: dict[str, float], *, gpus: float) -> int:
    """How many trials of one worker the cluster has room for, at least one."""
    by_cores = int(resources.get("CPU", 0)) // job.resources.cpus_per_worker
    by_gpus = int(resources.get("GPU", 0) / gpus) if gpus else by_cores
    return max(1, min(by_cores, by_gpus))


def short(value: Any) -> str:
    """A setting's value, for a line."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class TrialDesk:
    """Begins trials, hears what they say, and keeps what is known of them, in storage and in MLflow."""

    def __init__(
        self,
        scope: Scope,
        prepared: Mapping[str, PreparedData],
        course: "Course",
        manner: Manner,
        say: Say,
        *,
        share: float = 0.0,
    ) -> None:
        from udt_cluster.search.sweep import Sweep

        self._scope, self._prepared, self._course, self._manner, self._say = scope, prepared, course, manner, say
        self._share = share
        self._tracker = Tracker(scope.tracker.uri)  # without patience: trials do not wait for MLflow
        self._earlier, self._began = scope.record.sweep_seconds(), time.monotonic()
        self.sweep = Sweep(
            course,
            known=scope.record.trials(),
            keep=scope.record.write_trial,
            seconds=self._seconds,
            now=now,
        )

    def as_desk(self) -> "Desk":
        """As Ray Tune's side knows it."""
        from udt_cluster.cluster.driver.trials import Desk

        return Desk(self.begin, self.heard, self.lost)

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._began

    def begin(self) -> dict[str, Any] | None:
        """The next trial: its plan is put into the record, its run is made in MLflow."""
        from udt_cluster.cluster.worker.trial_actor import plan_location

        trial = self.sweep.next()
        if trial is None:
            return None
        if not trial.run_id:
            trial = self.sweep.update(trial.number, run_id=self._start_run(trial))
        plan_location(self._scope.record, trial.number).write_bytes(self._plan(trial).to_json().encode())
        self._say(f"{self._called(trial)}: {_settings(trial)}")
        return {"number": trial.number, "storage": self._scope.storage.uri, "job": self._scope.record.id}

    def _start_run(self, trial: Trial) -> str:
        """The trial's run in MLflow; nothing where MLflow is away: the folds are kept under the job's run then."""
        from udt_cluster.tracking.runs import ChildRun

        named = {key: trial.point[key] for key in ("arm", "dataset") if key in trial.point}
        tags = {"job": self._scope.record.id, "trial": trial.number, **named}
        params = {**trial.settings, "parameters": trial.parameters, "gmac": trial.gmac}
        child = ChildRun(self._scope.meta.run_id, self._name(trial), tags=tags, params=params)
        return _unless_away(lambda: self._tracker.start(child)) or ""

    def _called(self, trial: Trial) -> str:
        on = f" on {trial.point['dataset']}" if len(self._prepared) > 1 else ""
        return f"{self._manner.what} {trial.point.get('arm', trial.number)}{on}"

    def _name(self, trial: Trial) -> str:
        return f"{self._scope.record.id}-t{trial.number:04d}"

    def _plan(self, trial: Trial) -> "TrialPlan":
        from udt_cluster.cluster.worker.trial import TrialPlan

        job, dataset = self._scope.job, str(trial.point.get("dataset", ""))
        job = arm_job(job, trial.settings, dataset) if dataset else job.with_settings(trial.settings)
        return TrialPlan(
            number=trial.number,
            runs=tuple(self._run(trial, job, index) for index in range(len(self._course.pairs))),
            rungs=self._course.rungs,
            metric=self._manner.metric,
            most=job.retry.max,
            done=trial.runs,
            scores=self._manner.scores,
        )

    def _run(self, trial: Trial, job: Job, index: int) -> RunPlan:
        fold, seed = self._course.pairs[index]
        first = next(iter(self._prepared))
        prepared = self._prepared[str(trial.point.get("dataset", first))]
        return RunPlan(
            storage=self._scope.storage.uri,
            job_id=self._scope.record.id,
            run=f"{self._name(trial)}-f{fold}-s{seed}",
            fold=fold,
            seed=seed,
            number=index + 1,
            total=len(self._course.pairs),
            store=prepared.store.uri,
            splits=prepared.splits.uri,
            tracking=self._scope.tracker.uri,
            run_id="",
            parent_id=trial.run_id or self._scope.meta.run_id,
            job_json=job.to_json(),
        )

    def heard(self, number: int, report: "Report", seconds: float) -> bool:
        """A trial has reached a rung or its end; whether it goes on."""
        known = next(trial for trial in self.sweep.trials if trial.number == number)
        gpu_hours = known.gpu_hours + seconds * self._share / 3600
        facts = {"seconds": round(known.seconds + seconds, 1), "gpu_hours": round(gpu_hours, 4), "runs": report.runs}
        self.sweep.update(number, **facts)
        self._scope.record.write_sweep_seconds(self._seconds())
        if report.outcome:
            self._end(self.sweep.end(number, report.outcome, runs=report.runs, message=report.message))
            return False
        assert report.rung is not None, "neither a rung nor an end"
        reason = self.sweep.reached(number, report.rung)
        if reason:
            self._end(self.sweep.end(number, "pruned", runs=report.runs, message=reason))
        return not reason

    def lost(self, number: int, reason: str) -> None:
        """A trial cannot be run."""
        known = next(trial for trial in self.sweep.trials if trial.number == number)
        if not known.has_ended:
            self._end(self.sweep.end(number, "failed", runs=known.runs, message=reason))

    def _end(self, trial: Trial) -> None:
        """Say so, tell MLflow, and remove what only a resumption would have needed."""
        score = "no score" if trial.score is None else f"{self._manner.metric} {trial.score:.4f}"
        self._say(
            f"{self._called(trial)} {trial.state} after {trial.epochs} epochs: {score}"
            + (f" ({trial.message})" if trial.message else "")
        )
        self._tidy_runs(trial)
        _unless_away(lambda: self._finish_run(trial, self._tracker))

    def _tidy_runs(self, trial: Trial) -> None:
        """Remove what only a resumption would have needed; what is still being written is removed when all is over."""
        for fold, seed in self._course.pairs:
            with suppress(UdtError, OSError):
                self._tidy(self._scope.record.runs / f"{self._name(trial)}-f{fold}-s{seed}")

    def _tidy(self, run: Location) -> None:
        """Scores stay, of a run that has some."""
        if not self._manner.scores:
            run.delete_tree()
        for name in _ONLY_FOR_RESUMING if self._manner.scores else ():
            (run / name).delete_tree()

    def _finish_run(self, trial: Trial, tracker: Tracker) -> None:
        if not trial.run_id:
            trial = self.sweep.update(trial.number, run_id=self._start_run(trial))
        if trial.score is not None:
            metrics = {self._manner.metric: trial.score, "epochs": trial.epochs, "seconds": trial.seconds}
            tracker.log_metrics(trial.run_id, metrics)
        tracker.set_tags(trial.run_id, {_STATE_TAG: trial.state, "trial_message": trial.message[:500]})
        tracker.finish_tree(trial.run_id, _status(trial))

    def close(self) -> None:
        """Tell MLflow what it did not hear, now that there is time to wait for it and nobody writes any more."""
        tracker = self._scope.tracker
        for trial in self.sweep.trials:
            if trial.has_ended:
                self._tidy_runs(trial)
                if not trial.run_id or tracker.run(trial.run_id).tags.get(_STATE_TAG) != trial.state:
                    self._finish_run(trial, tracker)
                    trial = next(known for known in self.sweep.trials if known.number == trial.number)
                # A fold's last metrics may come after the verdict, and a lost driver's runs were ended as failed.
                tracker.finish_tree(trial.run_id, _status(trial), again=True)


def _status(trial: Trial) -> Literal["FINISHED", "FAILED"]:
    return "FAILED" if trial.state in ("failed", "diverged") else "FINISHED"


def cost_on(prepared: PreparedData) -> "Cost":
    """Parameters and 1e9 multiply-adds of a job's network on this data set."""
    from udt_cluster.models import cost, output_channels

    info = DataStore.open(prepared.store).info

    @lru_cache(maxsize=4096)
    def of_network(model: str, channels: int, size: tuple[int, int]) -> tuple[int, float]:
        from udt_cluster.config.job import ModelConfig

        config = ModelConfig.model_validate_json(model)
        found = cost(config, in_channels=channels, num_classes=output_channels(info.num_classes), size=size)
        return found.parameters, found.macs / 1e9

    def of_job(job: Job) -> tuple[int, float]:
        return of_network(job.model.model_dump_json(), info.channels * job.data.channels_per_image, job.data.size)

    return of_job


def _settings(trial: Trial) -> str:
    return ", ".join(f"{name}={short(value)}" for name, value in trial.settings.items()) or "the job as it is"


def _unless_away(work: Callable[[], Any]) -> Any:
    """The result, or None where MLflow does not answer: a sweep does not wait for it."""
    try:
        return work()
    except UdtError as error:
        log.warning("MLflow: %s", error.message)
        return None
