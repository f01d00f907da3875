"""A job's section `tune` in the words of the report."""

import pytest

from tests.unit.search.report.sweeps import trial
from udt_cluster.config.job import Job
from udt_cluster.search.report import sweep_of_job

SEARCH = {
    "model.num_heads": {"grid": [1, 2]},
    "model.num_layers": {"int": [1, 4]},
    "train.lr": {"log": [1e-4, 1e-2]},
}


def job(architecture: str = "udtransnet", **tune: object) -> Job:
    values = {"search": SEARCH, "budget": {"trials": 8, "gpu_hours": 2, "time": "1h"}, **tune}
    return Job.model_validate(
        {
            "name": "heart",
            "data": {"source": "/a", "adapter": "acdc"},
            "model": {"architecture": architecture},
            "train": {"epochs": 27},
            "tune": values,
        }
    )


def test_spaces_keep_their_bounds_and_choices() -> None:
    spaces = sweep_of_job(job(), [], state="running").spaces
    assert [(space.field, space.kind, space.values) for space in spaces] == [
        ("model.num_heads", "choice", (1, 2)),
        ("model.num_layers", "int", (1, 4)),
        ("train.lr", "log", (1e-4, 1e-2)),
    ]


@pytest.mark.parametrize(
    ("architecture", "space", "values"),
    [
        ("udtransnet", {"subsets": True}, ("none", "dra_channel")),
        ("unet", {"subsets": True}, ("none", "identity")),
        ("unet", {"subsets": {"absent": "zero"}}, ("zero", "identity")),
        ("udtransnet", {"each": ["none", "identity", "dra_spatial"]}, ("none", "identity", "dra_spatial")),
    ],
)
def test_a_space_of_skips_has_the_kinds_of_a_level(
    architecture: str, space: dict[str, object], values: tuple[str, ...]
) -> None:
    (found,) = sweep_of_job(job(architecture, search={"model.skips": space}), [], state="running").spaces
    assert (found.kind, found.values) == ("subsets", values)


def test_the_budget_says_what_is_used() -> None:
    trials = [trial(at, gpu_hours=0.25) for at in range(3)]
    budget = sweep_of_job(job(), trials, state="running", seconds=60).budget
    assert (budget.trials.used, budget.trials.limit) == (3, 8)
    assert (budget.gpu_hours.used, budget.gpu_hours.limit) == (0.75, 2)
    assert (budget.seconds.used, budget.seconds.limit) == (60, 3600)


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({}, "Optuna's TPE (seed 1), ASHA: compared after epoch 1, 3, 9 and at the end of each run, the best 1 in 3"),
        ({"scheduler": "fifo", "searcher": "random"}, "random search (seed 1), every trial trained to its end; 1 fold"),
        ({"scheduler": "median"}, "median stopping: compared after epoch 1, 3, 9"),
    ],
)
def test_the_method_is_told(tune: dict[str, object], words: str) -> None:
    assert sweep_of_job(job(**tune), [], state="running").method.partition(words)[1]
