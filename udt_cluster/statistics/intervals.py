"""Confidence intervals that resample groups: patients are independent of each other, images of one patient are not.

Which bootstrap, and why. Values are averaged within their group first, so a resample draws groups with replacement and
the mean is over patients. The interval is BCa (bias-corrected and accelerated; Efron 1987), since differences of Dice
are skewed: a few cases regress by much. With few groups every bootstrap interval of a mean is too narrow; each half is
therefore stretched by sqrt(n / (n - 1)) and by the ratio of Student's to the normal quantile, as Hesterberg (2015,
https://doi.org/10.1080/00031305.2015.1089789) does for percentile intervals. What is known of
the noise of trainings, from seeds or folds, is added to the variance and stretches the interval too.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 9999
"""Of every bootstrap and of every permutation test that is not exact: the smallest p is then 1 / 10,000."""

LEVEL = 0.95
_BATCH_VALUES = 4_000_000  # numbers drawn at a time, so that thousands of groups fit in memory


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends are NaN where too little is known for one."""

    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether it has ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside."""
        return self.is_known and not self.low <= value <= self.high

    def clipped(self, low: float, high: float) -> "Interval":
        """The part within the range that values can have."""
        return Interval(min(max(self.low, low), high), min(max(self.high, low), high)) if self.is_known else self


UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What a mean owes to chance beside the choice of groups: to the trainings.

    Attributes:
        variance: Of the mean, at least 0.
        df: Degrees of freedom of its estimate.
    """

    variance: float
    df: float


def group_means(values: npt.ArrayLike, groups: Sequence[str]) -> dict[str, float]:
    """The mean of each group, in the order in which they come first; NaN values are left out, as are groups of them.

    Args:
        values: (n,), one per case.
        groups: n names.
    """
    column = np.asarray(values, dtype=np.float64)
    members: dict[str, list[float]] = {}
    for value, group in zip(column.tolist(), groups, strict=True):
        if not math.isnan(value):
            members.setdefault(group, []).append(value)
    return {group: math.fsum(found) / len(found) for group, found in members.items()}


def mean_interval(
    values: npt.ArrayLike, *, seed: int, level: float = LEVEL, noise: Noise | None = None, resamples: int = RESAMPLES
) -> Interval:
    """Interval of the mean of group values.

    Args:
        values: (n,), one per group, finite.
        seed: Of the resampling.
        level: Confidence.
        noise: Variance of the mean that resampling groups does not see.
        resamples: How often groups are drawn.
    """
    column = np.asarray(values, dtype=np.float64)
    if len(column) < 2:
        return UNKNOWN
    mean, variance = float(column.mean()), float(column.var(ddof=1)) / len(column)
    if not _varies(column):
        return _student(mean, 0.0, noise, len(column), level)
    found = _bca(column, seed=seed, level=level, resamples=resamples)
    factor = _stretch(variance, noise, len(column), level)
    return Interval(mean + factor * (found.low - mean), mean + factor * (found.high - mean))


def difference_interval(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    seed: int,
    level: float = LEVEL,
    noise: Noise | None = None,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of mean(first) - mean(second) of independent groups, each resampled on its own.

    Args:
        first: (n,), one per group.
        second: (m,).
        seed: Of the resampling.
        level: Confidence.
        noise: See :func:`mean_interval`.
        resamples: How often groups are drawn.
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if min(len(one), len(other)) < 2:
        return UNKNOWN
    variance, df = welch(one, other)
    center = float(one.mean() - other.mean())
    if variance == 0:
        return _student(center, 0.0, noise, len(one) + len(other) - 1, level)
    columns = [
        resampled_means(side[:, None], seed=seed + at, resamples=resamples) for at, side in enumerate((one, other))
    ]
    drawn = columns[0][:, 0] - columns[1][:, 0]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    smaller = min(len(one), len(other))
    total, df = with_noise(variance, df, noise)
    factor = math.sqrt(smaller / (smaller - 1) * total / variance) * _student_to_normal(df, level)
    return Interval(center + factor * (float(low) - center), center + factor * (float(high) - center))


def resampled_means(table: FloatArray, *, seed: int, resamples: int = RESAMPLES) -> FloatArray:
    """Column means of resampled rows: each row is a group, each column an arm, so arms stay paired.

    Args:
        table: (groups, columns), finite.
        seed: Of the resampling.
        resamples: How many times.

    Returns:
        (resamples, columns).
    """
    generator = np.random.default_rng(seed)
    number = len(table)
    even = np.full(number, 1 / number)
    batch = max(1, _BATCH_VALUES // number)
    parts = [
        generator.multinomial(number, even, size=min(batch, resamples - start)).astype(np.float64) @ table / number
        for start in range(0, resamples, batch)
    ]
    return np.concatenate(parts)


def percentile_interval(drawn: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """The middle part of resampled values; NaN among them (undefined in that resample) are left out."""
    column = np.asarray(drawn, dtype=np.float64)
    column = column[~np.isnan(column)]
    if not len(column):
        return UNKNOWN
    low, high = np.quantile(column, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def welch(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Variance of the difference of two independent means and its degrees of freedom (Welch-Satterthwaite)."""
    parts = [(float(column.var(ddof=1)) / len(column), len(column) - 1.0) for column in (first, second)]
    return _combined(parts)


def with_noise(variance: float, df: float, noise: Noise | None) -> tuple[float, float]:
    """The variance of a mean with that of retraining, and the degrees of freedom of the sum."""
    return _combined([(variance, df), *([(noise.variance, noise.df)] if noise is not None else [])])


def _combined(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts if df > 0)
    return total, (total**2 / spread if spread > 0 else parts[0][1])


def _varies(column: FloatArray) -> bool:
    return float(np.ptp(column)) > 1e-12 * max(1.0, float(np.abs(column).max()))


def _stretch(variance: float, noise: Noise | None, number: int, level: float) -> float:
    total, df = with_noise(variance, number - 1.0, noise)
    return math.sqrt(number / (number - 1) * total / variance) * _student_to_normal(df, level)


def _student_to_normal(df: float, level: float) -> float:
    quantile = (1 + level) / 2
    return float(stats.t.ppf(quantile, df) / stats.norm.ppf(quantile))


def _student(mean: float, variance: float, noise: Noise | None, number: int, level: float) -> Interval:
    total, df = with_noise(variance, number - 1.0, noise)
    half = float(stats.t.ppf((1 + level) / 2, df)) * math.sqrt(total) if total > 0 else 0.0
    return Interval(mean - half, mean + half)


def _bca(column: FloatArray, *, seed: int, level: float, resamples: int) -> Interval:
    mean: Callable[..., FloatArray] = np.mean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # answered below, by the percentile interval
        found = stats.bootstrap(
            (column,),
            mean,
            n_resamples=resamples,
            batch=max(1, _BATCH_VALUES // len(column)),
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = (float(end) for end in found.confidence_interval)
    if math.isnan(low) or math.isnan(high):
        return percentile_interval(found.bootstrap_distribution, level=level)
    return Interval(low, high)
