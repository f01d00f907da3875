"""A worker is killed: seconds until training goes on, by part, beside plain Ray Train's own retry.

    python tests/bench/bench_recovery.py --times 3

Two workers on a private Ray, a tiny network on tiny pictures, so that what is measured is the way back and not the
work: *noticed* until the other worker is ended too, *placed* until the new workers' program starts (decision, room,
Ray's controller, processes, process group), *ready* until their first step is done (imports, data, checkpoint).
`CPU` is what all processes that were started after the kill have used until then: it does not depend on who else uses
the machine. Both ways run the same worker, which resumes from our checkpoints.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.factories import make_store
from udt_cluster.cluster.driver.attempts import train_run
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import JobRecord, Record, now
from udt_cluster.cluster.signs import Sign, read_signs, signs_folder
from udt_cluster.cluster.worker.backend import WorkerTorchConfig
from udt_cluster.cluster.worker.train import train_worker
from udt_cluster.config.job import Job
from udt_cluster.data import DataStore, make_splits, save_splits
from udt_cluster.storage import Location

WORKERS, STEPS = 2, 4


@dataclass
class Recovery:
    """Seconds of each part, and CPU seconds."""

    noticed: float
    placed: float
    ready: float
    cpu: float

    @property
    def total(self) -> float:
        return self.noticed + self.placed + self.ready


def make_plan(folder: Path, name: str) -> tuple[RunPlan, Job]:
    data = {"source": "/x", "adapter": "image_folder", "group_by": "case", "size": [32, 32], "splits": {"k": 4}}
    sections: dict[str, Any] = {
        "name": name,
        "data": data,
        "model": {"architecture": "unet"},
        "train": {"epochs": 6, "global_batch_size": 4},
        "resources": {"workers": WORKERS},
    }
    job, location = Job.model_validate(sections), Location.parse(folder / "data" / "tiny" / "v0")
    store = DataStore.open(location)
    about: dict[str, Any] = {"job_hash": "", "user": "", "target": "", "run_id": "", "versions": {}}
    record = JobRecord(Location.parse(folder), name)
    record.create(Record(id=name, name=name, submitted_at=now(), **about), job, "")
    splits = make_splits(store.cases, job.data.splits, group_by="case", data_version=store.info.version, store=store)
    texts = {"store": location.uri, "splits": save_splits(location, splits).uri, "tracking": "", "run_id": ""}
    return RunPlan(str(folder), name, f"{name}-f0-s0", fold=0, seed=0, number=1, total=1, **texts), job


def ours(plan: RunPlan, job: Job) -> None:
    train_run(plan, job, gpus=0, say=lambda said: print(f"    {said}", file=sys.stderr))


def plain(plan: RunPlan, job: Job) -> None:
    """Ray Train as it comes: its retry, its limits, its backend."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    for name in [name for name in os.environ if name.startswith("RAY_TRAIN_")]:
        del os.environ[name]
    scratch = tempfile.mkdtemp()
    run_config = RunConfig(name=plan.run, storage_path=scratch, failure_config=FailureConfig(max_failures=3))
    scaling = ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 1.0})
    TorchTrainer(
        train_worker,
        train_loop_config=asdict(plan),
        scaling_config=scaling,
        run_config=run_config,
        torch_config=TorchConfig(backend="gloo"),
    ).fit()
    shutil.rmtree(scratch, ignore_errors=True)


def measure(plan: RunPlan, job: Job, way: Callable[[RunPlan, Job], None]) -> Recovery:
    found: list[Recovery] = []
    watcher = threading.Thread(target=lambda: found.append(kill_and_watch(plan)))
    watcher.start()
    way(plan, job)
    watcher.join()
    return found[0]


def kill_and_watch(plan: RunPlan) -> Recovery:
    signs = all_signs(plan, lambda sign: sign.step > STEPS)
    other, victim = signs[0].pid, signs[1].pid
    killed_at = time.time()
    psutil.Process(victim).kill()
    while psutil.pid_exists(other):
        time.sleep(0.02)
    noticed_at = time.time()
    cpu = CpuOfNewProcesses(killed_at)
    again = all_signs(plan, lambda sign: sign.pid not in {other, victim} and sign.began_at > 0, tick=cpu.look)
    alive_at, began_at = max(sign.alive_at for sign in again), max(sign.began_at for sign in again)
    return Recovery(noticed_at - killed_at, alive_at - noticed_at, began_at - alive_at, cpu.seconds())


def all_signs(plan: RunPlan, wanted: Callable[[Sign], bool], tick: Callable[[], None] = lambda: None) -> list[Sign]:
    """The signs of all ranks of some attempt, when all are as wanted."""
    while True:
        for attempt in range(3):
            signs = read_signs(signs_folder(plan.record.folder, plan.run, attempt))
            if len(signs) == WORKERS and all(wanted(sign) for sign in signs):
                return signs
        tick()
        time.sleep(0.05)


class CpuOfNewProcesses:
    """CPU seconds of this process's descendants that were started after a moment."""

    def __init__(self, since: float) -> None:
        self._since, self._seen = since, dict[int, float]()

    def look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.create_time() >= self._since:
                    times = process.cpu_times()
                    self._seen[process.pid] = times.user + times.system
            except psutil.Error:
                continue

    def seconds(self) -> float:
        self.look()
        return sum(self._seen.values())


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    assert WorkerTorchConfig, "imported here, so that neither way pays for it"
    import ray

    folder = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    os.environ["UDT_HOME"] = str(folder / "home")
    make_store(folder, slices=(1,) * 24)
    os.environ.pop("RAY_ADDRESS", None)
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    ray.init(address="local", num_cpus=WORKERS, _temp_dir=str(folder / "ray"), **quiet)
    print("| way | noticed s | placed s | ready s | total s | CPU s |", "|---|---|---|---|---|---|", sep="\n")
    for way in (ours, plain):
        found = [measure(*make_plan(folder, f"{way.__name__}{n}"), way) for n in range(options.times)]
        names = ("noticed", "placed", "ready", "total", "cpu")
        middle = [f"{statistics.median(getattr(recovery, name) for recovery in found):.1f}" for name in names]
        print(f"| {way.__name__} | {' | '.join(middle)} |", flush=True)
        print(json.dumps([asdict(recovery) for recovery in found]), file=sys.stderr)
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
