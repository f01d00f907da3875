"""Scores of one data set and metric as an array, and comparisons of arms as values of patients.

The order of averaging is fixed: for each arm, case, class and seed there is one score. A comparison takes the weighted
sum of its arms there, so undefined scores drop out as pairs and are counted. Then classes are averaged within a seed,
seeds within a case, and cases within a group: each patient counts once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from udt_cluster.statistics import (
    NO_COMPONENTS,
    Components,
    FloatArray,
    Noise,
    TrainingNoise,
    group_means,
    training_noise,
    variance_components,
)
from udt_cluster.studies.design import metric_named
from udt_cluster.studies.table import ScoreRow


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one data set and metric.

    Attributes:
        dataset: Which.
        metric: Which.
        arms: Names, A of them.
        cases: Ids, C.
        groups: One per case.
        folds: One per case; empty where trainings did not share their folds.
        classes: Names, K.
        seeds: S.
        unit: Of distances; "mixed" where cases differ: then nothing is defined.
        values: (A, C, K, S); NaN where undefined or absent.
        present: The same shape: whether there is a row.
        noise: Of trainings, by class name (empty: all classes); None where it cannot be told.
    """

    dataset: str
    metric: str
    arms: tuple[str, ...]
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[int, ...]
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    unit: str
    values: FloatArray
    present: npt.NDArray[np.bool_]
    noise: Mapping[str, TrainingNoise | None] = field(default_factory=dict)

    @property
    def arms_with_scores(self) -> list[str]:
        """Arms that have a defined score."""
        return [arm for arm, part in zip(self.arms, self.values, strict=True) if not np.isnan(part).all()]


@dataclass(frozen=True, kw_only=True)
class Contrasted:
    """A comparison (or the scores of a single arm), patient by patient.

    Attributes:
        cases: Value by case id.
        case_groups: Group by case id.
        groups: Value by group.
        components: Patients, folds and seeds apart.
        noise: What the mean owes to chance in training; None where it is not known.
        undefined: Scores (case, class, seed) left out because they are undefined in an arm of the comparison.
        one_sided: Those of them that are defined in another of its arms.
        left_out: Cases without any value, though all arms of the comparison scored them.
    """

    cases: Mapping[str, float]
    case_groups: Mapping[str, str]
    groups: Mapping[str, float]
    components: Components
    noise: Noise | None
    undefined: int
    one_sided: int
    left_out: int

    @property
    def column(self) -> FloatArray:
        """(groups,)."""
        return np.asarray(list(self.groups.values()), dtype=np.float64)


def scores_of(rows: Sequence[ScoreRow], metric: str, arms: Sequence[str]) -> Scores:
    """Arrange rows of one data set; rows of other arms are left out.

    Args:
        rows: At least one, all of one data set.
        metric: Column.
        arms: In order.
    """
    rows = [row for row in rows if row.arm in set(arms) and metric in row.values]
    cases = sorted({row.case for row in rows})
    classes = dict(sorted({row.class_index: row.class_name for row in rows}.items()))
    seeds = sorted({row.seed for row in rows})
    units = sorted({row.unit for row in rows})
    shape = (len(arms), len(cases), len(classes), len(seeds))
    values, present = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    places = [{name: at for at, name in enumerate(axis)} for axis in (arms, cases, classes, seeds)]
    for row in rows:
        at = tuple(place[key] for place, key in zip(places, _key(row), strict=True))
        values[at], present[at] = row.values[metric], True
    mixed = len(units) > 1
    if mixed and metric_named(metric).is_distance:
        values[:] = np.nan
    scores = Scores(
        dataset=rows[0].dataset if rows else "",
        metric=metric,
        arms=tuple(arms),
        cases=tuple(cases),
        groups=tuple({row.case: row.group for row in rows}[case] for case in cases),
        folds=_folds(rows, cases),
        classes=tuple(classes.values()),
        seeds=tuple(seeds),
        unit="mixed" if mixed else "".join(units),
        values=values,
        present=present,
    )
    names = ("", *scores.classes) if len(scores.classes) > 1 else ("",)
    return replace(scores, noise={name: _noise(scores, name) for name in names})


