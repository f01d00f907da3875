"""Where variation comes from: patients, the split into folds, or the seed of a training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from udt_cluster.statistics.intervals import FloatArray

_LEAST_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Components:
    """Standard deviations, from an analysis of variance (groups within folds, crossed with seeds within folds).

    The model: value of group g with seed s = mean + fold + group within fold + seed within fold + rest. A training has
    one fold and one seed and scores all groups of the fold, so what seeds do to all of them at once is told apart from
    what they do to single groups. Estimates below 0 are 0.

    Attributes:
        seed_sd: Of a whole fold's mean when its network is trained again with another seed; NaN with one seed.
        fold_sd: Of a fold's mean beyond its patients and seeds: other training cases; with one seed it holds both; NaN
            with one fold.
        group_sd: Between patients; with one seed it holds the rest too.
        rest_sd: What a seed changes on single patients; NaN with one seed.
    """

    seed_sd: float
    fold_sd: float
    group_sd: float
    rest_sd: float


def variance_components(table: npt.ArrayLike, folds: Sequence[int]) -> Components:
    """Separate seed noise from fold noise.

    Args:
        table: (groups, seeds); NaN where a seed is missing. Groups that lack a seed which others have are left out of
            the estimates; if nearly all lack one, seeds are averaged.
        folds: One per group.
    """
    full = np.asarray(table, dtype=np.float64)
    full = full[:, ~np.isnan(full).all(axis=0)]
    if not full.size:
        return NO_COMPONENTS
    if (~np.isnan(full).any(axis=1)).sum() < _LEAST_ROWS:
        full = np.asarray([[row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else np.nan] for row in full])
    complete = ~np.isnan(full).any(axis=1)
    values, labels = full[complete], np.asarray(folds)[complete]
    if len(values) < _LEAST_ROWS:
        return NO_COMPONENTS
    mean_squares = _mean_squares(values, labels)
    variances = _estimates(mean_squares, values.shape[1], labels)
    return Components(
        seed_sd=math.sqrt(variances["seed"]),
        fold_sd=math.sqrt(variances["fold"]),
        group_sd=math.sqrt(variances["group"]),
        rest_sd=math.sqrt(variances["rest"]),
    )


NO_COMPONENTS = Components(seed_sd=math.nan, fold_sd=math.nan, group_sd=math.nan, rest_sd=math.nan)
"""Of what has no groups, or no folds in common."""


def _mean_squares(values: FloatArray, labels: npt.NDArray[np.int_]) -> dict[str, float]:
    """Mean squares of the nested analysis of variance; NaN where there are no degrees of freedom."""
    number, seeds = values.shape
    squares = dict.fromkeys(("fold", "seed", "group", "rest"), 0.0)
    grand = float(values.mean())
    for fold in np.unique(labels):
        part = values[labels == fold]
        mean, by_group, by_seed = part.mean(), part.mean(axis=1), part.mean(axis=0)
        squares["fold"] += part.size * (mean - grand) ** 2
        squares["group"] += seeds * ((by_group - mean) ** 2).sum()
        squares["seed"] += len(part) * ((by_seed - mean) ** 2).sum()
        squares["rest"] += ((part - by_group[:, None] - by_seed[None] + mean) ** 2).sum()
    count = len(np.unique(labels))
    df = {"fold": count - 1, "group": number - count, "seed": count * (seeds - 1)}
    df["rest"] = (number - count) * (seeds - 1)
    return {name: float(squares[name]) / df[name] if df[name] else math.nan for name in squares}


def _estimates(mean_squares: dict[str, float], seeds: int, labels: npt.NDArray[np.int_]) -> dict[str, float]:
    """Variances from the expected mean squares (method of moments); groups per fold may differ."""
    sizes = np.unique(labels, return_counts=True)[1].astype(np.float64)
    number, count = float(sizes.sum()), len(sizes)
    per_fold = number / count
    between = (number - float((sizes**2).sum()) / number) / (count - 1) if count > 1 else math.nan
    rest = mean_squares["rest"]
    known_rest = 0.0 if math.isnan(rest) else rest
    seed = _positive((mean_squares["seed"] - known_rest) / per_fold)
    group_square = 0.0 if math.isnan(mean_squares["group"]) else mean_squares["group"]
    known_seed = 0.0 if math.isnan(seed) else seed
    return {
        "rest": rest,
        "seed": seed,
        "group": _positive((mean_squares["group"] - known_rest) / seeds),
        "fold": _positive((mean_squares["fold"] - group_square - between * known_seed) / (between * seeds)),
    }


def _positive(variance: float) -> float:
    return variance if math.isnan(variance) else max(0.0, variance)
