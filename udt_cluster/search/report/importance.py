"""Which settings matter: how much of the variance of the scores each one explains by itself (functional ANOVA).

Hutter, Hoos, Leyton-Brown: An efficient approach for assessing hyperparameter importance, ICML 2014; computed by Optuna
(https://optuna.readthedocs.io, FanovaImportanceEvaluator). A forest explains something of any scores, noise too:
whether it has understood them is measured on trials that its trees have not seen.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from udt_cluster.search.report.sweep import Parameter, Sweep, label, score
from udt_cluster.search.report.tables import Table
from udt_cluster.search.report.wording import counted
from udt_cluster.search.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 10
FORESTS = 10
_TREES = 8
_SHARE = 0.8
MOST_TRIALS = 150
_LEAST_EXPLAINED = 0.1
Scored = Sequence[tuple[Trial, float]]


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one setting explains.

    Attributes:
        parameter: The setting.
        mean: Share of the variance of the scores that it explains by itself, 0 to 1; mean of the forests.
        low: The lowest of the forests.
        high: The highest.
        trials: Of how many trials it was computed; fewer than all for a setting that not every trial has.
    """

    parameter: Parameter
    mean: float
    low: float
    high: float
    trials: int


@dataclass(frozen=True, kw_only=True)
class Importances:
    """The settings in the order of what they explain, or why that cannot be said.

    Attributes:
        of: What was explained: `val_dice of the 24 trials that finished`.
        found: The most important first; empty where it is refused.
        explained: Share of the variance that a forest predicts of trials it has not seen (out-of-bag R²); below 0 when
            guessing the mean is better.
        refused: Why nothing can be said; else empty.
        left_out: Settings of which too few trials had more than one value.
    """

    of: str
    found: tuple[Importance, ...] = ()
    explained: float = math.nan
    refused: str = ""
    left_out: tuple[Parameter, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the settings explain the scores at all."""
        return self.explained >= _LEAST_EXPLAINED

    @property
    def rest(self) -> float | None:
        """Share of what the forests explain that takes two or more settings together; None where trials lack some."""
        same = len({one.trials for one in self.found}) == 1
        return max(0.0, 1 - sum(one.mean for one in self.found)) if same else None

    def table(self) -> Table:
        """A row for each setting."""
        rows = tuple((one.parameter.field, one.mean, one.low, one.high, one.trials) for one in self.found)
        return Table(columns=("parameter", "importance", "lowest", "highest", "trials"), rows=rows)


def of_scores(sweep: Sweep) -> Importances:
    """Of the scores of the trials that finished."""
    scored = [(trial, value) for trial in sweep.finished if (value := score(trial)) is not None]
    return importances(sweep.parameters, scored, of=f"{sweep.metric} of {_those(scored, 'that finished')}")


def of_first_rung(sweep: Sweep) -> Importances:
    """Of the value at the first rung: every trial that came there counts, so that pruning has chosen none of them."""
    rungs = [(trial, trial.rungs[0]) for trial in sweep.trials if trial.rungs]
    scored = [(trial, rung.value) for trial, rung in rungs if math.isfinite(rung.value)]
    epochs = sorted({rung.epochs for _, rung in rungs})
    after = f" after {counted(epochs[0], 'epoch')}" if len(epochs) == 1 else ""
    return importances(sweep.parameters, scored, of=f"{sweep.metric} of {_those(scored, 'at the first rung')}{after}")


def importances(parameters: Sequence[Parameter], scored: Scored, *, of: str) -> Importances:
    """What each setting explains of the scores.

    Ten forests of 8 trees, each of its own seed and its own 80 % of the trials (at most 150), give the mean and the
    range. A setting that only some trials have is judged among these, beside the settings that all of them have.
    """
    if len(scored) < FEWEST_TRIALS:
        return Importances(of=of, refused=f"Too few trials: {len(scored)}, and it takes {FEWEST_TRIALS}.")
    if len({value for _, value in scored}) == 1:
        return Importances(of=of, refused="All of these scores are equal: there is nothing to explain.")
    varying = [one for one in parameters if _varies(one, scored)]
    shared = [one for one in varying if all(one.of(trial) is not None for trial, _ in scored)]
    conditional = [one for one in varying if one not in shared]
    if len(varying) < 2:
        return Importances(of=of, refused=_one_only(varying))
    found = _explained_by(shared, shared, scored)
    for parameter in conditional:
        having = [pair for pair in scored if parameter.of(pair[0]) is not None]
        if len(having) >= FEWEST_TRIALS and len({value for _, value in having}) > 1:
            found += _explained_by([parameter], [*shared, parameter], having)
    kept = {one.parameter for one in found}
    left_out = tuple(one for one in parameters if one not in kept)
    ordered = sorted(found, key=lambda one: (-one.trials, -one.mean))
    r2 = _out_of_bag(varying, scored)
    return Importances(of=of, found=tuple(ordered), explained=r2, left_out=left_out)


def _those(scored: Scored, which: str) -> str:
    return f"{'the ' if len(scored) != 1 else ''}{counted(len(scored), 'trial')} {which}"


def _one_only(varying: Sequence[Parameter]) -> str:
    if not varying:
        return "None of the settings has more than one value among these trials."
    return f"Only {varying[0].name} varies among these trials: there is nothing to weigh it against."


def _varies(parameter: Parameter, scored: Scored) -> bool:
    return len({label(value) for trial, _ in scored if (value := parameter.of(trial)) is not None}) > 1


def _explained_by(wanted: Sequence[Parameter], beside: Sequence[Parameter], scored: Scored) -> list[Importance]:
    """Importance of the wanted settings, in forests that see them beside others which these trials all have."""
    if not wanted:
        return []
    forests = [_fanova(beside, _part_of(scored, seed), seed) for seed in range(FORESTS)]
    shares = {one: [forest.get(one.field, 0.0) for forest in forests] for one in wanted}
    return [
        Importance(parameter=one, mean=float(np.mean(v)), low=min(v), high=max(v), trials=len(scored))
        for one, v in shares.items()
    ]


def _part_of(scored: Scored, seed: int) -> Scored:
    size = min(max(2, round(_SHARE * len(scored))), MOST_TRIALS)
    chosen = np.random.default_rng(seed).permutation(len(scored))[:size]
    return [scored[at] for at in sorted(chosen)]


def _fanova(parameters: Sequence[Parameter], scored: Scored, seed: int) -> dict[str, float]:
    if len({value for _, value in scored}) == 1:
        return {}
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.study import create_study
    from optuna.trial import create_trial

    axes = [_axis(parameter, scored) for parameter in parameters]
    distributions = {one.field: axis for one, (axis, _) in zip(parameters, axes, strict=True)}
    with _silent():
        study = create_study(direction="maximize")
        for trial, value in scored:
            values = {one.field: read(trial) for one, (_, read) in zip(parameters, axes, strict=True)}
            study.add_trial(create_trial(params=values, distributions=distributions, value=value))
        found = FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study)
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}


@contextmanager
def _silent() -> Iterator[None]:
    """Without Optuna's word on each study."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _axis(parameter: Parameter, scored: Scored) -> tuple["BaseDistribution", Callable[[Trial], Any]]:
    """The range of a setting for Optuna, and how a trial's value is read; logarithms, because it takes none itself."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    trials = [trial for trial, _ in scored]
    if parameter.kind == "category":
        return CategoricalDistribution(parameter.choices(trials)), lambda trial: label(parameter.of(trial))
    if parameter.kind == "ordered":
        labels = parameter.choices(trials)
        return IntDistribution(0, len(labels) - 1), lambda trial: labels.index(label(parameter.of(trial)))

    def read(trial: Trial) -> float:
        return place(parameter, trial)

    values = [read(trial) for trial in trials] + [_on_scale(parameter, float(end)) for end in parameter.values]
    return FloatDistribution(min(values), max(values)), read


def place(parameter: Parameter, trial: Trial) -> float:
    """Where a trial lies on the axis of a number; the logarithm of one that was searched so."""
    value = parameter.of(trial)
    assert value is not None
    return _on_scale(parameter, float(value))


def _on_scale(parameter: Parameter, value: float) -> float:
    return math.log10(value) if parameter.kind == "log" and value > 0 else value


def _out_of_bag(parameters: Sequence[Parameter], scored: Scored) -> float:
    """R² of a forest on trials that its trees have not seen; settings that a trial lacks are marked as such."""
    from sklearn.ensemble import RandomForestRegressor

    inputs = np.hstack([_encoded(parameter, scored) for parameter in parameters])
    values = np.array([value for _, value in scored])
    forest = RandomForestRegressor(n_estimators=200, oob_score=True, random_state=0)
    return float(forest.fit(inputs, values).oob_score_)


def _encoded(parameter: Parameter, scored: Scored) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(trials, columns): whether the setting is there, then its value, or one column for each choice."""
    trials = [trial for trial, _ in scored]
    present = [parameter.of(trial) is not None for trial in trials]
    if parameter.is_choice:
        names = parameter.choices(trials)
        columns = [[float(here and label(parameter.of(t)) == name) for t, here in zip(trials, present, strict=True)]
                   for name in names]  # fmt: skip
    else:
        columns = [[place(parameter, t) if here else 0.0 for t, here in zip(trials, present, strict=True)]]
    return np.array([[float(here) for here in present], *columns]).T
