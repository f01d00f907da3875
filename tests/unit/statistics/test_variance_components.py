"""Seed noise and fold noise apart, from tables whose noise is known."""

import math

import numpy as np
import pytest

from udt_cluster.statistics import NO_COMPONENTS, variance_components


def simulated(
    generator: np.random.Generator, *, groups: int, folds: int, seeds: int, sds: dict[str, float]
) -> tuple[np.ndarray, list[int]]:
    labels = np.arange(groups) % folds
    table = (
        generator.normal(0, sds["group"], groups)[:, None]
        + generator.normal(0, sds["fold"], folds)[labels][:, None]
        + generator.normal(0, sds["seed"], (folds, seeds))[labels]
        + generator.normal(0, sds["rest"], (groups, seeds))
    )
    return table, labels.tolist()


def test_known_noise_is_found_again() -> None:
    sds = {"group": 0.05, "fold": 0.03, "seed": 0.02, "rest": 0.04}
    generator = np.random.default_rng(0)
    found = [
        variance_components(*simulated(generator, groups=50, folds=5, seeds=3, sds=sds)) for _ in range(300)
    ]  # fmt: skip
    assert math.sqrt(np.mean([one.seed_sd**2 for one in found])) == pytest.approx(0.02, rel=0.07)
    assert math.sqrt(np.mean([one.group_sd**2 for one in found])) == pytest.approx(0.05, rel=0.05)
    assert math.sqrt(np.mean([one.rest_sd**2 for one in found])) == pytest.approx(0.04, rel=0.03)
    assert math.sqrt(np.mean([one.fold_sd**2 for one in found])) == pytest.approx(0.03, rel=0.15)


def test_one_seed_has_no_seed_noise_and_one_fold_no_fold_noise() -> None:
    table = np.random.default_rng(0).normal(size=(12, 1))
    one_seed = variance_components(table, [0, 1] * 6)
    assert math.isnan(one_seed.seed_sd)
    assert not math.isnan(one_seed.fold_sd)
    one_fold = variance_components(np.random.default_rng(0).normal(size=(12, 2)), [0] * 12)
    assert math.isnan(one_fold.fold_sd)
    assert not math.isnan(one_fold.seed_sd)


def test_seeds_that_no_patient_has_all_of_are_averaged() -> None:
    table = np.random.default_rng(0).normal(size=(12, 2))
    table[::2, 0] = table[1::2, 1] = math.nan
    found = variance_components(table, [0, 1, 2] * 4)
    assert math.isnan(found.seed_sd)
    assert not math.isnan(found.fold_sd)


@pytest.mark.parametrize("table", [np.empty((0, 0)), np.full((3, 2), math.nan), np.ones((1, 2))])
def test_nothing_to_estimate_from(table: np.ndarray) -> None:
    assert variance_components(table, [0] * len(table)) == NO_COMPONENTS or math.isnan(
        variance_components(table, [0] * len(table)).seed_sd
    )
