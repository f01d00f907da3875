"""What a network trained again would change, told from seeds or folds of all arms."""

import math

import numpy as np
import pytest

from udt_cluster.statistics import ALPHA, paired, training_noise


def simulated(
    generator: np.random.Generator, *, groups: int, arms: int, folds: int, seeds: int, noise: float, rest: float = 0.02
) -> tuple[np.ndarray, list[int]]:
    """(groups, arms, seeds): patients, what a fold is like for all arms, trainings, and the rest."""
    labels = np.arange(groups) % folds
    table = (
        generator.normal(0, 0.05, groups)[:, None, None]
        + generator.normal(0, 0.05, folds)[labels][:, None, None]
        + generator.normal(0, noise, (folds, arms, seeds))[labels]
        + generator.normal(0, rest, (groups, arms, 1))
    )
    return table, labels.tolist()


@pytest.mark.parametrize(("seeds", "source", "df"), [(1, "folds", 3 * 4), (3, "seeds", 3 * 5 * 2)])
def test_known_noise_is_found_again_whatever_else_arms_share(seeds: int, source: str, df: int) -> None:
    generator = np.random.default_rng(0)
    found = [
        training_noise(*simulated(generator, groups=50, arms=4, folds=5, seeds=seeds, noise=0.02)) for _ in range(200)
    ]
    assert {(one.source, one.df) for one in found if one is not None} == {(source, df)}
    assert np.mean([one.variance for one in found if one is not None]) == pytest.approx(0.02**2, rel=0.08)


def test_its_part_in_a_mean_is_how_means_of_retrained_networks_vary() -> None:
    generator = np.random.default_rng(1)
    spread, expected = [], []
    for _ in range(400):
        table, folds = simulated(generator, groups=40, arms=3, folds=4, seeds=2, noise=0.02, rest=0.0)
        found = training_noise(table, folds)
        assert found is not None
        difference = table[:, 0] - table[:, 1]
        spread.append(difference.mean())
        expected.append(found.of_mean((1.0, -1.0), difference, folds).variance)
    assert np.mean(expected) == pytest.approx(np.var(spread), rel=0.15)
    assert np.mean(expected) == pytest.approx(2 * 0.02**2 / 8, rel=0.05)


def test_for_two_arms_it_is_that_of_their_difference() -> None:
    """By hand: one patient in each of two folds with two seeds; differences 1, 3 and 2, 2."""
    table = np.asarray([[[1.0, 3.0], [0.0, 0.0]], [[2.0, 2.0], [0.0, 0.0]]])
    found = training_noise(table, [0, 1])
    assert found is not None
    assert (found.source, found.df) == ("seeds", 2)
    # the seeds' mean square of the differences is ((-1)^2 + 1^2 + 0 + 0) / 2 = 1; each arm has a half of it
    assert found.variance == pytest.approx(0.5)
    noise = found.of_mean((1.0, -1.0), table[:, 0] - table[:, 1], [0, 1])
    assert noise.variance == pytest.approx(1 / 4), "1 over two folds of two seeds"


def test_a_fold_that_lacks_a_seed_counts_with_those_it_has() -> None:
    table, folds = simulated(np.random.default_rng(2), groups=20, arms=2, folds=2, seeds=2, noise=0.1)
    lacking = table.copy()
    lacking[np.asarray(folds) == 1, :, 1] = math.nan
    whole, part = training_noise(table, folds), training_noise(lacking, folds)
    assert whole is not None
    assert part is not None
    assert (whole.df, part.df) == (2, 1)
    shares = [
        found.of_mean((1.0,), of[:, 0], folds).variance / found.variance
        for found, of in ((whole, table), (part, lacking))
    ]
    assert shares == pytest.approx([0.25 / 2 + 0.25 / 2, 0.25 / 2 + 0.25 / 1])


def test_an_arm_that_has_hardly_begun_does_not_take_part() -> None:
    table, folds = simulated(np.random.default_rng(3), groups=40, arms=4, folds=4, seeds=1, noise=0.02)
    begun = table.copy()
    begun[8:, 3] = math.nan
    found, expected = training_noise(begun, folds), training_noise(table[:, :3], folds)
    assert found == expected
    assert found is not None
    assert found.df == 2 * 3


@pytest.mark.parametrize(
    ("shape", "folds"),
    [((12, 1, 1), 3), ((12, 3, 1), 1), ((12, 3, 1), 12), ((1, 3, 1), 1), ((0, 3, 1), 1), ((12, 3, 0), 3)],
)
def test_where_nothing_tells_it_from_patients_there_is_none(shape: tuple[int, ...], folds: int) -> None:
    table = np.random.default_rng(0).normal(size=shape)
    assert training_noise(table, [at % folds for at in range(shape[0])]) is None


def test_scores_that_are_nowhere_tell_nothing() -> None:
    assert training_noise(np.full((12, 2, 2), math.nan), [0, 1] * 6) is None


@pytest.mark.parametrize(("arms", "folds", "seeds", "most"), [(2, 2, 3, 0.08), (2, 5, 1, 0.12), (6, 2, 1, 0.09)])
def test_it_removes_most_of_the_false_findings_that_trainings_make(
    arms: int, folds: int, seeds: int, most: float
) -> None:
    """Arms that do not differ: tests of patients alone mislead, tests that know of trainings hardly do."""
    generator = np.random.default_rng(4)
    plain, guarded = [], []
    for at in range(200):
        table, labels = simulated(generator, groups=60, arms=arms, folds=folds, seeds=seeds, noise=0.015)
        difference = table[:, 0] - table[:, 1]
        found = training_noise(table, labels)
        assert found is not None
        noise = found.of_mean((1.0, -1.0), difference, labels)
        shown = paired(difference.mean(axis=1), seed=at, noise=noise, resamples=499)
        plain.append(shown.sign_flip_p <= ALPHA)
        guarded.append(shown.p <= ALPHA)
    assert np.mean(plain) > 2 * most
    assert np.mean(guarded) <= most
