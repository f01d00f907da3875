"""What is proposed: seeded, never twice, within the spaces, and the same after the driver died."""

from collections import Counter
from typing import Any

import pytest

from udt_cluster.config.job import Job
from udt_cluster.search.proposals import Proposal, Proposer
from udt_cluster.search.trials import Rung, Trial, TrialRun

BASE: dict[str, Any] = {"name": "a", "data": {"source": "/d", "adapter": "glas", "group_by": "case"}}


def sweep(search: dict[str, Any], **tune: Any) -> Job:
    return Job.model_validate({**BASE, "tune": {"search": search, "budget": {"trials": 50}, **tune}})


def proposer(search: dict[str, Any], **tune: Any) -> Proposer:
    return Proposer(sweep(search, **tune), lambda job: (1000 * job.model.num_heads, float(job.model.num_layers)))


def ended(number: int, proposal: Proposal, score: float) -> Trial:
    run = TrialRun(run="r", fold=0, seed=1, epochs=3, best_epoch=2, value=score)
    return Trial(
        number=number, settings=proposal.settings, point=proposal.point, state="finished", runs=(run,),
        rungs=(Rung(index=0, epochs=3, value=score),),
    )  # fmt: skip


def run_through(made: Proposer, count: int, score: Any) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        proposal = made.propose(number, trials)
        if proposal is None:
            break
        trials.append(ended(number, proposal, score(proposal.settings)))
    return trials


HEADS = {"model.num_heads": {"choice": [1, 2, 4, 8]}}
LR = {"train.lr": {"log": [1e-4, 1e-1]}}


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_the_same_seed_proposes_the_same_and_another_something_else(searcher: str) -> None:
    def first(seed: int) -> list[Any]:
        made = proposer({**HEADS, **LR}, searcher=searcher, seed=seed)
        return [trial.settings for trial in run_through(made, 15, lambda settings: settings["train.lr"])]

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_a_driver_that_begins_anew_proposes_what_the_old_one_would_have(searcher: str) -> None:
    made = proposer({**HEADS, **LR}, searcher=searcher)
    whole = run_through(made, 14, lambda settings: settings["train.lr"])
    again = proposer({**HEADS, **LR}, searcher=searcher)
    proposal = again.propose(13, whole[:13])
    assert proposal is not None
    assert proposal.settings == whole[13].settings


@pytest.mark.parametrize("searcher", ["random", "tpe", "grid"])
def test_nothing_is_tried_twice_and_what_is_finite_ends(searcher: str) -> None:
    made = proposer({**HEADS, "model.num_layers": {"int": [1, 3]}}, searcher=searcher)
    trials = run_through(made, 50, lambda settings: 0.5)
    tried = Counter((trial.settings["model.num_heads"], trial.settings["model.num_layers"]) for trial in trials)
    assert sorted(tried) == [(heads, layers) for heads in (1, 2, 4, 8) for layers in (1, 2, 3)]
    assert set(tried.values()) == {1}


def test_a_grid_goes_through_in_order() -> None:
    made = proposer({**HEADS, "model.num_layers": {"int": [1, 2]}}, searcher="grid")
    trials = run_through(made, 3, lambda settings: 0.5)
    assert [list(trial.settings.values()) for trial in trials] == [[1, 1], [1, 2], [2, 1]]


def test_fields_called_a_grid_are_crossed_and_the_rest_is_drawn() -> None:
    search = {"model.num_heads": {"grid": [1, 2, 4]}, **LR}
    trials = run_through(proposer(search, searcher="random"), 9, lambda settings: 0.5)
    assert [trial.settings["model.num_heads"] for trial in trials] == [1, 2, 4] * 3
    assert len({trial.settings["train.lr"] for trial in trials}) == 9


def test_what_cannot_be_built_or_breaks_a_constraint_is_never_proposed() -> None:
    search = {**HEADS, "model.embed_dim": {"choice": [12, 64]}, "model.num_layers": {"int": [1, 4]}}
    constraints = ["parameters <= 4000", "gmac > 1"]
    trials = run_through(proposer(search, searcher="random", constraints=constraints), 50, lambda settings: 0.5)
    found = {tuple(trial.settings.values()) for trial in trials}
    heads_and_widths = {(1, 12), (2, 12), (4, 12), (1, 64), (2, 64), (4, 64)}
    assert found == {(heads, width, layers) for heads, width in heads_and_widths for layers in (2, 3, 4)}


def test_a_condition_leaves_a_field_out() -> None:
    search = {
        "model.architecture": {"choice": ["udtransnet", "unet"]},
        "model.num_heads": {"choice": [1, 2], "when": {"model.architecture": "udtransnet"}},
    }
    trials = run_through(proposer(search, searcher="tpe"), 50, lambda settings: 0.5)
    networks = Counter(trial.settings["model.architecture"] for trial in trials)
    assert networks == {"udtransnet": 2, "unet": 1}
    assert all(("model.num_heads" in trial.settings) == ("udtransnet" in trial.settings.values()) for trial in trials)


def test_skips_are_proposed_level_by_level() -> None:
    trials = run_through(proposer({"model.skips": {"subsets": True}}, searcher="tpe"), 50, lambda settings: 0.5)
    assert len({str(trial.settings["model.skips"]) for trial in trials}) == 16
    assert set(trials[0].point) == {f"model.skips.{level}" for level in (1, 2, 3, 4)}


def test_tpe_comes_nearer_than_chance() -> None:
    def score(settings: Any) -> float:
        return 1.0 - abs(settings["train.lr"] - 1e-3) * 100

    def mean_of_last(searcher: str) -> float:
        late = [run_through(proposer(LR, searcher=searcher, seed=seed), 30, score)[-10:] for seed in range(3)]
        scores = [trial.score for trials in late for trial in trials if trial.score is not None]
        return sum(scores) / len(scores)

    assert mean_of_last("tpe") > mean_of_last("random") + 0.2


def test_trials_of_every_state_are_taken_into_account() -> None:
    made = proposer(LR, searcher="tpe")
    trials = run_through(made, 12, lambda settings: 0.5)
    states = ["finished", "pruned", "diverged", "failed", "running"]
    mixed = [
        Trial(number=t.number, settings=t.settings, point=t.point, state=states[t.number % 5],  # type: ignore[arg-type]
              rungs=t.rungs, runs=t.runs if t.number % 5 == 0 else ())
        for t in trials
    ]  # fmt: skip
    assert made.propose(12, mixed) is not None
