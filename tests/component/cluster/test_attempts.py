"""Training on a real Ray whose workers are killed, stopped, told to go, or lose their node: one cluster for all."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.factories import make_store
from tests.waiting import wait_for
from udt_cluster.cluster import failures
from udt_cluster.cluster.driver.attempts import Attempts, RayLaunch, train_run
from udt_cluster.cluster.driver.elastic import Room, need_of_worker
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import Attempt, JobRecord, Record, now
from udt_cluster.cluster.worker.trace import global_batches
from udt_cluster.config.job import Job
from udt_cluster.data import make_splits, save_splits
from udt_cluster.errors import JobFailedError
from udt_cluster.storage import Location
from udt_cluster.training import CheckpointCatalog

pytestmark = [
    *(pytest.mark.component, pytest.mark.ray, pytest.mark.timeout(900)),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # Ray's words to itself
]

STEPS = 4
"""Optimizer steps of an epoch of the tiny store: 18 training cases in batches of 4."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU and a node with another, and a home for what workers spool."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="udt-", dir="/tmp")
    environment = {name: os.environ.pop(name, None) for name in ("RAY_ADDRESS", "UDT_HOME")}
    os.environ["UDT_HOME"] = folder
    options = {"num_cpus": 1, "include_dashboard": False, "temp_dir": folder, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    add_node(cluster)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    os.environ.pop("UDT_HOME")
    os.environ.update({name: value for name, value in environment.items() if value is not None})


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=80 << 20)


@contextmanager
def connected(cluster: Any, **environment: str) -> Iterator[None]:
    """This process as a driver, whose workers have more in their environment."""
    import ray

    ray.init(
        address=cluster.address, log_to_driver=False, runtime_env={"env_vars": environment} if environment else None
    )
    try:
        yield
    finally:
        ray.shutdown()


@dataclass
class Trial:
    """A job on the tiny store, and what came of it."""

    folder: Path
    job: Job
    faults: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def record(self) -> JobRecord:
        return JobRecord(Location.parse(self.folder), "t")

    @property
    def plan(self) -> RunPlan:
        store = make_store_once(self.folder)
        texts = {"store": store.uri, "splits": splits_of(store, self.job).uri, "tracking": "", "run_id": ""}
        trace = str(self.folder / "trace")
        return RunPlan(
            *(str(self.folder), "t", "t-f0-s0"),
            fold=0,
            seed=0,
            number=1,
            total=1,
            faults=self.faults,
            trace=trace,
            **texts,
        )

    def create(self) -> None:
        about: dict[str, Any] = {"job_hash": "", "user": "", "target": "", "run_id": "", "versions": {}}
        self.record.create(Record(id="t", name="t", submitted_at=now(), **about), self.job, "")

    def train(self) -> list[Attempt]:
        self.create()
        train_run(self.plan, self.job, gpus=0, say=self.said.append)
        return self.attempts

    @property
    def attempts(self) -> list[Attempt]:
        return self.record.attempts("t-f0-s0")

    @property
    def catalog(self) -> CheckpointCatalog:
        return CheckpointCatalog(self.plan.folder / "checkpoints", "t-f0-s0")

    def digest(self) -> str:
        """SHA-256 of the weights of the newest checkpoint."""
        newest = self.catalog.latest()
        assert newest is not None
        return hashlib.sha256(newest.weights()).hexdigest()

    def log(self, attempt: int, rank: int) -> str:
        """What a worker wrote."""
        folder = self.record.logs / "t-f0-s0" / f"a{attempt}-r{rank}"
        keys = sorted(entry.key for entry in folder.entries() if entry.key.endswith(".log"))
        return "".join((folder / key).read_bytes().decode() for key in keys)


def make_store_once(folder: Path) -> Location:
    location = Location.parse(folder / "data" / "tiny" / "v0")
    if not location.local_path.exists():
        make_store(folder, slices=(1,) * 24)
    return location


def splits_of(location: Location, job: Job) -> Location:
    from udt_cluster.data import DataStore

    store = DataStore.open(location)
    version = store.info.version
    splits = make_splits(store.cases, job.data.splits, group_by="case", data_version=version, store=store)
    return save_splits(location, splits)


