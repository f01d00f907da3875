"""Studies of the same arms on several data sets as one."""

import pytest

from tests.study_tables import table
from udt_cluster.errors import DataError
from udt_cluster.studies import Arm, Contrast, Design, Measurement, ScoreTable, SkipGap, analyze, joined

EFFECTS = {"A": 0.03, "B": 0.0}


def study(dataset: str, **options: object) -> tuple[Design, ScoreTable]:
    arms = (Arm(name="A", settings={"model.num_heads": 4}, gmac=1.0), Arm(name="B"))
    settings: dict[str, object] = {"name": dataset, "question": "Is it?", "arms": arms, "reference": "B", **options}
    return Design(**settings), table(EFFECTS, dataset=dataset, groups=12)  # type: ignore[arg-type]


def test_two_studies_answer_together_what_neither_can_alone() -> None:
    first = study("GlaS", metrics=("dice", "hd95"), measurements=(Measurement(name="m", arm="A", value=1.0),), folds=5)
    second = study("ISIC", gaps=(SkipGap(dataset="ISIC", level=1, value=0.5),), folds=5, seeds=(0,))
    design, scores = joined([first, second], name="both", question="Does it depend?")
    assert design.datasets == ("GlaS", "ISIC")
    assert design.metrics == ("dice",)
    assert design.measurements[0].dataset == "GlaS"
    assert (len(design.gaps), design.folds, design.seeds) == (1, 5, ())
    findings = analyze(scores, design)
    assert len(findings.interactions) == 1
    assert findings.missing.is_complete
    assert {one.tests for one in findings.of()} == {2}


def test_arms_of_one_study_only_are_kept_and_are_missing_elsewhere() -> None:
    third = (Arm(name="A", settings={"model.num_heads": 4}), Arm(name="C"), Arm(name="B"))
    design, scores = joined([study("GlaS"), study("ISIC", arms=third)], name="both", question="?")
    assert [arm.name for arm in design.arms] == ["A", "B", "C"]
    assert "GlaS: C has no scores yet" in analyze(scores, design).missing.notes


def test_named_comparisons_are_put_together() -> None:
    chosen = (Contrast(name="mine", weights={"A": 2.0, "B": -2.0}),)
    design, _ = joined([study("GlaS", comparisons=chosen), study("ISIC")], name="both", question="?")
    assert [one.name for one in design.contrasts] == ["mine", "A against B"]


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (study("GlaS"), "the data set GlaS is in two of them"),
        (study("ISIC", reference="A"), "their references differ: B, A"),
        (study("ISIC", arms=(Arm(name="A"), Arm(name="B"))), "arm 'A' has other settings"),
    ],
)
def test_studies_that_do_not_fit_are_refused(second: tuple[Design, ScoreTable], says: str) -> None:
    with pytest.raises(DataError) as caught:
        joined([study("GlaS"), second], name="both", question="?")
    assert says in str(caught.value)
