"""The driver's loop over the attempts at a run, with attempts that end as they are told."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from udt_cluster.cluster import failures
from udt_cluster.cluster.driver.attempts import DRIVER_LOST, Aftermath, Attempts, outcome, ray_limits
from udt_cluster.cluster.driver.elastic import Nodes, Room
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import Attempt, JobRecord, Record, now
from udt_cluster.cluster.signs import Sign, signs_folder
from udt_cluster.cluster.worker.signals import control_location
from udt_cluster.config.job import Job
from udt_cluster.errors import DataError, JobFailedError
from udt_cluster.storage import Location, write_commit
from udt_cluster.training import CheckpointInfo, PreemptedError

RUN = "j-f0-s0"
Happening = Callable[["Workers"], None]
"""What an attempt does: given the workers' doings, it returns or raises."""


def make_job(**sections: dict[str, object]) -> Job:
    given: dict[str, object] = {
        "name": "j",
        "data": {"source": "/x", "adapter": "image_folder", "group_by": "case"},
        "train": {"epochs": 3, "global_batch_size": 8},
        **sections,
    }
    return Job.model_validate(given)


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    record = JobRecord(Location.parse(tmp_path), "j")
    about = {"job_hash": "", "user": "", "target": "", "run_id": "", "versions": {}}
    record.create(Record(id="j", name="j", submitted_at=now(), **about), make_job(), "")  # type: ignore[arg-type]
    texts = {"store": "/s", "splits": "/s/splits.json", "tracking": "", "run_id": ""}
    return RunPlan(str(tmp_path), "j", RUN, fold=0, seed=0, number=1, total=1, **texts)


class Workers:
    """What the workers of an attempt leave behind."""

    def __init__(self, plan: RunPlan, count: int) -> None:
        self.plan, self.count = plan, count

    def work(self, first: int, last: int, *, ago: float = 0.0) -> None:
        """Each rank does the steps `first` to `last`; the last of them so many seconds ago."""
        folder, moment = signs_folder(self.plan.record.folder, self.plan.run, self.plan.attempt), time.time() - ago
        for rank in range(self.count):
            sign = Sign(rank, f"10.0.0.{rank}", f"id{rank}", 7, first, last, moment, moment, moment)
            (folder / f"{rank:05d}.json").write_bytes(json.dumps(asdict(sign)).encode())

    def commit(self, step: int, epoch: int) -> None:
        """A checkpoint is complete."""
        info = CheckpointInfo(
            run_id=RUN,
            attempt=self.plan.attempt,
            step=step,
            epoch=epoch,
            val_dice=0.5,
            is_best=True,
            world_size=self.count,
            zero_stage=0,
        )
        write_commit(self.plan.folder / "checkpoints" / f"step-{step:08d}-a{self.plan.attempt}", (), info.to_json())


class Theatre:
    """Runs attempts that do what the script says; looks at no cluster, and sleeps on paper."""

    def __init__(self, plan: RunPlan, *happenings: Happening, job: Job | None = None) -> None:
        self.plan, self.script, self.job = plan, list(happenings), job or make_job()
        self.said, self.slept, self.launched = list[str](), list[float](), list[tuple[int, int]]()
        self.cpus, self.lost = 8.0, frozenset[str]()

    def nodes(self) -> Nodes:
        return Nodes(({"CPU": self.cpus},), ({"CPU": self.cpus},))

    def launch(self, plan: RunPlan, workers: int) -> None:
        self.launched.append((plan.attempt, workers))
        self.script.pop(0)(Workers(plan, workers))

    def run(self, *, grow_seconds: float = 99.0) -> list[Attempt]:
        room = Room(self.job.worker_counts, {"CPU": 1.0}, say=self.said.append, look=self.nodes, ask=lambda _: None)
        attempts = Attempts(
            self.plan,
            self.job,
            room=room,
            launch=self.launch,
            say=self.said.append,
            inquire=lambda plan: Aftermath(self.lost),
            sleep=self.slept.append,
            grow_seconds=grow_seconds,
            look_seconds=0.05,
        )
        attempts.run()
        return self.recorded

    @property
    def recorded(self) -> list[Attempt]:
        return self.plan.record.attempts(RUN)


