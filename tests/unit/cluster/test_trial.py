"""A trial in its thread: it stops at each rung, goes on when it is told to, and ends as it should."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cluster.driver.packing import trials_per_gpu
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.worker.memory import GpuMemory, training_memory
from udt_cluster.cluster.worker.trial import Report, StoppedError, TrialPlan, TrialThread, next_attempt, train_trial
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError
from udt_cluster.search.rungs import Rungs
from udt_cluster.search.trials import TrialRun
from udt_cluster.training.protocols import NonFiniteError

Tell = Callable[[dict[str, float]], None]


def run_plan(storage: Path, fold: int) -> RunPlan:
    names = {"storage": str(storage), "job_id": "j", "run": f"j-t0003-f{fold}-s1", "store": "", "splits": "/s/v-h.json"}
    return RunPlan(**names, fold=fold, seed=1, number=fold + 1, total=2, tracking="", run_id=f"id{fold}")


@pytest.fixture
def plan(tmp_path: Path) -> TrialPlan:
    """Two folds of nine epochs, with rungs after one and three."""
    runs = tuple(run_plan(tmp_path, fold) for fold in (0, 1))
    return TrialPlan(number=3, runs=runs, rungs=Rungs((1, 3), 2), metric="val_dice", most=2)


def train(plan: RunPlan, tell: Tell) -> int:
    """Dice rises until the seventh epoch, and is 0.1 lower in the second fold."""
    for epoch in range(1, 10):
        value = 0.1 * min(epoch, 7) - 0.01 * max(0, epoch - 7) - 0.1 * plan.fold
        tell({"epoch": epoch, "val_dice": value, "memory_gb": 0.5})
    return 1234


def test_it_stops_at_every_rung_and_tells_what_it_has() -> None:
    plan = TrialPlan(number=0, runs=tuple(run_plan(Path("/s"), fold) for fold in (0, 1)), rungs=Rungs((1, 3), 2),
                     metric="val_dice", most=2)  # fmt: skip
    thread = TrialThread(lambda at_rung: train_trial(plan, at_rung, train=train))
    reports = [thread.next() for _ in range(5)]
    rungs = [report.rung for report in reports[:4] if report.rung]
    assert [(rung.index, rung.epochs, round(rung.value, 6)) for rung in rungs] == [
        (0, 1, 0.1),
        (1, 3, 0.3),
        (2, 9, 0.7),
        (3, 18, 0.65),
    ]
    end = reports[4]
    assert (end.outcome, end.rung, len(end.runs)) == ("finished", None, 2)
    assert (end.runs[1].best_epoch, end.runs[1].epochs, end.runs[1].parameters) == (7, 9, 1234)
    assert thread.stop()


def test_one_that_shall_not_go_on_ends_at_its_rung_and_gives_back_what_it_held(plan: TrialPlan) -> None:
    given_back = []

    def held(run: RunPlan, tell: Tell) -> int:
        try:
            return train(run, tell)
        finally:
            given_back.append(run.fold)

    thread = TrialThread(lambda at_rung: train_trial(plan, at_rung, train=held))
    thread.next()
    assert given_back == []
    assert thread.stop()
    assert given_back == [0]


def test_one_is_stopped_before_its_first_rung_too(plan: TrialPlan) -> None:
    thread = TrialThread(lambda at_rung: train_trial(plan, at_rung, train=train))
    assert thread.stop()


def test_what_is_done_is_not_done_again(plan: TrialPlan) -> None:
    done = TrialRun(run="j-t0003-f0-s1", fold=0, seed=1, epochs=9, best_epoch=7, value=0.7)
    trained: list[int] = []

    def counted(run: RunPlan, tell: Tell) -> int:
        trained.append(run.fold)
        return train(run, tell)

    plan = TrialPlan(number=3, runs=plan.runs, rungs=plan.rungs, metric="val_dice", most=2, done=(done,))
    reports: list[Report] = []
    end = train_trial(plan, reports.append, train=counted)
    assert trained == [1]
    assert [report.rung.index for report in reports if report.rung] == [3]
    assert (end.outcome, end.runs[0]) == ("finished", done)


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (NonFiniteError("the loss is not finite"), "diverged", "the loss is not finite"),
        (JobFailedError("no such thing"), "failed", "no such thing"),
        (ValueError("a bug"), "failed", "ValueError: a bug"),
    ],
)
def test_fault_T2_a_trial_that_breaks_is_an_outcome_and_not_an_error(
    plan: TrialPlan, error: Exception, outcome: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: RunPlan, tell: Tell) -> int:
        if run.fold:
            raise error
        return train(run, tell)

    end = train_trial(plan, lambda report: None, train=broken)
    assert (end.outcome, end.message, len(end.runs)) == (outcome, message, 1)


def test_a_metric_that_is_never_a_number_has_no_best(plan: TrialPlan) -> None:
    def blind(run: RunPlan, tell: Tell) -> int:
        tell({"epoch": 1, "val_dice": float("nan")})
        return 1

    reports: list[Report] = []
    train_trial(plan, reports.append, train=blind)
    assert reports[0].rung is not None
    assert reports[0].rung.value != reports[0].rung.value


def test_what_is_no_outcome_is_raised_where_it_is_awaited(plan: TrialPlan) -> None:
    def killed(run: RunPlan, tell: Tell) -> int:
        raise SystemExit(3)

    thread = TrialThread(lambda at_rung: train_trial(plan, at_rung, train=killed))
    with pytest.raises(SystemExit):
        thread.next()


def test_plans_and_reports_cross_processes(plan: TrialPlan) -> None:
    assert TrialPlan.from_json(plan.to_json()) == plan
    reports: list[Report] = []
    reports.append(train_trial(plan, reports.append, train=train))
    assert [Report.from_json(report.to_json()) for report in reports] == reports
    with pytest.raises(StoppedError):
        raise StoppedError


def test_a_run_whose_process_dies_again_and_again_at_one_place_fails(plan: TrialPlan) -> None:
    run = plan.runs[0]
    assert [next_attempt(run, most=2) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(JobFailedError, match="died 3 times after step 0"):
        next_attempt(run, most=2)


def test_so_many_trials_as_there_is_room_for() -> None:
    from udt_cluster.cluster.driver.desk import room_for_trials

    job: Any = Job.model_validate(
        {"name": "a", "data": {"source": "/d", "adapter": "acdc"}, "resources": {"cpus_per_worker": 4}}
    )
    assert room_for_trials(job, {"CPU": 16.0}, gpus=0.0) == 4
    assert room_for_trials(job, {"CPU": 64.0, "GPU": 8.0}, gpus=1.0) == 8
    assert room_for_trials(job, {"CPU": 8.0, "GPU": 8.0}, gpus=1.0) == 2
    assert room_for_trials(job, {"CPU": 2.0}, gpus=0.0) == 1


@pytest.mark.parametrize(
    ("peak", "total", "cores", "count"),
    [(2, 80, 16, 8), (20, 80, 16, 3), (20, 80, 2, 2), (60, 80, 16, 1), (100, 80, 16, 1), (5, 24, 16, 3)],
)
def test_so_many_trials_share_a_gpu_as_its_memory_and_cores_allow(
    peak: float, total: float, cores: float, count: int
) -> None:
    memory = GpuMemory(int(peak * 1e9), int(total * 1e9))
    assert trials_per_gpu(memory, cores_per_gpu=cores, cores_per_trial=1) == count


@pytest.mark.gpu
def test_what_training_takes_is_seen_on_the_gpu_and_grows_with_the_batch() -> None:
    job = Job.model_validate({"name": "a", "data": {"source": "/d", "adapter": "acdc", "size": [64, 64]}})
    small, large = (
        training_memory(job.with_settings({"train.global_batch_size": size}).to_json(), in_channels=1, num_classes=4)
        for size in (2, 32)
    )
    assert 0 < small.peak < large.peak < large.total
