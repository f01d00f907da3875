"""Intervals of means over groups: against scipy, by hand, and by how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from udt_cluster.statistics import (
    UNKNOWN,
    Interval,
    Noise,
    difference_interval,
    group_means,
    mean_interval,
    percentile_interval,
    resampled_means,
)

VALUES = np.random.default_rng(3).exponential(1, 15)


def test_it_is_scipys_bca_interval_stretched_for_the_number_of_groups() -> None:
    plain = stats.bootstrap((VALUES,), np.mean, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    stretch = math.sqrt(15 / 14) * stats.t.ppf(0.975, 14) / stats.norm.ppf(0.975)
    found = mean_interval(VALUES, seed=1)
    assert found.low == pytest.approx(VALUES.mean() + stretch * (plain.low - VALUES.mean()))
    assert found.high == pytest.approx(VALUES.mean() + stretch * (plain.high - VALUES.mean()))


def test_it_is_reproducible_and_the_seed_matters_little() -> None:
    assert mean_interval(VALUES, seed=1) == mean_interval(VALUES, seed=1)
    assert mean_interval(VALUES, seed=1).low == pytest.approx(mean_interval(VALUES, seed=2).low, abs=0.03)


@pytest.mark.parametrize(("number", "least"), [(6, 0.88), (20, 0.91)])
@pytest.mark.parametrize("is_skewed", [False, True])
def test_it_holds_the_true_mean_about_as_often_as_it_says(number: int, least: float, is_skewed: bool) -> None:
    generator = np.random.default_rng(number)
    draw = (lambda: generator.exponential(1, number) - 1) if is_skewed else (lambda: generator.normal(0, 1, number))
    held = [not mean_interval(draw(), seed=at, resamples=999).excludes(0.0) for at in range(250)]
    assert least - 0.04 * is_skewed <= np.mean(held) <= 0.99


def test_noise_of_seeds_widens_it() -> None:
    plain = mean_interval(VALUES, seed=1)
    wide = mean_interval(VALUES, seed=1, noise=Noise(variance=3 * VALUES.var(ddof=1) / 15, df=1000.0))
    # the variance is four times as large, the half-width twice, but for Student's quantile of more degrees of freedom
    ratio = (wide.high - wide.low) / (plain.high - plain.low)
    assert 1.7 < ratio < 2.0


def test_too_few_values_have_no_interval_and_equal_ones_have_no_width() -> None:
    assert mean_interval([], seed=0) is UNKNOWN
    assert not mean_interval([0.5], seed=0).is_known
    assert mean_interval([0.5] * 8, seed=0) == Interval(0.5, 0.5)
    assert mean_interval([0.5] * 8, seed=0, noise=Noise(variance=0.01, df=4)).low == pytest.approx(
        0.5 - 0.1 * stats.t.ppf(0.975, 4)
    )


def test_an_unknown_interval_excludes_nothing_and_cannot_be_clipped() -> None:
    assert not UNKNOWN.excludes(0.0)
    assert UNKNOWN.clipped(0, 1) is UNKNOWN
    assert Interval(0.9, 1.1).clipped(0, 1) == Interval(0.9, 1)
    assert Interval(0.1, 0.2).excludes(0.0)


def test_cases_count_within_their_group_and_undefined_ones_do_not() -> None:
    found = group_means([0.2, 0.4, math.nan, 0.9, math.nan], ["a", "a", "a", "b", "c"])
    assert found == {"a": pytest.approx(0.3), "b": 0.9}


def test_resampled_means_keep_arms_paired() -> None:
    table = np.stack([VALUES, VALUES + 1], axis=1)
    drawn = resampled_means(table, seed=0, resamples=500)
    assert drawn.shape == (500, 2)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 1)
    assert drawn[:, 0].std() == pytest.approx(VALUES.std() / math.sqrt(15), rel=0.1)


def test_the_interval_of_a_difference_of_independent_groups_is_near_welchs() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(0.3, 1, 40), generator.normal(0, 2, 60)
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    found = difference_interval(one, other, seed=0)
    assert found.low == pytest.approx(welch.low, abs=0.1)
    assert found.high == pytest.approx(welch.high, abs=0.1)
    assert not difference_interval([0.1], other, seed=0).is_known
    assert difference_interval([0.1] * 4, [0.3] * 4, seed=0).low == pytest.approx(-0.2)


def test_percentiles_leave_undefined_resamples_out() -> None:
    assert percentile_interval([math.nan] * 3) is UNKNOWN
    drawn = [*np.linspace(0, 1, 101), math.nan]
    assert percentile_interval(drawn) == Interval(pytest.approx(0.025), pytest.approx(0.975))
