"""The sentence at the top claims no more than the numbers bear."""

import pytest

from tests.unit.search.report.sweeps import seeded, sweep_of, trial
from udt_cluster.search.report import answer
from udt_cluster.search.report.answer import failures
from udt_cluster.search.report.wording import command, levels_text, overrides, settings_text


def test_a_lead_above_the_spread_is_clear() -> None:
    found = answer(sweep_of(trial(0, (0.80, 0.81, 0.82)), trial(1, (0.70, 0.71, 0.72)), trial(2, (0.5, 0.5, 0.5))))
    assert (found.best and found.best.number, found.second and found.second.number) == (0, 1)
    assert found.lead == pytest.approx(0.1)
    assert found.spread == pytest.approx(0.01)
    assert found.is_clear
    assert "0.1000, is more than its spread over runs (0.0100; it is ahead in 3 of 3 runs)" in found.sentence
    assert "over 3 folds" in found.sentence
    assert found.as_good == (found.best,)


def test_a_lead_within_the_spread_is_no_difference() -> None:
    small = trial(1, (0.79, 0.83), parameters=10)
    found = answer(sweep_of(trial(0, (0.78, 0.86)), small, trial(2, (0.5, 0.5))))
    assert found.is_clear is False
    assert found.sentence.endswith("it is ahead in 1 of 2 runs): no difference is shown.")
    assert [one.number for one in found.as_good] == [0, 1]
    assert found.smallest == small


def test_one_run_cannot_say_how_far_runs_differ() -> None:
    found = answer(sweep_of(trial(0, (0.8,)), trial(1, (0.7,))))
    assert found.is_clear is None
    assert "may be chance: one run says nothing" in found.sentence


def test_equal_scores_are_no_difference() -> None:
    found = answer(sweep_of(trial(0), trial(1)))
    assert found.lead == 0
    assert "scored the same, so no difference is shown" in found.sentence


def test_a_trial_alone_is_compared_with_nothing() -> None:
    assert "nothing to compare it with" in answer(sweep_of(trial(0), trial(1, state="pruned"))).sentence


@pytest.mark.parametrize(
    ("trials", "state", "sentence"),
    [
        ((), "running", "No trial has begun."),
        ((), "finished", "No trial was begun: there is no answer."),
        ((trial(0, state="running"), trial(1, state="pruned")), "running",
         "No trial has finished yet: 1 pruned and 1 running."),
        ((trial(0, state="pruned"), trial(1, state="diverged")), "failed",
         "There is no answer: no trial finished (1 pruned and 1 diverged)."),
    ],
)  # fmt: skip
def test_without_a_finished_trial_there_is_no_best(trials: tuple[object, ...], state: str, sentence: str) -> None:
    found = answer(sweep_of(*trials, state=state))  # type: ignore[arg-type]
    assert (found.best, found.sentence) == (None, sentence)


def test_a_sweep_that_goes_on_says_so_far() -> None:
    assert answer(seeded(20, running=4)).sentence.startswith("So far the best is trial ")
    assert answer(seeded(20)).sentence.startswith("The best is trial ")


def test_failures_are_gathered_by_cause_the_most_frequent_first() -> None:
    bad = [trial(at, state="failed", message=why) for at, why in enumerate(("no memory", "", "no memory"))]
    found = failures(sweep_of(*bad, trial(3, state="diverged", message="the loss was not finite")))
    assert found[0] == ("failed", "no memory", (0, 2))
    assert ("failed", "no reason was given", (1,)) in found
    assert ("diverged", "the loss was not finite", (3,)) in found


def test_the_command_sets_what_the_trial_had_and_does_not_search() -> None:
    one = trial(0, settings={"model.skips": ["none", "dat"], "train.lr": 0.00025, "model.scales": None})
    assert overrides(one) == ["model.skips=[none, dat]", "train.lr=0.00025", "model.scales=null"]
    assert command(one, "my job.yaml").startswith("udt-cluster submit 'my job.yaml' --set tune=null --set ")
    assert "--set 'model.skips=[none, dat]'" in command(one)


def test_the_command_is_taken_by_the_real_loader(tmp_path: object) -> None:
    import shlex
    from pathlib import Path

    from udt_cluster.config.load import load_job

    assert isinstance(tmp_path, Path)
    file = tmp_path / "heart.yaml"
    file.write_text(
        "name: heart\ndata: {source: ACDC, adapter: acdc}\nstages: [prepare, tune, train, evaluate, register]\n"
        "tune: {search: {model.num_heads: {choice: [1, 2]}, train.lr: {log: [1e-5, 1e-2]}}, budget: {trials: 4}}\n"
    )
    settings = {"model.num_heads": 2, "model.skips": ["none", "dra_channel", "none", "none"], "train.lr": 1e-5}
    words = shlex.split(command(trial(0, settings=settings)))
    job = load_job(file, [words[at + 1] for at, word in enumerate(words) if word == "--set"])
    assert (job.tune, job.model.num_heads, job.train.lr) == (None, 2, 1e-5)
    assert job.model.skips == ("none", "dra_channel", "none", "none")


def test_levels_of_a_kind_stand_together() -> None:
    assert levels_text(["dat", "none", "dat", "none"]) == "dat 1 3, none 2 4"
    assert levels_text(["none"] * 4) == "all none"
    sweep = seeded(6)
    words = settings_text(sweep.trials[0], sweep, only=["model.skips.2", "train.lr"])
    assert words.startswith("skips ")
    assert "num_heads" not in words
