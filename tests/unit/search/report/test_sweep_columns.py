"""Which columns a sweep has, what a trial has in them, and who is before whom."""

import math
import pickle
from dataclasses import replace

import pytest

from tests.unit.search.report.sweeps import KINDS, SPACES, seeded, sweep_of, trial
from udt_cluster.search.report import Space, score, spread
from udt_cluster.search.report.sweep import label
from udt_cluster.search.trials import Trial, TrialRun


def test_the_levels_of_skips_are_four_columns() -> None:
    one = trial(0, settings={"model.skips": ["none", "dra_channel", "none", "identity"]})
    sweep = sweep_of(one, spaces=(Space(field="model.skips", kind="subsets", values=KINDS),))
    assert [p.field for p in sweep.parameters] == [f"model.skips.{level}" for level in (1, 2, 3, 4)]
    assert [p.of(one) for p in sweep.parameters] == ["none", "dra_channel", "none", "identity"]
    assert {p.name for p in sweep.parameters} == {f"skips.{level}" for level in (1, 2, 3, 4)}


def test_a_list_that_is_chosen_as_a_whole_is_one_column() -> None:
    lists = (["none"] * 4, ["identity"] * 4)
    trials = [trial(at, settings={"model.skips": chosen}) for at, chosen in enumerate(lists)]
    sweep = sweep_of(*trials, spaces=(Space(field="model.skips", kind="choice", values=lists),))
    (parameter,) = sweep.parameters
    assert parameter.choices(sweep.trials) == ["none, none, none, none", "identity, identity, identity, identity"]
    assert sweep.varying == (parameter,)


def test_a_setting_that_a_trial_has_not_is_empty_and_null_is_a_value() -> None:
    trials = (trial(0, settings={"train.x": None}), trial(1, settings={}))
    sweep = sweep_of(*trials, spaces=(Space(field="train.x", kind="choice", values=(None, 1)),))
    (parameter,) = sweep.parameters
    assert [parameter.of(one) for one in trials] == ["null", None]
    assert sweep.varying == (parameter,)


def test_names_are_as_short_as_can_be_told_apart() -> None:
    spaces = [Space(field=path, kind="choice", values=(1, 2)) for path in ("a.x.lr", "b.x.lr", "b.dropout")]
    assert [p.name for p in sweep_of(spaces=tuple(spaces)).parameters] == ["a.x.lr", "b.x.lr", "dropout"]


def test_settings_without_a_space_become_columns() -> None:
    words = [trial(at, settings={"train.loss": word}) for at, word in enumerate(("dice_bce", "dice_ce", "dice_bce"))]
    numbers = [trial(at, settings={"train.lr": at / 10}) for at in range(20)]
    (word,), (number,) = sweep_of(*words).parameters, sweep_of(*numbers).parameters
    assert (word.kind, word.values) == ("category", ("dice_bce", "dice_ce"))
    assert (number.kind, number.values) == ("uniform", (0.0, 1.9))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.00031622, "0.0003162"),
        (True, "true"),
        (None, "null"),
        (["dat", None], "dat, null"),
        (3, "3"),
        ({"a": 1}, "a: 1"),
    ],
)
def test_values_in_words(value: object, words: str) -> None:
    assert label(value) == words


def test_the_order_is_by_score_and_what_is_no_number_comes_last() -> None:
    trials = (trial(0, (0.5, 0.6)), trial(1, (0.9,)), trial(2, (math.nan,)), trial(3, (0.95,), "pruned"))
    sweep = sweep_of(*trials)
    assert [one.number for one in sweep.ranked] == [1, 0, 3, 2]
    assert [one.number for one in sweep.finished] == [1, 0]
    assert score(trials[2]) is None


def test_of_losses_the_smaller_is_the_better() -> None:
    sweep = sweep_of(trial(0, (0.5,)), trial(1, (0.9,)), trial(2, (0.1,)), larger_is_better=False)
    assert [one.number for one in sweep.finished] == [2, 0, 1]
    assert sweep.ranked[0].runs[0].value == 0.1, "the record is what it was"


def test_the_spread_needs_two_runs() -> None:
    assert spread(trial(0, (0.5,))) is None
    assert spread(trial(0, (0.5, 0.7))) == pytest.approx(0.1414213562)


def test_counts_are_of_every_state() -> None:
    counts = seeded(60, running=3).counts
    assert counts == {"finished": 22, "pruned": 32, "diverged": 2, "failed": 1, "running": 3}


def test_a_sweep_crosses_processes() -> None:
    sweep = replace(seeded(8), spaces=SPACES)
    again = pickle.loads(pickle.dumps(sweep))
    assert again == sweep
    assert again.parameters == sweep.parameters


def test_a_trial_that_finished_has_its_own_runs() -> None:
    """The generator of these tests is itself right: every finished trial has as many runs as values."""
    made: Trial = trial(7, (0.1, 0.2, 0.3))
    assert [type(run) for run in made.runs] == [TrialRun] * 3
