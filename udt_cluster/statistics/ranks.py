"""Whether two columns put things into the same order."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from udt_cluster.statistics.intervals import RESAMPLES, UNKNOWN, FloatArray, Interval, percentile_interval

LEAST_POINTS = 6
"""Points from which an interval is given: fewer, and most resamples repeat the same few points."""

_EXACT_POINTS = 8


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """Rank correlation of two columns.

    Attributes:
        points: Pairs without an undefined side.
        spearman: -1..1; NaN below two points or where a column does not vary.
        kendall: Tau-b.
        interval: Of Spearman's, resampling points (percentile); unknown below six points.
        p: Two-sided permutation p of Spearman's, exact to 8 points.
    """

    points: int
    spearman: float
    kendall: float
    interval: Interval
    p: float


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> RankCorrelation:
    """Correlate the ranks of two columns (points,); pairs with an undefined side are left out."""
    one, other = (np.asarray(column, dtype=np.float64) for column in (x, y))
    defined = np.isfinite(one) & np.isfinite(other)
    one, other = one[defined], other[defined]
    number = len(one)
    spearman = float(spearman_rows(one[None], other[None])[0]) if number > 1 else math.nan
    known = not math.isnan(spearman)
    return RankCorrelation(
        points=number,
        spearman=spearman,
        kendall=float(stats.kendalltau(one, other).statistic) if known else math.nan,
        interval=_interval(one, other, seed, resamples) if known and number >= LEAST_POINTS else UNKNOWN,
        p=_permutation_p(one, other, seed, resamples) if known else math.nan,
    )


def spearman_rows(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's correlation of each row of one table with the same row of another; NaN where a row does not vary.

    Args:
        first: (rows, points).
        second: (rows, points).
    """
    one, other = (_centered(stats.rankdata(table, axis=1)) for table in (first, second))
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    product = (one * other).sum(axis=1)
    out: FloatArray = np.full(len(size), np.nan)
    np.divide(product, size, out=out, where=size > 0)
    return out


def _centered(ranks: FloatArray) -> FloatArray:
    centered: FloatArray = ranks - ranks.mean(axis=1, keepdims=True)
    return centered


def _interval(one: FloatArray, other: FloatArray, seed: int, resamples: int) -> Interval:
    rows = np.random.default_rng(seed).integers(len(one), size=(resamples, len(one)))
    return percentile_interval(spearman_rows(one[rows], other[rows]))


def _permutation_p(one: FloatArray, other: FloatArray, seed: int, resamples: int) -> float:
    ranks, against = stats.rankdata(one), stats.rankdata(other)
    found = stats.permutation_test(
        (ranks,),
        lambda column, axis: ((column - ranks.mean()) * (against - against.mean())).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=math.factorial(_EXACT_POINTS) if len(one) <= _EXACT_POINTS else resamples,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(found.pvalue))