def make_job(*, epochs: int, workers: object = 1, batch: int = 4, hang: str = "5m", most: int = 3) -> Job:
    data = {"source": "/x", "adapter": "image_folder", "group_by": "case", "size": [32, 32], "splits": {"k": 4}}
    return Job.model_validate(
        {
            **{"name": "t", "data": data, "model": {"architecture": "unet"}, "evaluate": {"worst": 1}},
            **{"train": {"epochs": epochs, "global_batch_size": batch}, "resources": {"workers": workers}},
            "retry": {"max": most, "hang": hang},
        }
    )


def training_workers() -> list[psutil.Process]:
    """Of this process's clusters."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "RayTrainWorker" in " ".join(cmdline(process))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def story(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Two workers. One is killed in epoch 2, has a bus error in epoch 3 and is sent SIGTERM in epoch 4."""
    faults = "kill:step=7,rank=1,attempt=0; bus:step=10,rank=1,attempt=1; term:step=14,rank=1,attempt=2"
    trial = Trial(tmp_path_factory.mktemp("story"), make_job(epochs=5, workers=2), faults)
    with connected(cluster):
        trial.train()
    return trial


@pytest.fixture(scope="module")
def undisturbed(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """The same without faults."""
    trial = Trial(tmp_path_factory.mktemp("undisturbed"), make_job(epochs=5, workers=2))
    with connected(cluster):
        trial.train()
    return trial


@pytest.mark.slow
def test_fault_C5_a_killed_worker_costs_the_steps_since_the_checkpoint_and_nothing_else(
    story: Trial, undisturbed: Trial
) -> None:
    killed, after = story.attempts[:2]
    assert (killed.kind, killed.committed_step) == (failures.DIED, STEPS)
    assert 0 <= killed.lost_steps <= 2, "it had done six"
    assert "worker 1" in killed.cause
    assert after.resumed_step == STEPS
    assert after.recovery_seconds is not None
    assert story.attempts[-1].step == 5 * STEPS
    batches, expected = (
        global_batches(Location.parse(story.folder / "trace")),
        global_batches(undisturbed_trace(undisturbed)),
    )
    assert sorted(batches) == list(range(1, 5 * STEPS + 1)), "no step is left out"
    for step, attempts in batches.items():
        assert set(attempts.values()) == set(expected[step].values()), (
            f"step {step} has the same samples in each attempt"
        )
    assert story.digest() == undisturbed.digest(), "the weights are the same, bit for bit"


def undisturbed_trace(trial: Trial) -> Location:
    return Location.parse(trial.folder / "trace")


def test_fault_F4_a_bus_error_is_told_from_other_deaths_and_training_goes_on(story: Trial) -> None:
    broken, after = story.attempts[1:3]
    assert broken.kind == failures.DIED
    assert "Bus error" in broken.cause
    assert "shared memory" in broken.cause
    assert "Traceback" not in story.said[1]
    assert after.resumed_step == 2 * STEPS


def test_fault_F5_sigterm_to_one_worker_saves_on_all_and_loses_nothing(story: Trial) -> None:
    told, after = story.attempts[2:4]
    assert (told.kind, told.lost_steps) == (failures.PREEMPTED, 0)
    assert told.step == told.committed_step >= 13
    assert "SIGTERM" in told.cause
    assert after.resumed_step == told.step
    assert after.kind == failures.FINISHED
    assert not training_workers()


def test_fault_F2_and_F3_a_hang_is_ended_with_its_stacks_and_a_bug_is_not_retried_to_the_end(
    cluster: Any, tmp_path: Path
) -> None:
    faults = "hang:step=3,attempt=0; raise:step=6"
    trial = Trial(tmp_path, make_job(epochs=3, hang="15s", most=9), faults)
    began = time.time()
    with connected(cluster), pytest.raises(JobFailedError, match="is a bug, not bad luck") as caught:
        trial.train()
    hung, first, second = trial.attempts
    assert hung.kind == failures.HANG
    assert re.search(r"worker 0 on \S+ made no step for 1\d s and was ended", hung.cause)
    assert hung.step == 2
    assert "_hang" in trial.log(0, 0), "its log says where it stood"
    assert [attempt.kind for attempt in (first, second)] == [failures.ERROR] * 2
    assert first.step == second.step == 5
    assert "FailpointError" in str(caught.value)
    assert time.time() - began < 800


@pytest.mark.slow
def test_fault_F3_a_stopped_worker_is_noticed_ended_and_replaced(cluster: Any, tmp_path: Path) -> None:
    trial = Trial(tmp_path, make_job(epochs=2, workers=2, hang="20s"), "stop:step=6,rank=1,attempt=0")
    with connected(cluster):
        stopped, after = trial.train()
    assert stopped.kind == failures.HANG
    assert "worker 1" in stopped.cause
    assert "did not" in stopped.cause
    assert after.kind == failures.FINISHED
    assert after.recovery_seconds is not None
    assert not training_workers(), "the stopped one does not stay"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which only root may do")
def test_fault_F6_a_full_disk_ends_the_run_with_its_name_and_without_half_a_checkpoint(
    cluster: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        trial = Trial(tmp_path / "job", make_job(epochs=4, most=0))
        with connected(cluster, TMPDIR=str(disk)), pytest.raises(JobFailedError, match=r"disk is full|No space left"):
            trial.train()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    (attempt,) = trial.attempts
    assert attempt.kind == failures.STORAGE
    assert attempt.committed_step == 0
    assert trial.catalog.latest() is None


@pytest.mark.slow
def test_fault_F5_a_drained_node_is_left_in_time_and_the_run_shrinks_and_grows_again(
    cluster: Any, tmp_path: Path
) -> None:
    trial = Trial(tmp_path, make_job(epochs=400, workers={"min": 1, "max": 2}, batch=8))
    trial.create()
    launch = RayLaunch(trial.job, gpus=0)

    def launch_and_disturb(plan: RunPlan, workers: int) -> None:
        reached = trial.record.progress().get("epoch", 0)
        disturb = [drain, add_node, None][plan.attempt]
        if disturb is None:  # the last one has two epochs to do
            plan = replace(plan, job_json=make_job(epochs=reached + 2, workers=2, batch=8).to_json())
        with ThreadPoolExecutor(1) as pool:  # a node can be added by a process's main thread alone
            ended = pool.submit(launch, plan, workers)
            if disturb is not None:
                wait_for(lambda: ended.done() or trial.record.progress().get("epoch", 0) > reached, seconds=600)
                disturb(cluster)
            ended.result()

    with connected(cluster):
        room = Room(trial.job.worker_counts, need_of_worker(trial.job, gpus=0), say=trial.said.append)
        how: dict[str, Any] = {"launch": launch_and_disturb, "say": trial.said.append}
        Attempts(trial.plan, trial.job, room=room, grow_seconds=3.0, look_seconds=1.0, **how).run()
    left, small, large = trial.attempts
    assert (left.workers, left.kind, left.lost_steps) == (2, failures.PREEMPTED, 0)
    assert "taken away" in left.cause
    assert (small.workers, small.kind, small.lost_steps) == (1, failures.RESIZED, 0)
    assert "resize from 1 to 2 workers" in small.cause
    assert (large.workers, large.kind) == (2, failures.FINISHED)
    assert small.resumed_step == left.step > 0
    assert large.resumed_step == small.step > left.step
    batches = global_batches(Location.parse(tmp_path / "trace"))
    assert sorted(batches) == list(range(1, large.step + 1)), "no step is left out"
    assert all(len(set(attempts.values())) == 1 for attempts in batches.values()), "none has other samples"


def drain(cluster: Any) -> None:
    """What an autoscaler does before it takes a node away."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    (node,) = cluster.worker_nodes
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    accepted, _ = client.drain_node(node.node_id, reason, "taken back", int(time.time() * 1000) + 600_000)
    assert accepted
