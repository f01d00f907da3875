"""From generated scores to findings: effects that are there are found, others are not."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.study_tables import generated, table
from udt_cluster.studies import Arm, Contrast, Design, Findings, Measurement, ScoreTable, all_subsets, analyze


def design(*names: str, **options: object) -> Design:
    settings: dict[str, object] = {"name": "s", "question": "Is it?", "reference": names[-1], **options}
    return Design(arms=tuple(Arm(name=name) for name in names), **settings)  # type: ignore[arg-type]


def test_a_real_effect_is_found_with_the_right_sign_for_each_metric() -> None:
    scores = table({"UDTransNet": 0.03, "U-Net": 0.0}, seeds=2)
    findings = analyze(scores, design("UDTransNet", "U-Net", metrics=("dice", "hd95")))
    (dice,) = findings.of()
    (distance,) = findings.of(metric="hd95")
    assert dice.verdict == distance.verdict == "better"
    assert dice.difference == pytest.approx(0.03, abs=0.01)
    assert distance.difference == pytest.approx(-1.2, abs=0.4)
    assert dice.wins == distance.wins > 30
    assert dice.low < dice.difference < dice.high
    assert "UDTransNet is better than U-Net: Dice +0.0" in findings.conclusion[0]
    assert "40 cases" in findings.conclusion[0]


def test_numbers_are_those_of_the_patients_differences() -> None:
    rows = generated({"A": 0.01, "B": 0.0}, groups=12, cases_per_group=3)
    by_group: dict[str, dict[str, list[float]]] = {"A": {}, "B": {}}
    for one in rows:
        by_group[one.arm].setdefault(one.group, []).append(one.values["dice"])
    differences = [np.mean(by_group["A"][group]) - np.mean(by_group["B"][group]) for group in by_group["A"]]
    (found,) = analyze(ScoreTable(tuple(rows)), design("A", "B")).of()
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert found.cohens_dz == pytest.approx(np.mean(differences) / np.std(differences, ddof=1))
    assert (found.cases, found.groups) == (36, 12)
    worst = found.regressions[0]
    assert worst.difference == min(one.difference for one in found.regressions) < 0
    assert worst.group == f"patient {worst.case[5:8]}"


def test_equal_arms_are_called_different_in_few_studies() -> None:
    """Three arms that do not differ, 40 studies: about one in twenty may err, each with two comparisons."""
    asked = design("A", "B", "C")
    wrong = 0
    for seed in range(40):
        scores = table({"A": 0.0, "B": 0.0, "C": 0.0}, groups=16, folds=2, seed=seed)
        findings = analyze(scores, asked)
        wrong += not findings.conclusion[0].startswith("No difference shown in any of 2 comparisons")
    assert wrong <= 4


@pytest.mark.slow
def test_equal_arms_trained_once_per_fold_are_called_different_in_few_studies() -> None:
    """Noise of trainings as large as a fifth of the patients' spread, judged from five folds alone."""
    asked = design("A", "B")
    wrong = 0
    for seed in range(200):
        scores = table({"A": 0.0, "B": 0.0}, groups=40, folds=5, seed_noise=0.007, spread=0.025, seed=seed)
        wrong += not analyze(scores, asked).conclusion[0].startswith("No difference shown")
    assert wrong <= 18


@pytest.mark.slow
def test_equal_arms_trained_with_noise_of_seeds_are_called_different_in_few_studies() -> None:
    asked = design("A", "B", "C")
    wrong = 0
    for seed in range(200):
        scores = table({"A": 0.0, "B": 0.0, "C": 0.0}, groups=30, folds=2, seeds=3, seed_noise=0.01, seed=seed)
        wrong += not analyze(scores, asked).conclusion[0].startswith("No difference shown")
    assert wrong <= 16


def test_five_patients_are_too_few_whatever_they_show() -> None:
    found = analyze(table({"A": 0.2, "B": 0.0}, groups=5), design("A", "B"))
    (one,) = found.of()
    assert one.verdict == "too few cases"
    assert one.p == 0.0625
    assert found.conclusion[0].startswith("Too few cases: with fewer than 6 patients")


def test_so_many_comparisons_that_no_p_can_be_small_enough_are_too_few_cases() -> None:
    names = [f"arm {number}" for number in range(6)]
    found = analyze(table(dict.fromkeys(names, 0.0) | {"arm 0": 0.2}, groups=6), design(*names))
    assert {one.verdict for one in found.of()} == {"too few cases"}
    assert "with 6 patients and 5 comparisons no corrected p can come below 0.05" in found.conclusion[0]


def test_arms_have_means_ranks_and_noise() -> None:
    findings = analyze(table({"A": 0.05, "B": 0.0, "C": -0.05}, seeds=2, seed_noise=0.01), design("A", "B", "C"))
    a, b, c = findings.arms_of("GlaS")
    assert [one.rank for one in (a, b, c)] == [1, 2, 3]
    assert (a.rank_low, a.rank_high) == (1, 1)
    assert a.low < a.mean < a.high
    assert 0 < a.seed_sd < 0.05
    assert a.rank_groups == a.groups == 40


