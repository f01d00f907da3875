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


def test_the_noise_of_a_mean_is_that_of_means_of_retrained_networks() -> None:
    sds = {"group": 0.0, "fold": 0.0, "seed": 0.02, "rest": 0.0}
    generator = np.random.default_rng(0)
    tables = [simulated(generator, groups=40, folds=4, seeds=2, sds=sds) for _ in range(400)]
    spread = np.var([table.mean() for table, _ in tables])
    estimated = np.mean([variance_components(*one).seed_noise.variance for one in tables])  # type: ignore[union-attr]
    assert estimated == pytest.approx(spread, rel=0.2)
    assert estimated == pytest.approx(0.02**2 / 8, rel=0.1)
    assert variance_components(*tables[0]).seed_noise.df == 4  # type: ignore[union-attr]


def test_one_seed_has_no_seed_noise_and_one_fold_no_fold_noise() -> None:
    table = np.random.default_rng(0).normal(size=(12, 1))
    one_seed = variance_components(table, [0, 1] * 6)
    assert one_seed.seed_noise is None
    assert math.isnan(one_seed.seed_sd)
    assert not math.isnan(one_seed.fold_sd)
    one_fold = variance_components(np.random.default_rng(0).normal(size=(12, 2)), [0] * 12)
    assert math.isnan(one_fold.fold_sd)
    assert one_fold.seed_noise is not None


def test_groups_without_all_seeds_are_left_out_of_the_estimate_but_count_in_the_mean() -> None:
    generator = np.random.default_rng(1)
    table, folds = simulated(
        generator, groups=20, folds=2, seeds=2, sds={"group": 1, "fold": 0, "seed": 1, "rest": 0.0}
    )
    lacking = table.copy()
    lacking[np.asarray(folds) == 1, 1] = math.nan
    whole, part = variance_components(table, folds), variance_components(lacking, folds)
    assert whole.seed_noise is not None
    assert part.seed_noise is not None
    # weights: two folds of half the groups each, 2 seeds and 1 seed
    assert part.seed_noise.variance == pytest.approx(part.seed_sd**2 * (0.25 / 2 + 0.25 / 1))
    assert whole.seed_noise.variance == pytest.approx(whole.seed_sd**2 * (0.25 / 2 + 0.25 / 2))


@pytest.mark.parametrize("table", [np.empty((0, 0)), np.full((3, 2), math.nan), np.ones((1, 2))])
def test_nothing_to_estimate_from(table: np.ndarray) -> None:
    assert variance_components(table, [0] * len(table)) == NO_COMPONENTS or math.isnan(
        variance_components(table, [0] * len(table)).seed_sd
    )
