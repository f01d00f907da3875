"""What a job would train, and what of it early stopping is expected to leave: pure arithmetic before anything runs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from udt_cluster.config.job import Job
from udt_cluster.config.tune import TuneConfig
from udt_cluster.search.proposals import Cost, Proposal
from udt_cluster.search.rungs import Rungs, goes_on
from udt_cluster.search.sweep import Course
from udt_cluster.search.trials import Trial

_LISTED = 200
"""Trials that are looked at; of more, their mean cost stands for the rest."""
_GAMES = 40


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One configuration.

    Attributes:
        name: `trial 3`, the arm's name, or the job's.
        settings: What it changes in the job.
        parameters: Of its network.
        gmac: 1e9 multiply-adds of a forward pass of one image.
        runs: Folds and seeds that it is trained on.
    """

    name: str
    settings: Mapping[str, Any]
    parameters: int
    gmac: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a job would train.

    Attributes:
        planned: Configurations, in the order in which they would begin.
        count: How many there would be; None where only time or GPU-hours end it.
        follows_scores: Later configurations would follow from the scores of earlier ones.
        most_epochs: With every run trained to its last epoch.
        expected_epochs: With early stopping, were all trials equally good at chance.
        most_work: Epochs times 1e9 multiply-adds of an image, every run to its last epoch.
        expected_work: With early stopping.
    """

    planned: tuple[Planned, ...]
    count: int | None
    follows_scores: bool
    most_epochs: float
    expected_epochs: float
    most_work: float
    expected_work: float


def forecast(job: Job, cost: Cost) -> Forecast:
    """What a job would train: its trials, its arms, or its folds and seeds.

    Args:
        job: Any job; of a study on several data sets only its own is counted.
        cost: Of a network on its data set.
    """
    if job.tune is not None:
        return _of_sweep(job, job.tune, cost)
    if job.study is not None:
        alone = job.model_copy(update={"study": job.study.model_copy(update={"datasets": {}})})
        course = Course.of_study(alone, {job.data.dataset: cost})
        proposals = [found for number in range(_LISTED) if (found := course.propose(number, []))]
        planned = tuple(_planned(str(one.point["arm"]), one, len(course.pairs)) for one in proposals)
        return _in_full(job, planned)
    parameters, gmac = cost(job)
    runs = len(job.repeat.folds) * len(job.repeat.seeds)
    return _in_full(job, (Planned(name=job.name, settings={}, parameters=parameters, gmac=gmac, runs=runs),))


def _of_sweep(job: Job, tune: TuneConfig, cost: Cost) -> Forecast:
    course = Course.of_sweep(job, cost)
    most = tune.budget.trials
    planned: list[Planned] = []
    known: list[Trial] = []
    for number in range(min(most or _LISTED, _LISTED)):
        proposal = course.propose(number, known)
        if proposal is None:
            most = number
            break
        known.append(Trial(number=number, settings=proposal.settings, point=proposal.point))
        planned.append(_planned(f"trial {number}", proposal, len(course.pairs)))
    count = most if most is not None else len(planned) if tune.searcher == "grid" else None
    full = job.train.epochs * len(course.pairs)
    each = expected_epochs(tune, course.rungs, trials=count or len(planned), epochs=job.train.epochs)
    gmac = sum(one.gmac for one in planned) / max(1, len(planned))
    trials = count or len(planned)
    return Forecast(
        planned=tuple(planned),
        count=count,
        follows_scores=tune.searcher == "tpe",
        most_epochs=full * trials,
        expected_epochs=each * trials,
        most_work=full * trials * gmac,
        expected_work=each * trials * gmac,
    )


def _in_full(job: Job, planned: tuple[Planned, ...]) -> Forecast:
    epochs = job.train.epochs
    total, work = sum(one.runs for one in planned) * epochs, sum(one.runs * one.gmac for one in planned) * epochs
    return Forecast(
        planned=planned,
        count=len(planned),
        follows_scores=False,
        most_epochs=total,
        expected_epochs=total,
        most_work=work,
        expected_work=work,
    )


def _planned(name: str, proposal: Proposal, runs: int) -> Planned:
    return Planned(name=name, settings=proposal.settings, parameters=proposal.parameters, gmac=proposal.gmac, runs=runs)


def expected_epochs(tune: TuneConfig, rungs: Rungs, *, trials: int, epochs: int) -> float:
    """Epochs of a trial in the mean, when chance says how good it is and it is as good at every rung.

    Played through, for the trials that come late to a rung are better than those before: the formula for independent
    rungs is wrong by half.

    Args:
        tune: The sweep.
        rungs: Where trials are compared.
        trials: How many there are.
        epochs: Of one run.
    """
    ends = [*rungs.epochs, *(epochs * run for run in range(1, rungs.runs + 1))]
    lengths = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    dice, played = random.Random(0), min(trials, _LISTED)
    spent = sum(_played(tune, lengths, [dice.random() for _ in range(played)]) for _ in range(_GAMES))
    return spent / _GAMES / max(1, played)


def _played(tune: TuneConfig, lengths: Sequence[int], merits: Sequence[float]) -> int:
    """Epochs that these trials would take, one after the other."""
    seen: list[list[float]] = [[] for _ in lengths]
    spent = 0
    for merit in merits:
        for length, others in zip(lengths, seen, strict=True):
            spent += length
            goes = goes_on(tune, merit, others)
            others.append(merit)
            if not goes:
                break
    return spent