def test_means_of_dice_stay_within_one() -> None:
    found = analyze(table({"A": 0.199, "B": 0.199}, groups=8, spread=0.1), design("A", "B"))
    assert all(one.high <= 1 for one in found.arms)


def test_several_classes_are_tested_by_themselves() -> None:
    found = analyze(table({"A": 0.03, "B": 0.0}, classes=("spleen", "liver", "aorta")), design("A", "B"))
    assert [one.class_name for one in found.comparisons] == ["", "spleen", "liver", "aorta"]
    assert found.of()[0].tests == 1
    assert found.of(class_name="liver")[0].tests == 3
    assert found.facts("GlaS").classes == ("spleen", "liver", "aorta")


def test_named_contrasts_are_tested() -> None:
    mean = Contrast(name="the mean of A and B against C", weights={"A": 0.5, "B": 0.5, "C": -1.0})
    found = analyze(table({"A": 0.02, "B": 0.04, "C": 0.0}), design("A", "B", "C", comparisons=(mean,)))
    (one,) = found.of()
    assert one.difference == pytest.approx(0.03, abs=0.01)
    assert found.conclusion[0].startswith("the mean of A and B against C: above zero")


def test_a_study_without_a_whole_arm_says_so_and_answers_the_rest() -> None:
    rows = [one for one in generated({"A": 0.03, "B": 0.0}) if not (one.arm == "A" and one.fold > 1)]
    findings = analyze(ScoreTable(tuple(rows)), design("A", "C", "B"))
    a, c = findings.of()
    assert (a.verdict, a.groups) == ("better", 16)
    assert (c.verdict, c.groups) == ("no data", 0)
    assert any(sentence.startswith("Incomplete: 7 of 15 trainings have scores") for sentence in findings.conclusion)


def test_a_study_without_scores_has_nothing_to_say() -> None:
    findings = analyze(ScoreTable(()), design("A", "B", datasets=("GlaS",), folds=5))
    assert findings.conclusion[0] == "Nothing can be said yet: no training has scores."
    one_sided = analyze(table({"A": 0.0}), design("A", "B"))
    assert one_sided.conclusion[0].startswith("Nothing can be said yet: no comparison")


def test_one_seed_is_a_caveat_and_so_are_undefined_scores() -> None:
    rows = list(generated({"A": 0.0, "B": 0.0}))
    first = rows[0]
    rows[0] = type(first)(**{name: getattr(first, name) for name in first.__slots__} | {"values": {"dice": math.nan}})
    text = " ".join(analyze(ScoreTable(tuple(rows)), design("A", "B")).conclusion)
    assert "(one seed)" in text
    assert "1 undefined pair of scores is left out, 1 of them defined in one of the two arms" in text


def test_a_difference_that_retraining_could_make_is_not_shown() -> None:
    """The arms differ on these patients, but as much as two trainings of the same arm do."""
    for seed in range(20):
        scores = table({"A": 0.0, "B": 0.0}, groups=60, folds=1, seeds=2, seed_noise=0.03, spread=0.01, seed=seed)
        (one,) = analyze(scores, design("A", "B")).of()
        if one.sign_flip_p < 0.01:
            break
    assert one.retraining_p > 0.05
    assert one.verdict == "no difference shown"
    sentences = analyze(scores, design("A", "B")).conclusion
    assert "A against B: a retraining may change as much as the difference seen." in sentences


def test_small_differences_may_be_called_too_small_to_matter() -> None:
    findings = analyze(table({"A": 0.0, "B": 0.0}, groups=60, spread=0.01), design("A", "B", margin=0.02))
    assert findings.of()[0].within_margin
    assert "likely smaller than the 0.020 that would matter" in findings.conclusion[0]
    wide = analyze(table({"A": 0.0, "B": 0.0}, groups=8, spread=0.1), design("A", "B", margin=0.02))
    assert "This does not show that the arms are equal" in wide.conclusion[0]


def test_findings_become_json_and_come_back() -> None:
    names = [str(subset) for subset in all_subsets()]
    arms = tuple(Arm(name=str(one), skips=one, settings={"model.skips": list(one)}) for one in all_subsets())
    asked = Design(
        name="s", question="Which?", arms=arms, reference=names[-1], margin=0.01, scatters=(("gmac", "dice"),),
        measurements=(Measurement(name="time", arm=names[0], value=1.0),),
    )  # fmt: skip
    findings = analyze(table(dict.fromkeys(names, 0.0), groups=4, folds=1), asked)
    again = Findings.from_json(findings.to_json())
    assert again.to_json() == findings.to_json()
    assert again.design.arms[3].skips == (3,)
    assert math.isnan(again.arms[0].seed_sd)
    with pytest.raises(ValueError, match="not a record of Findings"):
        Findings.from_json("{}")


def test_analysis_is_reproducible() -> None:
    scores = table({"A": 0.01, "B": 0.0})
    assert analyze(scores, design("A", "B")).to_json() == analyze(scores, design("A", "B")).to_json()