def raising(error: Exception, *, step: int, first: int = 1, ago: float = 0.0) -> Happening:
    """An attempt that gets to a step and fails on all ranks."""

    def happen(workers: Workers) -> None:
        workers.work(first, step, ago=ago)
        raise WorkerGroupError("", dict.fromkeys(range(workers.count), error))

    return happen


def dying(*, step: int, first: int = 1, commits: int = 0) -> Happening:
    """An attempt whose workers get to a step, with a checkpoint on the way, and die."""

    def happen(workers: Workers) -> None:
        if commits:
            workers.commit(commits, epoch=1)
        raising(ActorDiedError(), step=step, first=first, ago=2.0)(workers)

    return happen


def finishing(*, first: int = 1) -> Happening:
    def happen(workers: Workers) -> None:
        workers.work(first, 12)
        workers.commit(12, epoch=3)

    return happen


def test_a_run_that_nothing_happens_to_is_one_attempt(plan: RunPlan) -> None:
    theatre = Theatre(plan, finishing())
    (attempt,) = theatre.run()
    assert (attempt.kind, attempt.step, attempt.committed_step, attempt.lost_steps) == ("finished", 12, 12, 0)
    assert attempt.recovery_seconds is None
    assert attempt.ended_at
    assert theatre.said == []
    assert outcome(plan) == {"epochs": 3, "best_epoch": 3, "best_val_dice": 0.5}


def test_fault_C5_a_dead_worker_costs_what_came_after_the_checkpoint_and_its_price_is_recorded(plan: RunPlan) -> None:
    theatre = Theatre(plan, dying(step=6, commits=4), finishing(first=5))
    died, finished = theatre.run()
    assert (died.number, died.kind, died.step, died.committed_step, died.lost_steps) == (0, failures.DIED, 6, 4, 2)
    assert died.nodes == ("10.0.0.0",)
    assert (finished.number, finished.kind, finished.resumed_step) == (1, "finished", 4)
    assert finished.recovery_seconds is not None
    assert 2.0 <= finished.recovery_seconds < 10, "from the last step of the dead to the first of the living"
    (said,) = theatre.said
    assert "died without an error of its own" in said
    assert "2 steps lost" in said
    assert "Traceback" not in said


def test_after_retry_max_failures_without_a_checkpoint_it_ends_with_the_cause(plan: RunPlan) -> None:
    job = make_job(retry={"max": 2})
    theatre = Theatre(plan, *[dying(step=n) for n in (3, 4, 5)], job=job)
    with pytest.raises(JobFailedError, match=r"died without an error .* not tried again: it failed 3 times") as caught:
        theatre.run()
    assert isinstance(caught.value.__cause__, TrainingFailedError)
    assert [attempt.kind for attempt in theatre.recorded] == [failures.DIED] * 3
    progress = Theatre(plan, dying(step=6, commits=4), dying(step=9, commits=8), dying(step=9), job=job)
    progress.script.append(finishing())
    assert progress.run()[-1].kind == "finished", "the count starts anew with every checkpoint"


def test_fault_F2_a_bug_is_not_retried_max_failures_times(plan: RunPlan) -> None:
    theatre = Theatre(plan, *[raising(ValueError(f"bad tensor at 0x7f{n}00aa"), step=3) for n in range(4)])
    with pytest.raises(JobFailedError, match="is a bug"):
        theatre.run()
    assert len(theatre.launched) == 2


def test_an_error_of_ours_that_no_retry_helps_is_raised_as_it_is(plan: RunPlan) -> None:
    theatre = Theatre(plan, raising(DataError("two patients", ["a", "b"]), step=0))
    with pytest.raises(DataError) as caught:
        theatre.run()
    assert caught.value.problems == ("a", "b")
    assert caught.value.exit_code == 3
    assert len(theatre.launched) == 1


def test_fault_F5_a_preemption_is_not_counted_and_waits_longer_each_time(plan: RunPlan) -> None:
    job = make_job(retry={"max": 0})
    theatre = Theatre(plan, *[raising(PreemptedError("SIGTERM", 5), step=5)] * 4, finishing(), job=job)
    assert [attempt.kind for attempt in theatre.run()] == [failures.PREEMPTED] * 4 + ["finished"]
    assert theatre.slept == sorted(theatre.slept)
    assert theatre.slept[0] < theatre.slept[-1]


