"""Whether an effect differs between two data sets."""

import math

import numpy as np
import pytest
from scipy import stats

from udt_cluster.statistics import Noise, interaction


def test_an_effect_that_differs_is_found_with_its_interval() -> None:
    generator = np.random.default_rng(0)
    found = interaction(generator.normal(0.05, 0.03, 30), generator.normal(0.0, 0.06, 50), seed=0)
    assert found.difference == pytest.approx(0.05, abs=0.02)
    assert found.p < 0.01
    assert found.interval.excludes(0.0)
    assert found.groups == (30, 50)


def test_p_is_near_welchs_t() -> None:
    generator = np.random.default_rng(1)
    one, other = generator.normal(0.4, 1, 25), generator.normal(0, 1, 40)
    assert interaction(one, other, seed=0).p == pytest.approx(
        stats.ttest_ind(one, other, equal_var=False).pvalue, abs=0.02
    )


def test_data_sets_of_different_spread_and_size_do_not_make_false_findings() -> None:
    generator = np.random.default_rng(2)
    found = [
        interaction(generator.normal(0, 3, 10), generator.normal(0, 1, 60), seed=at, resamples=199).p <= 0.05
        for at in range(200)
    ]
    assert np.mean(found) <= 0.09


def test_noise_of_seeds_on_either_side_counts() -> None:
    generator = np.random.default_rng(3)
    one, other = generator.normal(0.03, 0.02, 30), generator.normal(0, 0.02, 30)
    alone = interaction(one, other, seed=0)
    noisy = interaction(one, other, seed=0, noises=(Noise(variance=0.03**2, df=3), None))
    assert alone.p < 0.001
    assert noisy.p > 0.2
    assert noisy.interval.low < 0 < alone.interval.low


def test_too_few_groups_have_no_test() -> None:
    found = interaction([0.1], [0.2, 0.3], seed=0)
    assert found.difference == pytest.approx(-0.15)
    assert math.isnan(found.p)
    assert not found.interval.is_known
    assert math.isnan(interaction([], [0.2, 0.3], seed=0).difference)


def test_effects_that_do_not_vary() -> None:
    assert interaction([0.0] * 8, [0.0] * 8, seed=0).p == 1.0
    assert math.isnan(interaction([0.1] * 8, [0.0] * 8, seed=0).p)
