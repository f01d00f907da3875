"""What a job would train, before anything runs."""

import random
from typing import Any

import pytest

from udt_cluster.config.job import Job
from udt_cluster.search.forecast import expected_epochs, forecast
from udt_cluster.search.rungs import Rungs, goes_on

BASE: dict[str, Any] = {"name": "a", "data": {"source": "/d", "adapter": "glas", "group_by": "case"}}
HEADS = {"model.num_heads": {"choice": [1, 2, 4, 8]}, "model.num_layers": {"int": [1, 3]}}


def cost(job: Job) -> tuple[int, float]:
    return 1000 * job.model.num_heads, float(job.model.num_layers)


def make(**sections: Any) -> Job:
    return Job.model_validate({**BASE, **sections})


def test_a_plain_job_is_its_folds_and_seeds() -> None:
    found = forecast(make(train={"epochs": 10}, repeat={"folds": [0, 1], "seeds": [1, 2, 3]}), cost)
    (planned,) = found.planned
    assert (planned.runs, planned.parameters) == (6, 4000)
    assert found.most_epochs == found.expected_epochs == 60
    assert found.most_work == 60 * 4


def test_a_grid_is_all_its_combinations() -> None:
    tune = {"search": HEADS, "searcher": "grid", "scheduler": "fifo", "folds": [0, 1]}
    found = forecast(make(train={"epochs": 10}, tune=tune), cost)
    assert (found.count, len(found.planned), found.follows_scores) == (12, 12, False)
    assert found.most_epochs == found.expected_epochs == 12 * 2 * 10
    assert found.most_work == pytest.approx(240 * 2.0)


def test_a_budget_of_time_has_no_number_of_trials() -> None:
    tune = {"search": {"train.lr": {"log": [1e-4, 1e-2]}}, "budget": {"time": "1h"}}
    found = forecast(make(tune=tune), cost)
    assert found.count is None
    assert found.follows_scores
    assert len({planned.settings["train.lr"] for planned in found.planned}) == len(found.planned)


def test_more_trials_than_there_are_configurations_end_with_them() -> None:
    found = forecast(make(tune={"search": HEADS, "budget": {"trials": 50}}), cost)
    assert found.count == 12


def test_a_study_is_its_arms() -> None:
    study = {
        "question": "How many heads are needed?",
        "vary": {"model.num_heads": {"choice": [1, 2, 4]}},
        "reference": "num_heads 4",
    }
    found = forecast(make(study=study, train={"epochs": 5}, repeat={"folds": [0, 1]}), cost)
    assert [planned.name for planned in found.planned] == ["num_heads 1", "num_heads 2", "num_heads 4"]
    assert found.most_epochs == 3 * 2 * 5


@pytest.mark.parametrize(("scheduler", "folds"), [("asha", [0]), ("asha", [0, 1]), ("median", [0])])
def test_what_early_stopping_leaves_is_what_it_leaves_of_trials_by_chance(scheduler: str, folds: list[int]) -> None:
    tune = make(tune={"search": HEADS, "scheduler": scheduler, "budget": {"trials": 30}}, train={"epochs": 27}).tune
    assert tune is not None
    rungs = Rungs.of(tune, epochs=27, runs=len(folds))
    dice, spent = random.Random(0), 0
    for _ in range(200):
        seen: list[list[float]] = [[] for _ in range(rungs.last + 1)]
        for _ in range(30):
            merit = dice.random()
            for index in range(rungs.last + 1):
                before = [0, *rungs.epochs, *(27 * run for run in range(1, rungs.runs + 1))]
                spent += before[index + 1] - before[index]
                others = list(seen[index])
                seen[index].append(merit)
                if index < rungs.last and not goes_on(tune, merit, others):
                    break
    ratio = expected_epochs(tune, rungs, trials=30, epochs=27) / (spent / 200 / 30)
    assert 0.6 < ratio < 1.6, "about"
