"""The arms of a study: those that are written down, and every combination of what it varies."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from udt_cluster.config.data import DataConfig
from udt_cluster.config.expressions import Constraint
from udt_cluster.config.job import Job
from udt_cluster.config.problems import flow
from udt_cluster.config.searches import field_fault, space_faults, value_fault
from udt_cluster.config.section import NAME_PATTERN
from udt_cluster.config.spaces import LEVELS, SKIPS, Point, all_points, count_points, settings_at
from udt_cluster.config.study import StudyConfig

MOST_ARMS = 500
DATASET_NAME = re.compile(NAME_PATTERN)


def arms_of(job: Job) -> dict[str, dict[str, Any]]:
    """Settings of each arm by its name, in order; of `vary` those that can be built.

    Constraints of the network's size are not looked at here: they need the network.
    """
    assert job.study is not None, "a job without a study"
    found: dict[str, dict[str, Any]] = {name: dict(settings) for name, settings in job.study.arms.items()}
    if not job.study.vary:
        return found
    for point in all_points(job.study.vary):
        settings = settings_at(point, job.study.vary, architecture=job.model.architecture)
        try:
            job.with_settings(settings)
        except ValidationError:
            continue
        found[_name(point, settings)] = settings
    return found


def datasets_of(job: Job) -> dict[str, DataConfig]:
    """The data sets of a study by name, the job's own first."""
    assert job.study is not None, "a job without a study"
    return {job.data.dataset: job.data, **job.study.datasets}


def arm_job(job: Job, settings: Mapping[str, Any], dataset: str = "") -> Job:
    """What is trained for an arm on a data set; on the job's own where none is named.

    Raises:
        ValidationError: such a job cannot be.
    """
    on = job.with_data(datasets_of(job)[dataset]) if dataset not in ("", job.data.dataset) else job
    return on.with_settings(settings)


def skip_levels(job: Job, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Levels that have a skip connection in an arm, 1 = full resolution."""
    kinds = job.with_settings(settings).model.skip_kinds
    return tuple(level for level, kind in zip(LEVELS, kinds, strict=True) if kind not in ("none", "zero"))


def is_about_skips(job: Job) -> bool:
    """Whether the arms differ in nothing but their skips."""
    return is_about(job, SKIPS)


def is_about(job: Job, field: str) -> bool:
    """Whether the arms differ in nothing but one field."""
    return all(set(settings) <= {field} for settings in arms_of(job).values())


def _name(point: Point, settings: Mapping[str, Any]) -> str:
    parts = [f"{field.rpartition('.')[2]} {flow(value)}" for field, value in settings.items() if field != SKIPS]
    if SKIPS in settings:
        parts.insert(0, _skips(point, settings[SKIPS]))
    return ", ".join(parts)


def _skips(point: Point, kinds: Any) -> str:
    chosen = [point.get(f"{SKIPS}.{level}") for level in LEVELS]
    if not all(isinstance(there, bool) for there in chosen):
        return f"skips {' '.join(kinds)}"
    levels = [str(level) for level, there in zip(LEVELS, chosen, strict=True) if there]
    return f"skips {'+'.join(levels) if 0 < len(levels) < len(LEVELS) else 'all' if levels else 'none'}"


def faults(job: Job) -> Iterator[str]:
    """Everything that is wrong with the study of a job; a sentence each, which begins with the field."""
    if job.study is None:
        return
    known = [*_wrong_settings(job, job.study), *_wrong_spaces(job, job.study), *_wrong_datasets(job, job.study)]
    yield from known
    yield from _beside_a_study(job)
    if not known:
        yield from _wrong_names(job, job.study)


def _wrong_settings(job: Job, study: StudyConfig) -> Iterator[str]:
    for name, settings in study.arms.items():
        wrong = [
            f"study.arms.{name}: {field}: {fault}"
            for field, value in settings.items()
            if (fault := field_fault(type(job), field) or value_fault(type(job), field, value))
        ]
        yield from wrong
        if wrong:
            continue
        try:
            job.with_settings(settings)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            yield f"study.arms.{name}: cannot be built: {reason}"


def _wrong_spaces(job: Job, study: StudyConfig) -> Iterator[str]:
    yield from space_faults(type(job), study.vary, section="study.vary")
    for field, space in study.vary.items():
        if space.is_continuous:
            yield f"study.vary.{field}: {space.kind} has no end of values; write choice: [...]"
    if study.vary and count_points(study.vary) > MOST_ARMS:
        yield f"study.vary: more than {MOST_ARMS} combinations; a study has arms that somebody can look at"
    for text in study.constraints:
        try:
            Constraint(text)
        except ValueError as error:
            yield f"study.constraints: {text!r}: {error}"


def _wrong_datasets(job: Job, study: StudyConfig) -> Iterator[str]:
    for name, data in study.datasets.items():
        if name == job.data.dataset:
            yield f"study.datasets.{name}: the job's own data set has this name (data.name); give one of them another"
        elif not DATASET_NAME.fullmatch(name):
            yield f"study.datasets.{name}: a name has lower-case letters, digits and dashes"
        else:
            try:
                job.with_data(data)
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
                yield f"study.datasets.{name}: {reason}"


def _wrong_names(job: Job, study: StudyConfig) -> Iterator[str]:
    names = list(arms_of(job))
    if len(names) < 2:
        yield f"study.arms: a study compares at least two arms, this one has {len(names)}"
        return
    listed = ", ".join(names[:20])
    if study.reference not in names:
        yield f"study.reference: there is no arm {study.reference!r}; the arms: {listed}"
    for pair in study.comparisons:
        for name in pair:
            if name not in names:
                yield f"study.comparisons: there is no arm {name!r}; the arms: {listed}"
        if pair[0] == pair[1]:
            yield f"study.comparisons: {pair[0]!r} is compared with itself"


def _beside_a_study(job: Job) -> Iterator[str]:
    if job.tune is not None:
        yield "study: a job has a sweep or a study, not both; remove one, and write a second job file for it"
    if job.evaluate.test:
        yield "evaluate.test: a study never looks at the test cases; remove it"
    if job.resources.workers.min > 1:
        yield (
            f"resources.workers: {job.resources.workers}, but each arm is trained by one worker, several at a time; "
            "write workers: 1"
        )