def test_a_lost_node_is_not_counted(plan: RunPlan) -> None:
    theatre = Theatre(plan, dying(step=5), finishing(), job=make_job(retry={"max": 0}))
    theatre.lost = frozenset({"id0"})
    lost, _ = theatre.run()
    assert (lost.kind, lost.cause) == (failures.NODE_LOST, "the node 10.0.0.0 is gone")


def test_a_run_whose_last_attempt_finished_is_not_trained_again(plan: RunPlan) -> None:
    Theatre(plan, finishing()).run()
    again = Theatre(plan)
    assert len(again.run()) == 1
    assert not again.launched
    longer = Theatre(plan, finishing(first=13), job=make_job(train={"epochs": 5, "global_batch_size": 8}))
    assert [attempt.number for attempt in longer.run()] == [0, 1], "more epochs than before were asked for"


def test_the_attempt_that_a_dead_driver_left_open_is_closed_and_the_count_goes_on(plan: RunPlan) -> None:
    plan.record.write_attempt(Attempt(RUN, 4, 2, now()))
    left = Workers(replace(plan, attempt=4), 2)
    left.work(1, 7)
    left.commit(6, epoch=1)
    theatre = Theatre(plan, finishing(first=7))
    closed, finished = theatre.run()
    assert (closed.kind, closed.step, closed.committed_step, closed.lost_steps) == (DRIVER_LOST, 7, 6, 1)
    assert closed.ended_at
    assert (finished.number, finished.resumed_step) == (5, 6)


def test_numbers_are_never_those_of_checkpoints_that_exist(plan: RunPlan) -> None:
    Workers(replace(plan, attempt=7), 1).commit(4, epoch=1)
    assert [attempt.number for attempt in Theatre(plan, finishing()).run()] == [8]


def test_a_run_shrinks_to_what_the_cluster_has_left_and_is_asked_to_grow_again(plan: RunPlan) -> None:
    job = make_job(resources={"workers": {"min": 1, "max": 4}})
    theatre = Theatre(plan, job=job)

    def lose_nodes(workers: Workers) -> None:
        theatre.cpus = 1.0
        dying(step=3)(workers)

    def until_asked(workers: Workers) -> None:
        workers.work(1, 5)
        theatre.cpus = 2.0  # free beside the one that is used
        deadline = time.monotonic() + 10
        while not control_location(plan.record.folder).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        asked = control_location(plan.record.folder).read_bytes().decode()
        theatre.cpus = 4.0
        raise WorkerGroupError("", {0: PreemptedError(asked, 5)})

    theatre.script = [lose_nodes, until_asked, finishing(first=6)]
    kinds = [(attempt.workers, attempt.kind) for attempt in theatre.run(grow_seconds=0.1)]
    assert kinds == [(4, failures.DIED), (1, failures.RESIZED), (4, "finished")]
    assert "resize from 1 to 2 workers" in theatre.recorded[1].cause


def test_a_running_attempt_shows_its_nodes_steps_and_recovery(plan: RunPlan) -> None:
    shown: list[Attempt] = []

    def watched(workers: Workers) -> None:
        workers.work(5, 6)
        deadline = time.monotonic() + 10
        while not shown or shown[-1].step != 6:
            assert time.monotonic() < deadline
            time.sleep(0.02)
            shown.append(plan.record.attempts(RUN)[-1])
        finishing(first=5)(workers)

    Theatre(plan, dying(step=6, commits=4), watched).run()
    assert shown[-1].kind == ""
    assert shown[-1].nodes == ("10.0.0.0",)
    assert shown[-1].resumed_step == 4
    assert shown[-1].recovery_seconds is not None


def test_time_limits_follow_from_retry_hang() -> None:
    limits = ray_limits(120.0)
    assert limits["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] == "120.0"
    assert float(limits["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"]) > 120
    assert ray_limits(0.5)["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] == "10.0", "imports hold a process for seconds"
