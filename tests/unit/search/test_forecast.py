"""What a job would train, before anything runs."""

from typing import Any

import pytest

from udt_cluster.config.job import Job
from udt_cluster.search.forecast import expected_epochs, forecast
from udt_cluster.search.rungs import Rungs

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


def epochs_of(scheduler: str, trials: int, *, folds: int = 1) -> float:
    tune = make(tune={"search": HEADS, "scheduler": scheduler, "budget": {"trials": 30}}, train={"epochs": 27}).tune
    assert tune is not None
    return expected_epochs(tune, Rungs.of(tune, epochs=27, runs=folds), trials=trials, epochs=27)


def test_what_early_stopping_is_expected_to_leave() -> None:
    assert epochs_of("fifo", 30, folds=2) == 54
    assert epochs_of("asha", 1, folds=2) == 54, "the first trial has no others to be compared with"
    two = (27 + 0.5 * 27 + 0.5 * 1) / 2  # the second is better than the first, or ends at the first rung, after 1 epoch
    assert epochs_of("asha", 2) == pytest.approx(two, rel=0.25)
    assert 1 < epochs_of("asha", 100) < epochs_of("asha", 10) < 27
    assert epochs_of("asha", 100) < epochs_of("median", 100) < 27
