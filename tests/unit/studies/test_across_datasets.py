"""Several data sets: interactions, the order of arms, one arm for all against one tuned on each."""

import math
from collections.abc import Mapping

import pytest

from tests.study_tables import generated
from udt_cluster.studies import Arm, Design, Findings, ScoreTable, analyze

ARMS = ("A", "B", "C", "none")


def findings(
    effects: Mapping[str, Mapping[str, float]], *, folds: int = 3, groups: int = 40, **options: object
) -> Findings:
    rows = []
    for number, (dataset, of_arms) in enumerate(effects.items()):
        rows += generated(of_arms, dataset=dataset, folds=folds, groups=groups, seed=number, spread=0.01)
    settings: dict[str, object] = {"name": "s", "question": "?", "reference": "none", **options}
    arms = tuple(Arm(name=name) for name in ARMS)
    return analyze(ScoreTable(tuple(rows)), Design(arms=arms, **settings))  # type: ignore[arg-type]


SAME = dict(zip(ARMS, (0.04, 0.02, 0.01, 0.0), strict=True))
OTHER = dict(zip(ARMS, (-0.03, 0.02, 0.04, 0.0), strict=True))


@pytest.fixture(scope="module")
def differing() -> Findings:
    return findings({"GlaS": SAME, "ISIC": OTHER, "Synapse": SAME})


def test_an_effect_that_differs_is_an_interaction_and_others_are_not(differing: Findings) -> None:
    found = {(one.name[0], one.first, one.second): one for one in differing.interactions}
    assert len(found) == 9
    assert found["A", "GlaS", "ISIC"].verdict == "depends on the data set"
    assert found["A", "GlaS", "ISIC"].difference == pytest.approx(0.07, abs=0.01)
    assert found["A", "GlaS", "Synapse"].verdict == "no dependence shown"
    assert found["B", "GlaS", "ISIC"].verdict == "no dependence shown"
    assert {one.tests for one in differing.interactions} == {9}
    assert differing.conclusion[0].startswith("The answer depends on the data set.")


def test_the_family_of_corrected_tests_spans_the_data_sets(differing: Findings) -> None:
    assert {one.tests for one in differing.of()} == {9}


def test_orders_of_arms_are_correlated(differing: Findings) -> None:
    by_pair = {(one.first, one.second): one for one in differing.orders}
    assert by_pair["GlaS", "Synapse"].spearman == pytest.approx(1)
    assert by_pair["GlaS", "ISIC"].spearman < 0
    assert by_pair["GlaS", "ISIC"].low <= by_pair["GlaS", "ISIC"].spearman <= by_pair["GlaS", "ISIC"].high


def test_tuning_pays_where_the_best_arm_is_another(differing: Findings) -> None:
    tuned = {one.dataset: one for one in differing.of("tuned")}
    assert tuned["ISIC"].verdict == "better"
    assert tuned["ISIC"].difference > 0.01
    assert not math.isnan(tuned["ISIC"].retraining_p), "the luck of trainings counts here too"
    assert {choice.tuned for choice in differing.choices if choice.dataset == "ISIC"} == {"C"}
    assert {choice.tuned for choice in differing.choices if choice.dataset == "GlaS"} == {"A"}
    assert {choice.part for choice in differing.choices if choice.dataset == "GlaS"} == {"fold 0", "fold 1", "fold 2"}
    assert tuned["ISIC"].groups == 40, "every patient is scored by a choice made without its fold"


def test_tuning_on_noise_gains_nothing() -> None:
    """With equal arms the best of other folds is no better here: a choice on the same cases would seem to gain."""
    same = dict.fromkeys(ARMS, 0.0)
    for one in findings({"GlaS": same, "ISIC": same}).of("tuned"):
        assert one.verdict == "no difference shown"
        assert abs(one.difference) < 0.01


def test_one_fold_is_tuned_on_the_other_half_of_its_patients() -> None:
    found = findings({"GlaS": SAME, "ISIC": OTHER}, folds=1)
    assert {choice.part for choice in found.choices} == {"half 0", "half 1"}
    assert all(one.groups == 40 for one in found.of("tuned"))


def test_without_differences_the_dependence_is_not_shown() -> None:
    found = findings({"GlaS": SAME, "ISIC": SAME})
    assert "That the answer depends on the data set is not shown (3 double differences)." in found.conclusion
    assert found.conclusion[0].startswith("GlaS: A is better than none")
    assert set(found.details) == {"GlaS", "ISIC"}


def test_a_data_set_without_an_arm_is_compared_as_far_as_it_goes() -> None:
    found = findings({"GlaS": SAME, "ISIC": {name: OTHER[name] for name in ("A", "none")}})
    known = {one.name[0]: one for one in found.interactions}
    assert known["A"].verdict == "depends on the data set"
    assert known["B"].verdict == "too few cases"
    (order,) = found.orders
    assert order.arms == 2
    assert math.isnan(order.spearman), "two arms are always in one order or the other"
    assert {choice.tuned for choice in found.choices} <= {"A", "none"}


def test_small_data_sets_have_too_few_cases() -> None:
    found = findings({"GlaS": SAME, "ISIC": OTHER}, groups=5)
    assert {one.verdict for one in found.interactions} == {"too few cases"}


def test_one_data_set_has_nothing_between_data_sets() -> None:
    found = findings({"GlaS": SAME})
    assert (found.interactions, found.orders, found.choices) == ((), (), ())
    assert found.details == {}
