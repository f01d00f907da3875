"""A job and the trials of its sweep, as the report sees them."""

from collections.abc import Sequence
from typing import Any

from udt_cluster.config.job import Job
from udt_cluster.config.spaces import SKIPS, settings_at
from udt_cluster.config.tune import Space as Searched
from udt_cluster.config.tune import TuneConfig
from udt_cluster.search.report.sweep import Allowance, Budget, Space, SpaceKind, Sweep, SweepState
from udt_cluster.search.report.wording import counted
from udt_cluster.search.rungs import Rungs
from udt_cluster.search.trials import Trial

_SEARCHERS = {"tpe": "Optuna's TPE", "random": "random search", "grid": "a grid of every combination"}
_KINDS: dict[str, SpaceKind] = {"grid": "choice", "each": "subsets"}


def sweep_of_job(
    job: Job, trials: Sequence[Trial], *, state: SweepState, job_id: str = "", seconds: float = 0
) -> Sweep:
    """The sweep of a job that has a section `tune`.

    Args:
        job: The resolved job.
        trials: All that have begun.
        state: Of the search.
        job_id: The job's id.
        seconds: Since the search began, in all lives of its driver.
    """
    tune = job.tune
    assert tune is not None, "a job without a sweep"
    most, hours, time = tune.budget.trials, tune.budget.gpu_hours, tune.budget.time
    budget = Budget(
        trials=Allowance(used=len(trials), limit=most),
        gpu_hours=Allowance(used=sum(trial.gpu_hours for trial in trials), limit=hours),
        seconds=Allowance(used=seconds, limit=None if time is None else time.total_seconds()),
    )
    return Sweep(
        name=job.name,
        job=job_id,
        metric=tune.metric,
        spaces=tuple(_space(field, space, job) for field, space in tune.search.items()),
        trials=tuple(trials),
        budget=budget,
        state=state,
        method=_method(job, tune),
    )


def _space(field: str, space: Searched, job: Job) -> Space:
    kind: SpaceKind = _KINDS.get(space.kind, space.kind)  # type: ignore[arg-type]
    return Space(field=field, kind=kind, values=_values(field, space, job))


def _values(field: str, space: Searched, job: Job) -> tuple[Any, ...]:
    if space.is_range:
        return space.bounds
    if space.subsets is not None:
        architecture, search = job.model.architecture, {SKIPS: space}
        return tuple(settings_at({f"{field}.1": there}, search, architecture=architecture)[SKIPS][0]
                     for there in (False, True))  # fmt: skip
    return space.each or space.values


def _method(job: Job, tune: TuneConfig) -> str:
    folds, seeds = tune.folds or job.repeat.folds, tune.seeds or job.repeat.seeds[:1]
    runs = f"{counted(len(folds), 'fold')} and {counted(len(seeds), 'seed')} a trial"
    return f"{_SEARCHERS[tune.searcher]} (seed {tune.seed}), {_schedule(job, tune, len(folds) * len(seeds))}; {runs}"


def _schedule(job: Job, tune: TuneConfig, runs: int) -> str:
    if tune.scheduler == "fifo":
        return "every trial trained to its end"
    within = Rungs.of(tune, epochs=job.train.epochs, runs=runs).epochs
    rungs = f"compared after epoch {', '.join(map(str, within))} and at the end of each run" if within else ""
    rule = f"the best 1 in {tune.reduction} goes on" if tune.scheduler == "asha" else "the better half goes on"
    return (
        f"{tune.scheduler.upper() if tune.scheduler == 'asha' else 'median stopping'}: {rungs or 'at each run'}, {rule}"
    )
