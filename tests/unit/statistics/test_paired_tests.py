"""Paired comparisons: p values and effect sizes against enumeration, textbooks and scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from udt_cluster.statistics import (
    ALPHA,
    LEAST_GROUPS,
    Noise,
    paired,
    rank_biserial,
    sign_flip_p,
    smallest_p,
    wilcoxon_p,
)

DARWIN = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
"""Differences in height of cross- and self-fertilised corn, in eighths of an inch (Darwin 1876), p known."""


def enumerated(values: list[float]) -> float:
    sums = [abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
            for signs in itertools.product((-1, 1), repeat=len(values))]  # fmt: skip
    return float(np.mean([one >= abs(sum(values)) - 1e-12 for one in sums]))


@pytest.mark.parametrize("number", [1, 2, 5, 6, 9])
def test_sign_flips_of_few_groups_are_exact(number: int) -> None:
    values = np.random.default_rng(number).normal(0.5, 1, number).tolist()
    assert sign_flip_p(values, seed=0) == pytest.approx(enumerated(values))


@pytest.mark.parametrize("shift", [0.1, 1.2])
def test_sampled_sign_flips_agree_with_all_of_them(shift: float) -> None:
    values = np.random.default_rng(4).normal(shift, 1, 18)
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = float((np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-12)).mean())
    assert sign_flip_p(values, seed=0) == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999) + 1e-5)


def test_a_small_p_is_measured_finely_enough_for_hundreds_of_tests() -> None:
    assert sign_flip_p(np.full(40, 0.1) + np.random.default_rng(0).normal(0, 0.02, 40), seed=0) * 400 < ALPHA


def test_wilcoxon_is_the_textbooks() -> None:
    assert wilcoxon_p(DARWIN) == pytest.approx(0.041259765625)
    assert wilcoxon_p([*DARWIN, 0, 0]) == pytest.approx(0.041259765625), "pairs without a difference are left out"
    assert wilcoxon_p([0.0, 0.0]) == 1.0
    assert math.isnan(wilcoxon_p([]))


def test_five_pairs_cannot_show_a_difference_and_six_can() -> None:
    assert LEAST_GROUPS == 6
    five, six = (paired([0.1, 0.2, 0.3, 0.4, 0.5, 0.6][:number], seed=0) for number in (5, 6))
    assert five.p == five.wilcoxon_p == smallest_p(5) == 0.0625
    assert five.has_too_few
    assert six.p == six.wilcoxon_p == smallest_p(6) == 0.03125
    assert not six.has_too_few


def test_effect_sizes_by_hand() -> None:
    assert rank_biserial([1, 2, 3, -4]) == pytest.approx((6 - 4) / 10)
    assert rank_biserial([0, 0]) == 0
    shown = paired([0.1, 0.3, 0.0, -0.1, 0.2], seed=0)
    assert shown.mean == pytest.approx(0.1)
    assert shown.median == pytest.approx(0.1)
    assert shown.cohens_dz == pytest.approx(0.1 / np.std([0.1, 0.3, 0, -0.1, 0.2], ddof=1))
    assert (shown.wins, shown.ties, shown.losses) == (3, 1, 1)


def test_round_off_is_a_tie() -> None:
    shown = paired([0.1 + 0.2 - 0.3, 0.0, 0.0], seed=0)
    assert (shown.wins, shown.ties) == (0, 3)
    assert shown.p == shown.wilcoxon_p == 1.0
    assert math.isnan(shown.cohens_dz)


def test_without_pairs_nothing_is_known() -> None:
    shown = paired([], seed=0)
    assert shown.groups == 0
    assert all(math.isnan(value) for value in (shown.mean, shown.p, shown.wilcoxon_p, shown.median))
    assert not shown.interval.is_known


def test_undefined_differences_are_refused() -> None:
    with pytest.raises(AssertionError):
        paired([0.1, math.nan], seed=0)


def test_a_difference_must_also_be_larger_than_what_a_retraining_changes() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.02, 30)
    alone = paired(values, seed=0)
    noisy = paired(values, seed=0, noise=Noise(variance=0.02**2, df=4))
    assert alone.retraining_p is None
    assert alone.p < 0.001
    mean, variance = values.mean(), values.var(ddof=1) / 30
    df = (variance + 0.0004) ** 2 / (variance**2 / 29 + 0.0004**2 / 4)
    expected = 2 * stats.t.sf(mean / math.sqrt(variance + 0.0004), df)
    assert noisy.retraining_p == pytest.approx(expected, rel=1e-6)
    assert noisy.p == noisy.retraining_p > 0.2
    assert noisy.interval.low < 0 < alone.interval.low
