"""Importance finds what decides, says when it cannot, and does not read an order into noise."""

import random

import pytest

from tests.unit.search.report.sweeps import sweep_of, trial
from udt_cluster.search.report import Space, Sweep
from udt_cluster.search.report.importance import FEWEST_TRIALS, of_first_rung, of_scores

SPACES = (
    Space(field="model.a", kind="choice", values=("x", "y", "z")),
    Space(field="train.b", kind="log", values=(1e-4, 1e-2)),
    Space(field="train.c", kind="int", values=(1, 8)),
)


def deciding(count: int, *, weight: float = 1.0, seed: int = 3) -> Sweep:
    """The choice decides; the rest is noise of a tenth of that."""
    dice = random.Random(seed)
    trials = []
    for number in range(count):
        settings = {"model.a": dice.choice("xyz"), "train.b": 10 ** dice.uniform(-4, -2), "train.c": dice.randint(1, 8)}
        value = weight * ("xyz".index(settings["model.a"])) + dice.gauss(0, 0.1)
        trials.append(trial(number, (value,), settings=settings))
    return sweep_of(*trials, spaces=SPACES)


def test_what_decides_comes_first_with_its_range_over_forests() -> None:
    found = of_scores(deciding(30))
    first = found.found[0]
    assert first.parameter.field == "model.a"
    assert first.mean > 0.7
    assert 0 <= first.low <= first.mean <= first.high <= 1
    assert first.low < first.high, "forests differ"
    assert found.is_sound
    assert found.rest is not None
    assert found.rest < 0.3
    assert of_scores(deciding(30)) == found, "the same trials, the same numbers"


def test_of_noise_it_is_said_that_nothing_is_explained() -> None:
    found = of_scores(deciding(30, weight=0.0))
    assert found.found
    assert not found.is_sound


def test_too_few_trials_are_refused() -> None:
    found = of_scores(deciding(FEWEST_TRIALS - 1))
    assert found.refused == f"Too few trials: {FEWEST_TRIALS - 1}, and it takes {FEWEST_TRIALS}."
    assert not found.found
    assert not of_scores(deciding(FEWEST_TRIALS)).refused


def test_equal_scores_and_a_single_setting_are_refused() -> None:
    same = sweep_of(*(trial(at, settings={"model.a": at % 3, "train.c": at}) for at in range(12)))
    assert "equal" in of_scores(same).refused
    alone = sweep_of(*(trial(at, (at / 10,), settings={"model.a": at % 3}) for at in range(12)))
    assert of_scores(alone).refused.startswith("Only a varies")
    none = sweep_of(*(trial(at, (at / 10,), settings={"model.a": 1}) for at in range(12)))
    assert of_scores(none).refused.startswith("None of the settings")


def test_a_setting_that_some_trials_lack_is_judged_among_those_that_have_it() -> None:
    sweep = deciding(40)
    trials = [
        trial(one.number, (one.score or 0.0,), settings={k: v for k, v in one.settings.items() if k != "train.c"})
        if one.number % 2
        else one
        for one in sweep.trials
    ]
    found = of_scores(sweep_of(*trials, spaces=SPACES))
    assert {one.parameter.name: one.trials for one in found.found} == {"a": 40, "b": 40, "c": 20}
    assert found.rest is None
    few = of_scores(sweep_of(*trials[1::2], *trials[:9:2], spaces=SPACES))
    assert [one.name for one in few.left_out] == ["c"]


def test_the_first_rung_counts_those_that_were_pruned_later() -> None:
    sweep = deciding(24)
    trials = [trial(t.number, (t.score or 0.0,), "pruned", settings=t.settings) for t in sweep.trials[:18]]
    mixed = sweep_of(*trials, *sweep.trials[18:], spaces=SPACES)
    assert of_scores(mixed).refused
    found = of_first_rung(mixed)
    assert found.found[0].parameter.field == "model.a"
    assert found.of == "val_dice of the 24 trials at the first rung after 10 epochs"


@pytest.mark.parametrize("kind", ["choice", "int"])
def test_numbers_of_either_kind_are_weighed(kind: str) -> None:
    values = (1, 2, 4, 8) if kind == "choice" else (1, 8)
    dice = random.Random(1)
    trials = []
    for number in range(24):
        heads, other = dice.choice((1, 2, 4, 8)), dice.random()
        trials.append(trial(number, (heads / 10,), settings={"model.heads": heads, "train.other": other}))
    spaces = (
        Space(field="model.heads", kind=kind, values=values),  # type: ignore[arg-type]
        Space(field="train.other", kind="uniform", values=(0.0, 1.0)),
    )
    found = of_scores(sweep_of(*trials, spaces=spaces)).found
    assert found[0].parameter.name == "heads"
    assert found[0].mean > 0.8
