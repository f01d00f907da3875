"""Holm's correction."""

import math

import numpy as np
import pytest

from udt_cluster.statistics import holm


def test_by_hand_in_the_order_given() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_it_never_falls_and_never_exceeds_one() -> None:
    assert holm([0.5, 0.6, 0.9]) == [1.0, 1.0, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


def test_what_could_not_be_tested_does_not_count() -> None:
    corrected = holm([0.01, math.nan, 0.02])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.02)


def test_the_chance_of_any_false_finding_stays() -> None:
    generator = np.random.default_rng(0)
    any_found = [min(holm(generator.uniform(size=15).tolist())) <= 0.05 for _ in range(2000)]
    assert 0.03 < np.mean(any_found) < 0.065
