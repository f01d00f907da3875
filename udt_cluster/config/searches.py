"""Sweeps that cannot be meant: refused on load, each with the field to change and the remedy."""

import difflib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from udt_cluster.config.explain import explained
from udt_cluster.config.expressions import Constraint
from udt_cluster.config.fields import field_at
from udt_cluster.config.job import Job
from udt_cluster.config.problems import flow, shown
from udt_cluster.config.section import Section
from udt_cluster.config.spaces import SKIPS, in_order, random_point, settings_at
from udt_cluster.config.tune import METRIC, Space, TuneConfig

MADE = ("parameters", "gmac")
"""What constraints may name beside fields: of the network that a trial builds."""
_OF_TRAIN = (
    *("global_batch_size", "micro_batch_size", "lr", "optimizer", "weight_decay", "loss", "schedule"),
    *("gradient_clipping", "precision", "augment", "share"),
)
_OF_DATA = ("normalize", "empty_slices", "context_slices")
_WHY_NOT = {
    "train.epochs": "it is what the scheduler spends; set train.epochs to the most that a trial may have",
    "train.early_stopping": "it is what the scheduler does; set it for all trials",
    "data.size": "every size is another data set; sweep each on its own",
    "repeat.folds": "every trial has the folds of tune.folds",
    "repeat.seeds": "every trial has the seeds of tune.seeds",
}
_TRIES = 300


def searchable(job: type[Job]) -> tuple[str, ...]:
    """The fields that a sweep can search."""
    model = job.model_fields["model"].annotation
    assert model is not None
    return (
        *(f"model.{name}" for name in model.model_fields),
        *(f"train.{name}" for name in _OF_TRAIN),
        *(f"data.{name}" for name in _OF_DATA),
    )


def faults(job: Job) -> Iterator[str]:
    """Everything that is wrong with the sweep of a job; a sentence each, which begins with the field."""
    if job.tune is None:
        return
    known = [*space_faults(type(job), job.tune.search, section="tune.search"), *_continuous_grids(job.tune)]
    yield from known
    yield from (sentence for check in _OF_SWEEP for sentence in check(job, job.tune))
    if not known:  # else what follows is only their echo
        yield from _nothing_that_can_be_built(job, job.tune)


def space_faults(job: type[Job], spaces: Mapping[str, Space], *, section: str) -> Iterator[str]:
    """What is wrong with each space by itself, and with what its `when` names."""
    for name, space in spaces.items():
        fault = field_fault(job, name) or _kind_fault(name, space) or _values_fault(job, name, space)
        if fault:
            yield f"{section}.{name}: {fault}"
    yield from (f"{section}.{name}: {fault}" for name, fault in _conditions(spaces))


def field_fault(job: type[Job], name: str) -> str:
    """Why a field cannot be searched, or nothing."""
    allowed = searchable(job)
    if name in allowed:
        return ""
    if reason := _WHY_NOT.get(name):
        return f"cannot be searched: {reason}"
    leaves = {field.rpartition(".")[2]: field for field in allowed}
    near = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1, cutoff=0.6)
    hint = f"; did you mean {leaves[near[0]]}?" if near else ";"
    return f"is no field that can be searched{hint} allowed: {', '.join(allowed)}"


def _kind_fault(name: str, space: Space) -> str:
    if space.kind in ("subsets", "each") and name != SKIPS:
        return f"{space.kind} is for {SKIPS}; write choice: [...]"
    if space.is_range and name == SKIPS:
        return f"{space.kind} is for numbers; write subsets: true, or choice: [[none, ...], ...]"
    return ""


def _values_fault(job: type[Job], name: str, space: Space) -> str:
    if space.kind in ("subsets", "each"):
        return ""
    values = [int(end) if space.kind == "int" else end for end in space.bounds] if space.is_range else space.values
    return next((fault for value in values if (fault := value_fault(job, name, value))), "")


def value_fault(job: type[Job], name: str, value: Any) -> str:
    """Why a field cannot have a value, or nothing."""
    section_name, _, leaf = name.partition(".")
    section: type[Section] = job.model_fields[section_name].annotation  # type: ignore[assignment]
    info = section.model_fields[leaf]
    try:
        annotation: Any = info.annotation
        adapter: TypeAdapter[Any] = TypeAdapter(
            Annotated[(annotation, *info.metadata)] if info.metadata else annotation
        )
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return explained(error.errors(include_url=False)[0], field_at(name))
    return ""