def contrasted(scores: Scores, weights: Mapping[str, float], *, class_name: str = "") -> Contrasted:
    """The weighted sum of arms, by patient.

    Args:
        scores: Of one data set and metric.
        weights: By arm; {arm: 1} gives the arm's own scores.
        class_name: One class; empty: the mean over classes.
    """
    rows = [scores.arms.index(arm) for arm in weights]
    columns = [at for at, name in enumerate(scores.classes) if class_name in ("", name)]
    values = scores.values[rows][:, :, columns]
    shared = scores.present[rows][:, :, columns].all(axis=0)
    summed = np.tensordot(np.asarray(list(weights.values())), values, axes=1)
    undefined = shared & np.isnan(summed)
    one_sided = undefined & ~np.isnan(values).all(axis=0)
    by_seed = _mean(summed, axis=1)
    by_case = _mean(by_seed, axis=1)
    left_out = shared.reshape(len(scores.cases), -1).any(axis=1) & np.isnan(by_case)
    known = {case: float(value) for case, value in zip(scores.cases, by_case, strict=True) if not np.isnan(value)}
    groups = dict(zip(scores.cases, scores.groups, strict=True))
    table, pooled = _grouped(scores, by_seed), scores.noise.get(class_name)
    return Contrasted(
        cases=known,
        case_groups={case: groups[case] for case in known},
        groups=group_means(by_case, scores.groups),
        components=variance_components(*table) if table else NO_COMPONENTS,
        noise=pooled.of_mean(weights.values(), *table) if pooled and table and len(known) > 1 else None,
        undefined=int(undefined.sum()),
        one_sided=int(one_sided.sum()),
        left_out=int(left_out.sum()),
    )


def shared_means(scores: Scores, arms: Sequence[str]) -> tuple[tuple[str, ...], FloatArray]:
    """Groups that all these arms have, on the scores that are defined in all of them, and their means.

    Returns:
        G names, and (G, arms).
    """
    rows = [scores.arms.index(arm) for arm in arms]
    values = scores.values[rows]
    values = np.where(np.isnan(values).any(axis=0), np.nan, values)
    by_case = _mean(_mean(values, axis=2), axis=2)
    columns = [group_means(column, scores.groups) for column in by_case]
    names = tuple(columns[0]) if columns else ()
    table = np.asarray([[column[name] for column in columns] for name in names], dtype=np.float64)
    return names, table.reshape(len(names), len(arms))


def _key(row: ScoreRow) -> tuple[str, str, int, int]:
    return row.arm, row.case, row.class_index, row.seed


def _folds(rows: Sequence[ScoreRow], cases: Sequence[str]) -> tuple[int, ...]:
    found: dict[str, set[int]] = {}
    for row in rows:
        found.setdefault(row.case, set()).add(row.fold)
    if any(len(folds) > 1 for folds in found.values()):
        return ()
    return tuple(min(found[case]) for case in cases)


def _grouped(scores: Scores, by_seed: FloatArray) -> tuple[FloatArray, list[int]] | None:
    """Means of groups (groups, seeds), and the fold of each, its first case's; None where folds are not shared."""
    if not scores.folds:
        return None
    names = list(dict.fromkeys(scores.groups))
    columns = [group_means(column, scores.groups) for column in by_seed.T]
    table = np.asarray([[column.get(name, np.nan) for column in columns] for name in names], dtype=np.float64)
    first = dict(reversed(list(zip(scores.groups, scores.folds, strict=True))))
    return table, [first[name] for name in names]


def _noise(scores: Scores, class_name: str) -> TrainingNoise | None:
    """Of trainings, from all arms together."""
    columns = [at for at, name in enumerate(scores.classes) if class_name in ("", name)]
    grouped = [_grouped(scores, _mean(of_arm[:, columns], axis=1)) for of_arm in scores.values]
    found = [one for one in grouped if one is not None]
    return training_noise(np.stack([table for table, _ in found], axis=1), found[0][1]) if found else None


def _mean(values: FloatArray, axis: int) -> FloatArray:
    """Mean over what is defined; NaN where nothing is."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    out: FloatArray = np.full(counts.shape, np.nan)
    np.divide(total, counts, out=out, where=counts > 0)
    return out
