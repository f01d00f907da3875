"""Two arms on the same groups: the difference, how sure it is, and how large beside its spread.

The test that decides is the sign-flip permutation test of the mean difference: it tests the number that is reported,
needs no normal distribution, and is exact for up to 13 groups. Wilcoxon's signed-rank test stands beside it. Where
seeds or folds tell what a retraining changes, the difference must also be larger than that.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from udt_cluster.statistics.intervals import RESAMPLES, FloatArray, Interval, Noise, mean_interval, with_noise

LEAST_GROUPS = 6
"""Below this number of pairs no two-sided signed-rank or sign-flip test can come under 0.05: with 5 pairs that all
point the same way its p is 2 / 2**5 = 0.0625, with 6 it is 0.03125."""

ALPHA = 0.05
_EXACT_GROUPS = 13
_REFINED_BELOW, _FINE = 0.01, 199_999
_DECIMALS = 12  # differences that are equal but for round-off are ties
_BATCH_VALUES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Paired:
    """What the differences of pairs show.

    Attributes:
        groups: Number of pairs.
        mean: Difference; NaN without pairs.
        interval: Of the mean, see `mean_interval`.
        median: Of the differences.
        sign_flip_p: Two-sided, of the mean.
        wilcoxon_p: Two-sided; pairs without a difference are left out of it, as Wilcoxon did.
        retraining_p: Two-sided, Student's t of the mean with the noise of trainings in its variance; None where
            that is not known.
        rank_biserial: Matched pairs, -1..1: how much larger the ranks of gains are than those of losses.
        cohens_dz: Mean over the standard deviation of the differences; NaN where they do not vary.
        wins: Pairs above 0.
        ties: Pairs at 0.
        losses: Pairs below 0.
    """

    groups: int
    mean: float
    interval: Interval
    median: float
    sign_flip_p: float
    wilcoxon_p: float
    retraining_p: float | None
    rank_biserial: float
    cohens_dz: float
    wins: int
    ties: int
    losses: int

    @property
    def p(self) -> float:
        """The one that decides: both the groups and the trainings must speak for a difference."""
        return self.sign_flip_p if self.retraining_p is None else max(self.sign_flip_p, self.retraining_p)

    @property
    def has_too_few(self) -> bool:
        """Whether no test could show a difference."""
        return self.groups < LEAST_GROUPS


def paired(differences: npt.ArrayLike, *, seed: int, noise: Noise | None = None, resamples: int = RESAMPLES) -> Paired:
    """Compare two arms by the differences of their groups.

    Args:
        differences: (groups,), one arm minus the other, finite: undefined pairs are left out by the caller.
        seed: Of resampling.
        noise: Variance of the mean difference that is due to trainings.
        resamples: Of the bootstrap and of the sign flips where they are not exact.
    """
    column: FloatArray = np.asarray(differences, dtype=np.float64).round(_DECIMALS)
    assert np.isfinite(column).all(), "undefined pairs are left out before"
    number = len(column)
    spread = float(column.std(ddof=1)) if number > 1 else math.nan
    return Paired(
        groups=number,
        mean=float(column.mean()) if number else math.nan,
        interval=mean_interval(column, seed=seed, noise=noise, resamples=resamples),
        median=float(np.median(column)) if number else math.nan,
        sign_flip_p=sign_flip_p(column, seed=seed, resamples=resamples),
        wilcoxon_p=wilcoxon_p(column),
        retraining_p=None if noise is None or number < 2 else _retraining_p(column, noise),
        rank_biserial=rank_biserial(column),
        cohens_dz=float(column.mean()) / spread if number > 1 and spread > 0 else math.nan,
        wins=int((column > 0).sum()),
        ties=int((column == 0).sum()),
        losses=int((column < 0).sum()),
    )


def smallest_p(groups: int) -> float:
    """The smallest two-sided p that so many pairs can give in a sign-flip or signed-rank test."""
    return min(1.0, 2.0 ** (1 - groups))


def sign_flip_p(differences: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the mean: every sign is flipped by chance; all 2**n ways for n <= 13 groups.

    A p below 0.01 is measured again with 20 times the flips: a correction over hundreds of tests needs it that fine.

    Args:
        differences: (groups,), finite; without groups the p is NaN.
        seed: Of the flips.
        resamples: How many, where there are too many ways to try all.
    """
    column = np.asarray(differences, dtype=np.float64)
    if not len(column):
        return math.nan
    if len(column) == 1 or not column.any():
        return 1.0
    if len(column) > _EXACT_GROUPS:
        coarse = _sampled_p(column, np.random.default_rng(seed), resamples)
        return coarse if coarse >= _REFINED_BELOW else _sampled_p(column, np.random.default_rng(seed + 1), _FINE)
    found = stats.permutation_test(
        (column,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**_EXACT_GROUPS,
    )
    return min(1.0, float(found.pvalue))


def wilcoxon_p(differences: npt.ArrayLike) -> float:
    """Two-sided signed-rank p, exact where scipy has it (no ties: to 50 pairs; ties: to 13); NaN without groups."""
    column = np.asarray(differences, dtype=np.float64)
    column = column[column != 0] if column.any() else column
    if not len(column):
        return math.nan
    return float(stats.wilcoxon(column).pvalue) if column.any() else 1.0


def rank_biserial(differences: npt.ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation, (W+ - W-) / (W+ + W-) (Kerby 2014); 0 where nothing differs."""
    column = np.asarray(differences, dtype=np.float64)
    column = column[column != 0]
    if not len(column):
        return 0.0
    ranks: FloatArray = stats.rankdata(np.abs(column))
    return float((ranks * np.sign(column)).sum() / ranks.sum())


def _sampled_p(column: FloatArray, generator: np.random.Generator, resamples: int) -> float:
    """Share of random sign flips with a sum at least as far from 0, the data themselves counted (Phipson, Smyth 2010).

    scipy's `permutation_test` does the same at a tenth of the speed: signs are drawn here as bits.
    """
    number = len(column)
    observed = abs(float(column.sum())) * (1 - 1e-9)
    batch = max(1, _BATCH_VALUES // number)
    extreme = 0
    for start in range(0, resamples, batch):
        size = (min(batch, resamples - start), -(-number // 8))
        kept = np.unpackbits(generator.integers(0, 256, size=size, dtype=np.uint8), axis=1, count=number)
        extreme += int((np.abs(2 * (kept @ column) - column.sum()) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def _retraining_p(column: FloatArray, noise: Noise) -> float:
    variance, df = with_noise(float(column.var(ddof=1)) / len(column), len(column) - 1.0, noise)
    mean = float(column.mean())
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / math.sqrt(variance), df))
