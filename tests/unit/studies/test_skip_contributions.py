"""What each skip contributes, on scores whose skips have known effects."""

import math

import pytest

from tests.study_tables import generated, table
from udt_cluster.studies import Arm, Design, Findings, ScoreTable, SkipGap, all_subsets, analyze
from udt_cluster.studies.columns import shown_skips

GAINS = {1: 0.03, 2: 0.015, 3: 0.0, 4: -0.012}


def name(subset: tuple[int, ...]) -> str:
    return f"skips {'+'.join(map(str, subset))}" if subset else "no skips"


def design(subsets: list[tuple[int, ...]], **options: object) -> Design:
    arms = tuple(Arm(name=name(subset), skips=subset) for subset in subsets)
    settings: dict[str, object] = {"name": "skips", "question": "Which skips help?", "reference": arms[-1].name}
    return Design(arms=arms, **{**settings, **options})  # type: ignore[arg-type]


def effects(subsets: list[tuple[int, ...]]) -> dict[str, float]:
    return {name(subset): sum(GAINS[level] for level in subset) for subset in subsets}


@pytest.fixture(scope="module")
def whole() -> Findings:
    return analyze(table(effects(all_subsets()), groups=60, folds=2), design(all_subsets()))


@pytest.mark.parametrize("kind", ["left out", "alone", "shapley"])
def test_each_way_of_measuring_finds_the_contribution(whole: Findings, kind: str) -> None:
    found = whole.of(kind)  # type: ignore[arg-type]
    assert [one.level for one in found] == [1, 2, 3, 4]
    for one in found:
        assert one.difference == pytest.approx(GAINS[one.level], abs=0.008)
        assert one.low <= one.difference <= one.high
        assert one.tests == 4
    assert found[0].verdict == "better"
    assert found[2].verdict == "no difference shown"


def test_shapley_values_add_up_to_all_against_none(whole: Findings) -> None:
    all_against_none = next(one for one in whole.of() if one.name.startswith("no skips against"))
    assert sum(one.difference for one in whole.of("shapley")) == pytest.approx(-all_against_none.difference)


def test_shapley_is_surer_than_a_single_comparison(whole: Findings) -> None:
    """It averages eight pairs of networks."""
    widths = {kind: [one.high - one.low for one in whole.of(kind)] for kind in ("shapley", "alone")}  # type: ignore[arg-type]
    assert max(widths["shapley"]) < min(widths["alone"])


def test_the_conclusion_names_what_helps_what_hurts_and_what_is_not_known(whole: Findings) -> None:
    text = " ".join(whole.conclusion)
    assert "Skips 1 (+0.0" in text
    assert "help." in text
    assert "Skip 4 (−0.0" in text
    assert "hurts." in text
    assert "For skip 3 no contribution is shown." in text


def test_the_picture_shows_the_best_measure_that_the_arms_allow(whole: Findings) -> None:
    assert {one.kind for one in shown_skips(whole.comparisons, whole.design, "GlaS")} == {"shapley"}
    some = [(), (1,), (2,), (1, 2, 3, 4), (2, 3, 4)]
    found = analyze(table(effects(some)), design(some, reference=name((1, 2, 3, 4))))
    shown = shown_skips(found.comparisons, found.design, "GlaS")
    assert [(one.kind, one.level) for one in shown] == [("left out", 1)]
    assert [one.level for one in found.of("alone")] == [1, 2]


def test_a_study_that_lacks_a_subset_has_no_shapley_value_but_the_rest() -> None:
    rows = [one for one in generated(effects(all_subsets()), groups=12, folds=2) if one.arm != name((2, 3))]
    found = analyze(ScoreTable(tuple(rows)), design(all_subsets()))
    assert {one.verdict for one in found.of("shapley")} == {"no data"}
    assert all(one.groups == 12 for one in found.of("left out"))
    assert {one.kind for one in shown_skips(found.comparisons, found.design, "GlaS")} == {"left out"}


def test_too_few_patients_have_no_contributions_in_the_conclusion() -> None:
    found = analyze(table(effects(all_subsets()), groups=5, folds=1), design(all_subsets()))
    assert not any(sentence.startswith(("Skip", "For skip")) for sentence in found.conclusion)


def test_gaps_between_encoder_and_decoder_are_set_against_the_contributions() -> None:
    gaps = tuple(SkipGap(dataset="GlaS", level=level, value=0.2 * level) for level in (1, 2, 3, 4))
    asked = design(all_subsets(), gaps=gaps)
    found = analyze(table(effects(all_subsets()), groups=30, folds=2), asked)
    (one,) = found.scatters
    assert [point.label for point in one.points] == ["skip 1", "skip 2", "skip 3", "skip 4"]
    assert one.spearman == pytest.approx(-1)
    assert math.isnan(one.low), "four points have no interval"
    assert one.p == pytest.approx(2 / 24)
