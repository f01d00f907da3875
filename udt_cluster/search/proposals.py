"""What to try next: Optuna's samplers over a job's spaces, from what is known of the trials so far.

Nothing is kept from one proposal to the next. The sampler is made anew each time, seeded by the sweep's seed and the
trial's number, and told what is known; so a sweep whose driver died proposes what it would have proposed.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from udt_cluster.config.arms import arm_job, arms_of, datasets_of
from udt_cluster.config.expressions import Constraint
from udt_cluster.config.job import Job
from udt_cluster.config.spaces import Dimension, all_points, count_points, dimensions, random_point, settings_at
from udt_cluster.search.trials import Trial

_TRIES = 40
"""Proposals in a row that cannot be, or have been, before the rest of the spaces is looked through."""
_COUNTABLE = 20_000
"""Points that can be looked through; of more, so many are drawn."""
_STARTUP = 10
"""Trials at random before TPE has something to go by; Optuna's own default."""
_DIVERGED = 0.0
"""What TPE is told of a trial that diverged: the lowest Dice there is."""

optuna.logging.set_verbosity(optuna.logging.WARNING)

Cost = Callable[[Job], tuple[int, float]]
"""Parameters of a job's network, and 1e9 multiply-adds of one image."""


@dataclass(frozen=True)
class Proposal:
    """A configuration that can be built, meets the constraints, and was not tried before.

    Attributes:
        point: What was chosen.
        settings: What it changes in the job.
        parameters: Of the network.
        gmac: 1e9 multiply-adds of a forward pass of one image.
    """

    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    parameters: int
    gmac: float


class Proposer:
    """Proposes configurations.

    Args:
        job: With its sweep.
        cost: Of a job's network.
    """

    def __init__(self, job: Job, cost: Cost) -> None:
        assert job.tune is not None, "a job without a sweep"
        self._job, self._tune, self._cost = job, job.tune, cost
        self._dimensions = dimensions(self._tune.search)
        self._constraints = [Constraint(text) for text in self._tune.constraints]

    def propose(self, number: int, trials: Sequence[Trial]) -> Proposal | None:
        """The configuration of trial `number`, or None when there is no other one.

        Args:
            number: From 0.
            trials: What is known of the earlier ones, and of those that run.
        """
        tried = {_key(trial.settings) for trial in trials}
        for point in self._points(number, trials):
            settings = settings_at(point, self._tune.search, architecture=self._job.model.architecture)
            if _key(settings) not in tried and (found := self._examined(point, settings)) is not None:
                return found
        return None

    def _examined(self, point: Mapping[str, Any], settings: Mapping[str, Any]) -> Proposal | None:
        """The proposal, if it can be built and meets the constraints."""
        try:
            job = self._job.with_settings(settings)
        except ValidationError:
            return None
        parameters, gmac = self._cost(job)
        values = {"parameters": parameters, "gmac": gmac, **_fields(job)}
        if not all(constraint.holds(values) for constraint in self._constraints):
            return None
        return Proposal(dict(point), dict(settings), parameters, gmac)

    def _points(self, number: int, trials: Sequence[Trial]) -> Iterator[Mapping[str, Any]]:
        if self._tune.searcher == "grid":
            yield from all_points(self._tune.search)
            return
        fixed = self._grid[number % len(self._grid)]
        for attempt in range(_TRIES):
            yield self._sampled(self._sampler(number, attempt), trials, fixed)
        dice = random.Random(self._tune.seed * 1_000_003 + number)
        if count_points(self._tune.search) <= _COUNTABLE:
            yield from dice.sample(rest := list(all_points(self._tune.search)), len(rest))
        else:
            yield from (random_point(self._tune.search, dice) | fixed for _ in range(_COUNTABLE))

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        """Every combination of the spaces that are called a grid; one empty one without them."""
        return list(all_points(self._tune.search, only="grid"))

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        seed = (self._tune.seed * 1_000_003 + number * _TRIES + attempt) % 2**32
        if self._tune.searcher == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=_STARTUP, constant_liar=True)

    def _sampled(self, sampler: BaseSampler, trials: Sequence[Trial], fixed: Mapping[str, Any]) -> dict[str, Any]:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(self._known(trials))
        asked = study.ask()
        point: dict[str, Any] = {}
        for dim in self._dimensions:
            if not dim.is_open(point):
                continue
            if dim.name in fixed:
                point[dim.name] = fixed[dim.name]
            else:
                point[dim.name] = _chosen(asked, dim)
        return point

    def _known(self, trials: Iterable[Trial]) -> Iterator[FrozenTrial]:
        for trial in trials:
            if trial.state != "failed":
                yield _frozen(trial, self._dimensions)


def arm_proposals(job: Job, costs: Mapping[str, Cost]) -> list[Proposal]:
    """The arms of a job's study on each of its data sets, in order; of what it varies those that meet its constraints.

    Args:
        job: With its section `study`.
        costs: Of a network on each data set, by name.
    """
    assert job.study is not None, "a job without a study"
    constraints, found = [Constraint(text) for text in job.study.constraints], []
    for dataset in datasets_of(job):
        for name, settings in arms_of(job).items():
            arm = arm_job(job, settings, dataset)
            parameters, gmac = costs[dataset](arm)
            values = {"parameters": parameters, "gmac": gmac, **_fields(arm)}
            if name in job.study.arms or all(constraint.holds(values) for constraint in constraints):
                found.append(Proposal({"arm": name, "dataset": dataset}, settings, parameters, gmac))
    return found


def _frozen(trial: Trial, dims: Sequence[Dimension]) -> FrozenTrial:
    """A trial as Optuna knows it."""
    chosen = [dim for dim in dims if dim.name in trial.point]
    state, value = TrialState.RUNNING, None
    if trial.state in ("finished", "diverged"):
        state, value = TrialState.COMPLETE, _DIVERGED if trial.state == "diverged" else trial.score
    elif trial.state == "pruned":
        state = TrialState.PRUNED
    return create_trial(
        state=state,
        value=value,
        params={dim.name: _encoded(dim, trial.point[dim.name]) for dim in chosen},
        distributions={dim.name: _distribution(dim) for dim in chosen},
        intermediate_values={rung.index: rung.value for rung in trial.rungs},
    )


def _distribution(dim: Dimension) -> BaseDistribution:
    if dim.values:
        return CategoricalDistribution([json.dumps(value) for value in dim.values])
    if dim.kind == "int":
        return IntDistribution(int(dim.low), int(dim.high))
    return FloatDistribution(dim.low, dim.high, log=dim.kind == "log")


def _encoded(dim: Dimension, value: Any) -> Any:
    """A value as Optuna takes it: of a list as text, for it may be a list itself."""
    return json.dumps(value) if dim.values else value


def _chosen(asked: optuna.Trial, dim: Dimension) -> Any:
    if dim.values:
        return json.loads(asked.suggest_categorical(dim.name, [json.dumps(value) for value in dim.values]))
    if dim.kind == "int":
        return asked.suggest_int(dim.name, int(dim.low), int(dim.high))
    return asked.suggest_float(dim.name, dim.low, dim.high, log=dim.kind == "log")


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _fields(job: Job) -> dict[str, Any]:
    """Every value of the job by its dotted name, for constraints."""
    values = job.model_dump(mode="json", by_alias=True)
    return {
        f"{section}.{name}": value
        for section, fields in values.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
    }