def _continuous_grids(tune: TuneConfig) -> Iterator[str]:
    if tune.searcher != "grid":
        return
    for name, space in tune.search.items():
        if space.is_continuous:
            low, high = space.bounds
            yield (
                f"tune.search.{name}: {space.kind} has no end of values, and tune.searcher: grid tries every one; "
                f"write choice: {flow([low, high])} with the values between, or searcher: random"
            )


def _conditions(spaces: Mapping[str, Space]) -> Iterator[tuple[str, str]]:
    order = in_order(spaces)
    for name, space in spaces.items():
        for other, wanted in space.when.items():
            if other not in spaces:
                yield name, f"when names {other}, which is not searched; remove it, or add a space for it"
            elif order.index(other) >= order.index(name):
                yield name, f"when leads in a circle by {other}; remove one of them"
            elif not _reachable(spaces[other], wanted):
                has = flow(spaces[other].values or spaces[other].bounds)
                yield name, f"when {other} is {shown(wanted)}, which it never is: it has {has}"


def _reachable(space: Space, wanted: Any) -> bool:
    values = wanted if isinstance(wanted, list) else [wanted]
    if space.kind == "int":
        return any(isinstance(value, int) and space.bounds[0] <= value <= space.bounds[1] for value in values)
    return any(value in space.values for value in values)


def _constraints(job: Job, tune: TuneConfig) -> Iterator[str]:
    known = {*MADE, *searchable(type(job))}
    for text in tune.constraints:
        try:
            names = Constraint(text).names
        except ValueError as error:
            yield f"tune.constraints: {shown(text)}: {error}"
            continue
        if unknown := sorted(names - known):
            yield f"tune.constraints: {shown(text)} names {', '.join(unknown)}; known are fields and {', '.join(MADE)}"


def _no_end(job: Job, tune: TuneConfig) -> Iterator[str]:
    if tune.budget.is_open and tune.searcher != "grid":
        yield (
            "tune.budget: a sweep needs an end; set tune.budget.trials, tune.budget.time (8h) or tune.budget.gpu_hours"
        )


def _no_such_fold(job: Job, tune: TuneConfig) -> Iterator[str]:
    count = job.data.splits.num_folds
    if outside := [fold for fold in tune.folds or () if count is not None and fold >= count]:
        yield f"tune.folds: {flow(outside)}: data.splits has {count} fold{'s' * (count != 1)}, counted from 0"


def _no_such_class(job: Job, tune: TuneConfig) -> Iterator[str]:
    match, count = METRIC.fullmatch(tune.metric), job.data.foreground_count
    if match and match[2] and count is not None and int(match[2]) > count:
        classes = f"{count} foreground class{'es' * (count > 1)}"
        yield f"tune.metric: {tune.metric} is never reported: the data set has {classes}"


def _test_cases(job: Job, tune: TuneConfig) -> Iterator[str]:
    if job.evaluate.test:
        yield (
            "evaluate.test: a job that chooses by scores never looks at the test cases; remove it, and score the model "
            "once, at the end: udt-cluster evaluate"
        )


def _first_rung(job: Job, tune: TuneConfig) -> Iterator[str]:
    if tune.min_epochs is not None and tune.min_epochs > job.train.epochs:
        yield f"tune.min_epochs: {tune.min_epochs} is more than a trial has: train.epochs={job.train.epochs}"


def _nothing_that_can_be_built(job: Job, tune: TuneConfig) -> Iterator[str]:
    """Settings that are right one by one and never together."""
    dice, reason = random.Random(0), ""
    for _ in range(_TRIES):
        settings = settings_at(random_point(tune.search, dice), tune.search, architecture=job.model.architecture)
        try:
            job.with_settings(settings)
            return
        except ValidationError as error:
            reason = reason or error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    yield f"tune.search: no combination of these values can be built; of the first one: {reason}"


_Check = Callable[[Job, TuneConfig], Iterator[str]]
_OF_SWEEP: tuple[_Check, ...] = (
    _constraints,
    _no_end,
    _no_such_fold,
    _no_such_class,
    _test_cases,
    _first_rung,
)
