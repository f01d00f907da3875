"""The stage `tune`: a sweep over the job's spaces, and the job that its best trial stands for."""

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.driver.desk import Manner, cost_on, run_trials, short
from udt_cluster.cluster.driver.stages import PreparedData, Say, Scope
from udt_cluster.cluster.plan import scratch_folder
from udt_cluster.config.job import Job
from udt_cluster.config.text import job_text
from udt_cluster.errors import JobFailedError
from udt_cluster.search.trials import Trial, best, ranked
from udt_cluster.storage import upload_folder

if TYPE_CHECKING:
    from udt_cluster.search.sweep import Sweep


REPORT = "sweep"
"""Folder of the report, in the job's record and among the artifacts of its run."""
log = logging.getLogger("udt_cluster")


@dataclass(frozen=True)
class Tuned:
    """What the sweep came to.

    Attributes:
        trials: All of them.
        job: The job with the best settings, without the sweep.
        because: Why it ended.
    """

    trials: tuple[Trial, ...]
    job: Job
    because: str

    def facts(self) -> dict[str, Any]:
        """Counts, and the best trial."""
        first = best(self.trials)
        assert first is not None, "a sweep without a finished trial has failed"
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[trial.state] = counts.get(trial.state, 0) + 1
        return {
            "trials": len(self.trials),
            "states": counts,
            "epochs": sum(trial.epochs for trial in self.trials),
            "gpu_hours": round(sum(trial.gpu_hours for trial in self.trials), 3),
            "ended_because": self.because,
            "best": {"number": first.number, "score": first.score, "settings": dict(first.settings)},
        }


def tune(scope: Scope, prepared: PreparedData, say: Say) -> Tuned:
    """Run the sweep to its end, go on with one that an earlier life of the job has begun.

    Raises:
        JobFailedError: no trial has finished.
    """
    from udt_cluster.search.sweep import Course

    section = scope.job.tune
    assert section is not None, "a job without a sweep"
    say(f"sweep: {section.searcher}, {section.scheduler}")
    course = Course.of_sweep(scope.job, cost_on(prepared))
    manner = Manner(section.metric, most=section.concurrency)
    return _concluded(scope, run_trials(scope, {scope.job.data.dataset: prepared}, course, manner, say), say)


def _concluded(scope: Scope, sweep: "Sweep", say: Say) -> Tuned:
    trials, first = tuple(sweep.trials), best(sweep.trials)
    if first is None:
        told = [f"trial {trial.number}: {trial.message}" for trial in ranked(trials) if trial.message]
        raise JobFailedError(f"none of {len(trials)} trials has finished", told[:8])
    job = scope.job.with_settings(first.settings)
    _keep_best(scope, job)
    _keep_report(scope, trials)
    tuned = Tuned(trials, job, sweep.ended_because)
    say(f"{len(trials)} trials: {sweep.ended_because}; the best is {first.number}: {_worded(first)}")
    return tuned


def _keep_best(scope: Scope, job: Job) -> None:
    """The best configuration as a job file, in the record and among the artifacts of the job's run."""
    text = job_text(job, comment=f"The best configuration that the sweep of {scope.record.id} has found.")
    (scope.record.folder / "best.yaml").write_bytes(text.encode())
    scope.tracker.log_text(scope.meta.run_id, text, f"jobs/{job.name}-best.yaml")


def _keep_report(scope: Scope, trials: tuple[Trial, ...]) -> None:
    """The page of the sweep, in the record and among the artifacts of the job's run."""
    from udt_cluster.search.report import sweep_of_job, write_report

    work, record = scratch_folder(), scope.record
    sweep = sweep_of_job(scope.job, trials, state="finished", job_id=record.id, seconds=record.sweep_seconds())
    try:
        write_report(sweep, work / REPORT)
    except Exception:  # nights of training are worth more than a figure; `tune show --report` makes it again
        log.exception("the sweep's report could not be written")
    else:
        (record.folder / REPORT).delete_tree()
        upload_folder(work / REPORT, record.folder / REPORT)
        scope.tracker.log_folder(scope.meta.run_id, work / REPORT, REPORT)
    shutil.rmtree(work)


def _worded(trial: Trial) -> str:
    settings = ", ".join(f"{name}={short(value)}" for name, value in trial.settings.items())
    score = trial.score if trial.score is not None else float("nan")
    return f"{score:.4f} with {settings}"
