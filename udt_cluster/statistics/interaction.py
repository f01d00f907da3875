"""Whether an effect differs between two data sets: the double difference."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from udt_cluster.statistics.intervals import (
    RESAMPLES,
    UNKNOWN,
    FloatArray,
    Interval,
    Noise,
    difference_interval,
    welch,
    with_noise,
)


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """The effect in one data set minus that in another.

    Attributes:
        difference: Of the mean effects; NaN where one has no groups.
        interval: Groups of each data set resampled on their own.
        p: Two-sided: groups permuted between the data sets, Welch's t as statistic, so that the data sets may differ in
            spread (Janssen 1997); not below the t test that counts the noise of trainings.
        groups: Of the first and of the second data set.
    """

    difference: float
    interval: Interval
    p: float
    groups: tuple[int, int]


def interaction(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    seed: int,
    noises: tuple[Noise | None, Noise | None] = (None, None),
    resamples: int = RESAMPLES,
) -> Interaction:
    """Compare an effect, per group, between two data sets.

    Args:
        first: (groups,) differences of two arms in one data set.
        second: The same in the other.
        seed: Of resampling.
        noises: Variance of each mean that is due to trainings.
        resamples: Of the bootstrap and of the permutation test.
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    sizes = (len(one), len(other))
    if min(sizes) < 2:
        difference = float(one.mean() - other.mean()) if min(sizes) else math.nan
        return Interaction(difference=difference, interval=UNKNOWN, p=math.nan, groups=sizes)
    noise = _sum(noises)
    return Interaction(
        difference=float(one.mean() - other.mean()),
        interval=difference_interval(one, other, seed=seed, noise=noise, resamples=resamples),
        p=_p(one, other, seed=seed, noise=noise, resamples=resamples),
        groups=sizes,
    )


def _sum(noises: tuple[Noise | None, Noise | None]) -> Noise | None:
    """Noise of a difference; one side alone counts as it is."""
    known = [noise for noise in noises if noise is not None]
    if not known:
        return None
    first = known[0]
    variance, df = with_noise(first.variance, first.df, known[1] if len(known) > 1 else None)
    return Noise(variance=variance, df=df)


def _p(one: FloatArray, other: FloatArray, *, seed: int, noise: Noise | None, resamples: int) -> float:
    variance, df = welch(one, other)
    difference = float(one.mean() - other.mean())
    if variance == 0:
        return math.nan if difference else 1.0
    method = stats.PermutationMethod(n_resamples=resamples, rng=np.random.default_rng(seed))
    permuted = float(stats.ttest_ind(one, other, equal_var=False, method=method).pvalue)
    if noise is None:
        return min(1.0, permuted)
    total, df = with_noise(variance, df, noise)
    return max(min(1.0, permuted), float(2 * stats.t.sf(abs(difference) / math.sqrt(total), df)))
