"""The parts that a training worker is made of, without Ray: loader, reporter, identity, the run's plan."""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import JobRecord
from udt_cluster.cluster.worker.reporter import JobReporter
from udt_cluster.cluster.worker.train import WatchedLoader, identity_of, share_of, to_ray_train
from udt_cluster.config.job import Job
from udt_cluster.storage import Location


def make_job(**sections: object) -> Job:
    data = {"source": "/x", "adapter": "image_folder", "group_by": "case"}
    return Job.model_validate({"name": "j", "data": data, **sections})


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    texts = {"store": "/s/data/x/v9", "splits": "/s/data/x/splits/v9-abc.json", "tracking": "", "run_id": ""}
    return RunPlan(str(tmp_path), "j", "j-f2-s7", fold=2, seed=7, number=1, total=1, parent_id="parent", **texts)


class FakeLoader:
    """Four steps an epoch; knows when it was closed."""

    steps_per_epoch, wait_seconds = 4, 0.5

    def __init__(self) -> None:
        self.closed = False

    def epoch(self, epoch: int, *, start_step: int = 0) -> Generator[Sequence[Any], None, None]:
        try:
            for step in range(start_step, 4):
                yield [f"{epoch}.{step}"]
        finally:
            self.closed = True


def test_each_step_is_announced_by_its_number_before_its_batches_are_given_out() -> None:
    inner, told = FakeLoader(), list[tuple[int, Any]]()
    loader: Any = WatchedLoader(inner, lambda step, batches: told.append((step, batches)))  # type: ignore[arg-type]
    assert (loader.steps_per_epoch, loader.wait_seconds) == (4, 0.5)
    steps = loader.epoch(2, start_step=1)
    assert next(steps) == ["2.1"]
    assert told == [(10, ["2.1"])], "the tenth step of all, counted from 1"
    steps.close()
    assert inner.closed, "its threads end"


def test_epochs_that_come_again_are_told_to_nobody_twice(plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.train

    to_ray: list[int] = []
    monkeypatch.setattr(ray.train, "report", lambda metrics: to_ray.append(metrics["epoch"]))
    record, begun = JobRecord(Location.parse(plan.storage), "j"), [False]
    record.write_progress({"run": plan.run, "epoch": 2})
    reporter = JobReporter(plan, make_job(), leads=True, tell=to_ray_train(lambda: begun[0]))
    for epoch in (1, 2):
        reporter.epoch(epoch, 4 * epoch, {"val_dice": 0.5})
    assert record.progress() == {"run": plan.run, "epoch": 2}
    begun[0] = True
    reporter.epoch(3, 12, {"val_dice": float("nan"), "epoch_seconds": 2.0})
    assert to_ray == [3], "a meeting of all ranks for each epoch of the past would take minutes"
    progress = record.progress()
    assert (progress["epoch"], progress["step"], progress["val_dice"]) == (3, 12, None)
    reporter.close()


def test_ranks_that_do_not_lead_speak_to_ray_alone(plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.train

    to_ray: list[int] = []
    monkeypatch.setattr(ray.train, "report", lambda metrics: to_ray.append(metrics["epoch"]))
    JobReporter(plan, make_job(), leads=False, tell=to_ray_train(lambda: True)).epoch(1, 4, {})
    assert to_ray == [1]
    assert plan.record.progress() == {}


def test_the_progress_of_one_trial_among_many_is_not_the_jobs(plan: RunPlan) -> None:
    told: list[dict[str, float]] = []
    reporter = JobReporter(plan, make_job(), leads=True, tell=told.append, is_shown=False)
    reporter.epoch(1, 4, {"val_dice": 0.5})
    reporter.close()
    assert told == [{"val_dice": 0.5, "epoch": 1, "step": 4}]
    assert plan.record.progress() == {}


def test_a_run_is_the_same_while_network_data_split_fold_and_seed_are(plan: RunPlan) -> None:
    same = identity_of(plan, make_job(), data_version="v9")
    assert same == identity_of(replace(plan, attempt=3), make_job(train={"epochs": 9}), data_version="v9")
    others = [
        identity_of(plan, make_job(model={"architecture": "unet"}), data_version="v9"),
        identity_of(plan, make_job(), data_version="v10"),
        identity_of(replace(plan, splits="/s/data/x/splits/v9-def.json"), make_job(), data_version="v9"),
        identity_of(replace(plan, fold=1), make_job(), data_version="v9"),
        identity_of(replace(plan, seed=8), make_job(), data_version="v9"),
    ]
    assert all(other != same for other in others)


def test_a_run_that_mlflow_was_away_for_can_be_made_later(plan: RunPlan) -> None:
    child = plan.child()
    assert (child.parent_id, child.name) == ("parent", "j-f2-s7")
    assert child.tags == {"job": "j", "fold": 2, "seed": 7, "data_version": "v9", "split_hash": "abc"}
    assert child.params == {"fold": 2, "seed": 7}


def test_a_plan_carries_a_job_of_its_own_where_it_has_one(plan: RunPlan) -> None:
    job = make_job(train={"epochs": 2})
    assert replace(plan, job_json=job.to_json()).job() == job


def test_a_share_of_the_data_is_whole_patients_and_part_of_a_larger_share() -> None:
    groups = [f"p{case // 3}" for case in range(30)]
    cases = tuple(range(1, 28))
    shares = [share_of(cases, groups, share, seed=1) for share in (0.01, 0.25, 0.5, 1.0)]
    assert [len({groups[case] for case in share}) for share in shares] == [1, 3, 5, 10]
    for smaller, larger in itertools.pairwise(shares):
        assert set(smaller) < set(larger)
        assert list(smaller) == sorted(smaller)
    for share in shares:
        taken = {groups[case] for case in share}
        assert {case for case in cases if groups[case] in taken} == set(share), "a patient wholly or not"
    assert share_of(cases, groups, 0.25, seed=2) != shares[1]
