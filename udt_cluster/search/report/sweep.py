"""A sweep as its report sees it: what was searched, the trials, and one column for each setting that varies."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import stdev
from typing import Any, Literal

from udt_cluster.search.trials import Trial, TrialState, ranked

SpaceKind = Literal["choice", "int", "uniform", "log", "subsets"]
ParameterKind = Literal["category", "ordered", "int", "uniform", "log"]
SweepState = Literal["running", "finished", "stopped", "failed"]

LEVELS = 4
STATES: tuple[TrialState, ...] = ("finished", "pruned", "diverged", "failed", "running")
_MOST_GUESSED_CHOICES = 12


@dataclass(frozen=True, kw_only=True)
class Space:
    """What one field was searched over.

    Attributes:
        field: Dotted path in the job: `model.num_heads`.
        kind: `subsets` is a choice at each level of `model.skips`.
        values: Lower and upper bound, both included, of `int`, `uniform` and `log`; the choices of `choice`, or of each
            level of `subsets`.
    """

    field: str
    kind: SpaceKind
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """How much of something was allowed, and how much of it is used; `limit` is None where there is none."""

    used: float = 0.0
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Trials, GPU-hours and seconds since the beginning of the sweep."""

    trials: Allowance = field(default_factory=Allowance)
    gpu_hours: Allowance = field(default_factory=Allowance)
    seconds: Allowance = field(default_factory=Allowance)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A setting that varies: a column of the tables, an axis of the figures.

    Attributes:
        field: Dotted path; a level of `model.skips` is `model.skips.1` to `model.skips.4`.
        name: Its end, as long as no other has the same.
        kind: `ordered` is a choice among numbers.
        values: The choices, or the lower and upper bound.
    """

    field: str
    name: str
    kind: ParameterKind
    values: tuple[Any, ...]

    @property
    def is_choice(self) -> bool:
        """Whether its values are a few that are known."""
        return self.kind in ("category", "ordered")

    def of(self, trial: Trial) -> Any | None:
        """What the trial has; None where it has no such setting. A null of the job is the text `null`."""
        settings = trial.settings
        if self.field in settings:
            return "null" if settings[self.field] is None else settings[self.field]
        whole, _, level = self.field.rpartition(".")
        entries = settings.get(whole)
        if level.isdecimal() and isinstance(entries, list | tuple) and 1 <= int(level) <= len(entries):
            return entries[int(level) - 1]
        return None

    def choices(self, trials: Iterable[Trial]) -> list[str]:
        """The labels of a choice, in order: those of its space, then those that some trial has besides."""
        seen = (self.of(trial) for trial in trials)
        return list(dict.fromkeys(label(value) for value in (*self.values, *seen) if value is not None))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A job that searches.

    Attributes:
        name: Of the job.
        metric: By which trials are compared: `val_dice`.
        spaces: What was searched.
        trials: All that have begun.
        budget: What it may use, and has used.
        state: Of the search, not of the stages that follow it.
        job: The job's id; empty where it is not known.
        method: How it searched, in words: `Optuna TPE from seed 1, ASHA`.
        larger_is_better: False for a loss.
    """

    name: str
    metric: str = "val_dice"
    spaces: tuple[Space, ...] = ()
    trials: tuple[Trial, ...] = ()
    budget: Budget = field(default_factory=Budget)
    state: SweepState = "running"
    job: str = ""
    method: str = ""
    larger_is_better: bool = True

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """A column for each setting that was searched, then for each that trials have besides."""
        wanted = [(path, kind, values) for space in self.spaces for path, kind, values in _columns(space)]
        covered = {space.field for space in self.spaces} | {path for path, _, _ in wanted}
        others = dict.fromkeys(path for trial in self.trials for path in trial.settings if path not in covered)
        wanted += [(path, *_guessed(path, self.trials)) for path in others]
        names = _short_names([path for path, _, _ in wanted])
        return tuple(Parameter(field=path, name=names[path], kind=k, values=v) for path, k, v in wanted)

    @property
    def varying(self) -> tuple[Parameter, ...]:
        """Those of which the trials have more than one value; having none counts as one."""
        return tuple(p for p in self.parameters if len({_key(p.of(trial)) for trial in self.trials}) > 1)

    @cached_property
    def ranked(self) -> tuple[Trial, ...]:
        """The best first, see :func:`udt_cluster.search.trials.ranked`; those whose score is no number come last."""
        by_number = {trial.number: trial for trial in self.trials}
        sound = [trial for trial in self.trials if trial.score is None or math.isfinite(trial.score)]
        order = ranked(sound if self.larger_is_better else [_mirrored(trial) for trial in sound])
        numbers = dict.fromkeys([trial.number for trial in order] + sorted(by_number))
        return tuple(by_number[number] for number in numbers)

    @property
    def finished(self) -> tuple[Trial, ...]:
        """Trials that finished with a score, the best first."""
        return tuple(trial for trial in self.ranked if trial.state == "finished" and score(trial) is not None)

    @property
    def counts(self) -> dict[TrialState, int]:
        """How many trials are in each state."""
        return {state: sum(trial.state == state for trial in self.trials) for state in STATES}

    def better(self, one: float, other: float) -> bool:
        """Whether the first score is better than the second."""
        return one > other if self.larger_is_better else one < other


