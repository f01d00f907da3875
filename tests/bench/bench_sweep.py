"""A sweep on Ray Tune beside the same trainings in a bare loop in one process.

    python tests/bench/bench_sweep.py --trials 3 --epochs 10

Both train the same configurations on GlaS, one after the other, each to its end. *sweep* is the stage `tune` of a
submitted job, from its first proposal to its last record, MLflow and storage on this disk included; *bare* is a process
that calls the training of each configuration in turn. *between* is what passes from the end of a trial to the first
step of the next, in the process that is kept warm.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from udt_cluster.cluster.record import JobRecord
from udt_cluster.cluster.signs import read_signs
from udt_cluster.cluster.worker.trial import TrialPlan
from udt_cluster.storage import Location

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "udt-cluster")


def job_file(folder: Path, *, trials: int, epochs: int, size: int) -> Path:
    data = Path(os.environ.get("UDT_TEST_DATA", ROOT.parent / "shared" / "data")) / "glas"
    rates = [0.001 * (1 + index / 10) for index in range(trials)]
    job = {
        "name": "bench-sweep",
        "data": {"source": str(data), "adapter": "glas", "group_by": "case", "size": [size, size]},
        "model": {"architecture": "unet"},
        "train": {"epochs": epochs, "picture_every": 0, "early_stopping": None},
        "tune": {
            **{"search": {"train.lr": {"choice": rates}}, "searcher": "grid", "scheduler": "fifo"},
            **{"concurrency": 1, "min_epochs": epochs},
        },
        "stages": ["prepare", "tune"],
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def sweep(file: Path, home: Path) -> JobRecord:
    environment = {**os.environ, "UDT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    subprocess.run([COMMAND, "submit", str(file), "--wait"], env=environment, check=True, stdout=subprocess.DEVNULL)
    [folder] = (home / "store" / "jobs").iterdir()
    return JobRecord(Location.parse(home / "store"), folder.name)


def plans(record: JobRecord) -> list[TrialPlan]:
    folder = record.folder / "trials"
    keys = sorted(entry.key for entry in folder.entries() if entry.key.endswith(".plan.json"))
    return [TrialPlan.from_json((folder / key).read_bytes()) for key in keys]


def bare(record: JobRecord) -> float:
    """Seconds of the same trainings in a process of their own."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--bare", record.storage.uri, record.id]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.monotonic() - began


def train_bare(storage: str, job_id: str) -> None:
    import torch

    from udt_cluster.cluster.signs import Sign, SignWriter, signs_folder
    from udt_cluster.cluster.worker.train import Place, Watch, train_rank

    scratch = tempfile.mkdtemp(prefix="udt-bench-")
    here = Place(0, 1, torch.device("cpu"))
    for plan in plans(JobRecord(Location.parse(storage), job_id)):
        for run in plan.runs:
            job = run.job()
            alone = replace(run, storage=scratch, tracking="")
            with closing(SignWriter(signs_folder(alone.record.folder, run.run, 0), Sign(0))) as signs:
                watch = Watch(alone, job, signs, here, preemption=lambda: None)
                train_rank(alone, job, here, watch, lambda metrics: None, is_shown=False)
                watch.close()
    shutil.rmtree(scratch)


def between(record: JobRecord) -> Iterator[float]:
    """From each trial's end to the first step of the next."""
    trials = record.trials()
    for trial, following in itertools.pairwise(trials):
        runs = [run.run for run in following.runs]
        [sign] = read_signs(record.folder / "signs" / runs[0] / "0000")
        yield sign.began_at - datetime.fromisoformat(trial.ended_at).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        train_bare(*options.bare)
        return
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    try:
        record = sweep(job_file(home, trials=options.trials, epochs=options.epochs, size=options.size), home)
        seconds: dict[str, Any] = record.state().seconds
        alone, gaps = bare(record), list(between(record))
        each = statistics.mean(trial.seconds for trial in record.trials())
        print("| trials | seconds each | sweep, s | bare, s | ratio | between, s (median) |")
        print("|---:|---:|---:|---:|---:|---:|")
        print(
            f"| {options.trials} | {each:.1f} | {seconds['tune']:.1f} | {alone:.1f} | {seconds['tune'] / alone:.2f} | "
            f"{statistics.median(gaps):.1f} |"
        )
    finally:
        subprocess.run([COMMAND, "down"], env={**os.environ, "UDT_HOME": str(home)}, check=False)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
