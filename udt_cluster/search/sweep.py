"""A sweep as its driver knows it: which trial is next, who goes on, and what is left of the budget.

It knows neither Ray nor storage: trials are run by somebody else, and every change is given to `keep`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from udt_cluster.config.job import Job
from udt_cluster.config.tune import BudgetConfig
from udt_cluster.search.proposals import Cost, Proposal, Proposer, arm_proposals
from udt_cluster.search.rungs import Rungs, goes_on
from udt_cluster.search.trials import Rung, Trial, TrialRun, TrialState

PRUNED = "others were better at the same rung"
_SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """What a sweep has used.

    Attributes:
        trials: That have begun.
        gpu_hours: Of whole GPUs.
        seconds: Since it began, in all lives of its driver.
    """

    trials: int
    gpu_hours: float
    seconds: float


def used_up(budget: BudgetConfig, spent: Spent) -> str:
    """What of the budget is used up, in words; empty while there is some of everything."""
    if budget.gpu_hours is not None and spent.gpu_hours >= budget.gpu_hours:
        return f"the budget of {budget.gpu_hours:g} GPU-hours is used up"
    if budget.time is not None and spent.seconds >= budget.time.total_seconds():
        return f"the time of {budget.time.total_seconds() / _SECONDS_AN_HOUR:g} h is up"
    return ""


@dataclass(frozen=True)
class Course:
    """What a set of trials goes by.

    Attributes:
        propose: The configuration of a trial, by its number and what is known of the others; None when there is none.
        pairs: Fold and seed of each run of a trial, in the order in which they are trained.
        rungs: Where trials are compared.
        goes_on: Whether a trial goes on from a rung, by its value and those of the others there.
        budget: What may be spent.
    """

    propose: Callable[[int, Sequence[Trial]], Proposal | None]
    pairs: tuple[tuple[int, int], ...]
    rungs: Rungs
    goes_on: Callable[[float, Sequence[float]], bool]
    budget: BudgetConfig

    @classmethod
    def of_sweep(cls, job: Job, cost: Cost) -> "Course":
        """That of a job's section `tune`."""
        tune = job.tune
        assert tune is not None, "a job without a sweep"
        seeds, folds = tune.seeds or job.repeat.seeds[:1], tune.folds or job.repeat.folds
        pairs = tuple((fold, seed) for seed in seeds for fold in folds)
        rungs = Rungs.of(tune, epochs=job.train.epochs, runs=len(pairs))
        return cls(Proposer(job, cost).propose, pairs, rungs, partial(goes_on, tune), tune.budget)

    @classmethod
    def of_study(cls, job: Job, costs: Mapping[str, Cost]) -> "Course":
        """That of a job's section `study`: every arm on every data set, each to its end."""
        assert job.study is not None, "a job without a study"
        pairs = tuple((fold, seed) for seed in job.repeat.seeds for fold in job.repeat.folds)
        proposals = arm_proposals(job, costs)

        def propose(number: int, trials: Sequence[Trial]) -> Proposal | None:
            return proposals[number] if number < len(proposals) else None

        return cls(propose, pairs, Rungs((), len(pairs)), lambda value, others: True, BudgetConfig())


class Sweep:
    """The trials of one sweep, or the arms of one study.

    Args:
        course: What they go by.
        known: Trials of earlier lives of the driver; those that have not ended come first.
        keep: Given every trial that has changed.
        seconds: Seconds since the sweep began, those of earlier lives included.
        now: The time of day, ISO 8601.
    """

    def __init__(
        self,
        course: Course,
        *,
        known: Iterable[Trial],
        keep: Callable[[Trial], None],
        seconds: Callable[[], float],
        now: Callable[[], str],
    ) -> None:
        self.course = course
        self._trials = {trial.number: trial for trial in known}
        self._waiting = sorted(number for number, trial in self._trials.items() if not trial.has_ended)
        self._keep, self._seconds, self._now = keep, seconds, now
        self.ended_because = ""

    @property
    def trials(self) -> list[Trial]:
        """All of them, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    @property
    def spent(self) -> Spent:
        """What was used so far."""
        return Spent(len(self._trials), sum(trial.gpu_hours for trial in self._trials.values()), self._seconds())

    def next(self) -> Trial | None:
        """The trial to run next, or None when no other one shall begin; `ended_because` says why."""
        if self._waiting:
            return self._trials[self._waiting.pop(0)]
        self.ended_because = self._no_more()
        if self.ended_because:
            return None
        number = max(self._trials, default=-1) + 1
        proposal = self.course.propose(number, self.trials)
        if proposal is None:
            self.ended_because = "every configuration has been tried"
            return None
        trial = Trial(
            number=number,
            settings=proposal.settings,
            point=proposal.point,
            parameters=proposal.parameters,
            gmac=round(proposal.gmac, 4),
            began_at=self._now(),
        )
        return self._put(trial)

    def _no_more(self) -> str:
        most = self.course.budget.trials
        if most is not None and len(self._trials) >= most:
            return f"all {most} trials have begun"
        return used_up(self.course.budget, self.spent)

    def reached(self, number: int, rung: Rung) -> str:
        """A trial has come to a rung; why it stops there, or nothing when it goes on.

        A rung that comes again after a resume is answered as it was the first time, from what is known now.
        """
        trial = self._put(self._trials[number].with_rung(rung))
        if rung.index >= self.course.rungs.last:
            return ""
        if reason := used_up(self.course.budget, self.spent):
            return reason
        others = [
            other.rungs[rung.index].value
            for other in self._trials.values()
            if other.number != number and len(other.rungs) > rung.index
        ]
        return "" if self.course.goes_on(trial.rungs[rung.index].value, others) else PRUNED

    def update(self, number: int, **facts: Any) -> Trial:
        """Something of a trial is known now: its runs, seconds, or its run in MLflow."""
        return self._put(replace(self._trials[number], **facts))

    def end(self, number: int, state: TrialState, *, runs: Iterable[TrialRun], message: str = "") -> Trial:
        """A trial will not be trained any more."""
        trial = self._trials[number]
        return self._put(replace(trial, state=state, runs=tuple(runs), message=message, ended_at=self._now()))

    def _put(self, trial: Trial) -> Trial:
        if self._trials.get(trial.number) != trial:
            self._trials[trial.number] = trial
            self._keep(trial)
        return trial