def score(trial: Trial) -> float | None:
    """The trial's score; None where there is none, or where it is no number."""
    found = trial.score
    return found if found is not None and math.isfinite(found) else None


def spread(trial: Trial) -> float | None:
    """Sample standard deviation of the score over folds and seeds; None for fewer than two."""
    values = [run.value for run in trial.runs if math.isfinite(run.value)]
    return stdev(values) if len(values) > 1 else None


def label(value: Any) -> str:
    """A value as a word: `0.00032`, `true`, `dra_channel, none`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(label, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {label(entry)}" for key, entry in value.items())
    return str(value)


def _columns(space: Space) -> list[tuple[str, ParameterKind, tuple[Any, ...]]]:
    if space.kind == "subsets":
        return [(f"{space.field}.{level}", "category", space.values) for level in range(1, LEVELS + 1)]
    if space.kind == "choice":
        return [(space.field, _choice_kind(space.values), space.values)]
    return [(space.field, space.kind, space.values)]


def _choice_kind(values: Sequence[Any]) -> ParameterKind:
    return "ordered" if values and all(map(is_number, values)) else "category"


def is_number(value: Any) -> bool:
    """Whether it is a finite number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _guessed(path: str, trials: Sequence[Trial]) -> tuple[ParameterKind, tuple[Any, ...]]:
    """Kind and values of a setting of which no space is known."""
    values = [trial.settings[path] for trial in trials if path in trial.settings]
    distinct = list({_key(value): value for value in values}.values())
    if len(distinct) <= _MOST_GUESSED_CHOICES or not all(map(is_number, distinct)):
        kind = _choice_kind(distinct)
        return kind, tuple(sorted(distinct) if kind == "ordered" else distinct)
    return "uniform", (min(distinct), max(distinct))


def _key(value: Any) -> str:
    """Equal for equal values, whether they came as a list or as a tuple."""
    return repr(list(value) if isinstance(value, tuple) else value)


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """The end of each path, made longer until no two are equal; a number alone is no name."""
    names = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        names[path] = next(
            (end for end in ends if not end.isdecimal() and sum(_ends_in(other, end) for other in paths) == 1), path
        )
    return names


def _ends_in(path: str, end: str) -> bool:
    return path == end or path.endswith(f".{end}")


def _mirrored(trial: Trial) -> Trial:
    runs = tuple(replace(run, value=-run.value) for run in trial.runs)
    return replace(trial, runs=runs, rungs=tuple(replace(rung, value=-rung.value) for rung in trial.rungs))
