"""Rank correlations with intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from udt_cluster.statistics import rank_correlation, spearman_rows


def test_it_agrees_with_scipy_with_ties_too() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 6, 20)
    y = x + generator.normal(0, 2, 20)
    found = rank_correlation(x, y, seed=0)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.kendall == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)
    assert found.interval.low < found.spearman < found.interval.high
    assert found.points == 20


def test_few_points_have_an_exact_p_and_no_interval() -> None:
    found = rank_correlation([1, 2, 3, 4, 5], [10, 20, 30, 40, 50], seed=0)
    assert [found.spearman, found.kendall] == pytest.approx([1, 1])
    assert found.p == pytest.approx(2 / math.factorial(5))
    assert not found.interval.is_known


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3])])
def test_columns_without_order_have_no_correlation(x: list[float], y: list[float]) -> None:
    found = rank_correlation(x, y, seed=0)
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall)
    assert math.isnan(found.p)


def test_pairs_with_an_undefined_side_are_left_out() -> None:
    found = rank_correlation([1, 2, math.nan, 4], [4, 3, 2, 1], seed=0)
    assert found.points == 3
    assert found.spearman == pytest.approx(-1)


def test_the_interval_of_independent_columns_holds_zero_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    held = [
        not rank_correlation(generator.normal(size=20), generator.normal(size=20), seed=at, resamples=499)
        .interval.excludes(0.0)
        for at in range(150)
    ]  # fmt: skip
    assert 0.88 <= np.mean(held) <= 0.99


def test_rows_are_correlated_one_by_one() -> None:
    first = np.asarray([[1.0, 2, 3], [1, 2, 3], [2, 2, 2]])
    second = np.asarray([[1.0, 2, 3], [3, 2, 1], [1, 2, 3]])
    found = spearman_rows(first, second)
    assert found[:2] == pytest.approx([1, -1])
    assert math.isnan(found[2])
