"""What a study asks."""

import pytest

from udt_cluster.errors import UsageError
from udt_cluster.studies import Arm, Contrast, Design, all_subsets, metric_named
from udt_cluster.studies.skips import skip_contrasts

ARMS = (Arm(name="a"), Arm(name="b"), Arm(name="c"))


def test_every_arm_is_compared_with_the_reference_by_default() -> None:
    design = Design(name="s", question="?", arms=ARMS, reference="b")
    assert [one.pair for one in design.contrasts] == [("a", "b"), ("c", "b")]
    assert design.contrasts[0].name == "a against b"


def test_named_comparisons_replace_them() -> None:
    chosen = (Contrast(name="half", weights={"a": 1, "b": -0.5, "c": -0.5}), Contrast.between("c", "a"))
    design = Design(name="s", question="?", arms=ARMS, reference="b", comparisons=chosen)
    assert design.contrasts == chosen
    assert chosen[0].pair is None
    assert chosen[1].pair == ("c", "a")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": ARMS[:1]}, "has 1 arm; a study compares at least two"),
        ({"arms": (*ARMS, Arm(name="a"))}, "arm 'a' is there twice"),
        ({"reference": "z"}, "'z' is no arm; the arms are a, b, c"),
        ({"metrics": ()}, "no metric"),
        ({"comparisons": (Contrast.between("a", "z"),)}, "z is no arm"),
        ({"comparisons": (Contrast(name="n", weights={"a": 1.0}),)}, "add up to 0"),
        ({"comparisons": (Contrast(name="n", weights={"a": 0.0, "b": 0.0}),)}, "differ from 0"),
        ({"comparisons": (Contrast.between("a", "b"), Contrast.between("a", "b"))}, "is there twice"),
    ],
)
def test_a_design_that_cannot_be_analysed_says_why(options: dict[str, object], says: str) -> None:
    settings: dict[str, object] = {"name": "s", "question": "?", "arms": ARMS, "reference": "a", **options}
    with pytest.raises(UsageError) as caught:
        Design(**settings)  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "label", "sign", "is_distance"),
    [
        ("dice", "Dice", 1, False),
        ("hd95", "HD95", -1, True),
        ("nsd_small", "NSD small", 1, False),
        ("false_negative_rate_large", "False-negative rate large", -1, False),
        ("something", "something", 1, False),
        ("dicey", "dicey", 1, False),
    ],
)
def test_metrics_are_known_by_name(name: str, label: str, sign: int, is_distance: bool) -> None:
    found = metric_named(name)
    assert (found.name, found.label, found.sign, found.is_distance) == (name, label, sign, is_distance)


def skip_design(subsets: list[tuple[int, ...]]) -> Design:
    arms = tuple(Arm(name=str(subset), skips=subset) for subset in subsets)
    return Design(name="s", question="?", arms=arms, reference=arms[0].name)


def test_all_sixteen_subsets_allow_every_kind_of_contribution() -> None:
    found = skip_contrasts(skip_design(all_subsets()))
    assert [one.kind for one in found] == ["left out"] * 4 + ["alone"] * 4 + ["shapley"] * 4
    left_out, alone = found[1], found[5]
    assert left_out.contrast.pair == ("(1, 2, 3, 4)", "(1, 3, 4)")
    assert alone.contrast.pair == ("(2,)", "()")


def test_fewer_arms_allow_what_they_allow() -> None:
    assert skip_contrasts(skip_design([(), (1, 2, 3, 4), (1, 2, 3)]))[0].level == 4
    kinds = {one.kind for one in skip_contrasts(skip_design(all_subsets()[:-1]))}
    assert kinds == {"alone"}
    assert skip_contrasts(Design(name="s", question="?", arms=ARMS, reference="a")) == []


def test_shapley_weights_are_those_of_the_definition() -> None:
    """Worth of a set = 1 if it holds 1 and 2, else 0: the two share it, the others get nothing (by symmetry)."""
    worth = {str(subset): float({1, 2} <= set(subset)) for subset in all_subsets()}
    values = {
        one.level: sum(weight * worth[arm] for arm, weight in one.contrast.weights.items())
        for one in skip_contrasts(skip_design(all_subsets()))
        if one.kind == "shapley"
    }
    assert values == {1: pytest.approx(0.5), 2: pytest.approx(0.5), 3: pytest.approx(0), 4: pytest.approx(0)}


def kind_design(reference: str, arms: dict[str, tuple[str, ...]]) -> Design:
    made = tuple(
        Arm(
            name=name,
            skips=tuple(level for level, kind in enumerate(kinds, start=1) if kind not in ("none", "zero")),
            skip_kinds=kinds,
        )
        for name, kinds in arms.items()
    )
    return Design(name="s", question="?", arms=made, reference=reference)


def test_only_skips_of_the_references_kind_tell_what_a_level_contributes() -> None:
    arms = {
        "plain": ("identity",) * 4,
        "dra": ("dra_channel",) * 4,
        "dra but 1": ("none", "dra_channel", "dra_channel", "dra_channel"),
        "plain but 2": ("identity", "none", "identity", "identity"),
        "dra but 3, zeroed": ("dra_channel", "dra_channel", "zero", "dra_channel"),
        "nothing": ("none",) * 4,
        "dra 4": ("none", "none", "none", "dra_channel"),
    }
    found = {(one.kind, one.level): one.contrast.pair for one in skip_contrasts(kind_design("dra", arms))}
    assert found == {("left out", 1): ("dra", "dra but 1"), ("alone", 4): ("dra 4", "nothing")}
    plain = {(one.kind, one.level): one.contrast.pair for one in skip_contrasts(kind_design("plain", arms))}
    assert plain == {("left out", 2): ("plain", "plain but 2")}


def test_a_reference_without_skips_leaves_the_kind_to_most_arms() -> None:
    arms = {
        "nothing": ("none",) * 4,
        "plain 1": ("identity", "none", "none", "none"),
        "dra 1": ("dra_channel", "none", "none", "none"),
        "dra 1 too": ("dra_channel", "none", "none", "dra_channel"),
    }
    found = [one.contrast.pair for one in skip_contrasts(kind_design("nothing", arms))]
    assert found == [("dra 1", "nothing")]
