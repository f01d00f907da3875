"""Ten thousand jobs, runs and model versions: how long `ls`, `status`, `models ls`, `models show` take; fifty at once.

    python tests/bench/bench_registry.py [--jobs 10000] [--at-once 50] [--real 0]

A real MLflow server (the local target's, SQLite) and job records on a local disk; the jobs have ended, so the cluster
is not asked. `--real N` also submits N jobs at once (`--stages prepare`, phantoms) to a real local target.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.seeding import MODELS, job_id, record_job, seed_jobs, seed_mlflow
from tests.servers.mlflow import MlflowServer
from udt_cluster.cluster import job_index
from udt_cluster.cluster.client import catalog, jobs
from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.load import load_job
from udt_cluster.storage import Location
from udt_cluster.tracking import Tracker, server_command

COMMAND = str(Path(sys.executable).parent / "udt-cluster")
REPEATS = 20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--real", type=int, default=0)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    os.environ.update(UDT_HOME=str(home), NO_COLOR="1")
    try:
        with seeded_server(home, options.jobs) as server:
            target = Target("bench", jobs_api="http://127.0.0.1:9", tracking=server.uri, storage=str(home / "storage"))
            listings(target, options.jobs)
            at_once(target, options.at_once)
        if options.real:
            really(home, options.real)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def seeded_server(home: Path, count: int) -> Iterator[MlflowServer]:
    """The local target's server, with a database that was filled while it was down."""
    server = MlflowServer(home)
    server.command, server.environment = server_command(home, server.port)
    server.start().stop()
    began = time.perf_counter()
    seed_mlflow(home / "mlflow" / "mlflow.db", count)
    seed_jobs(home / "storage", count)
    print(f"seeded {count} jobs, runs and versions in {time.perf_counter() - began:.0f} s\n", file=sys.stderr)
    try:
        yield server.start()
    finally:
        server.stop()


def listings(target: Target, count: int) -> None:
    """Percentiles of what people ask for; in one process, so without the start of Python."""
    tracker, storage = Tracker(str(target.tracking)), Location.parse(str(target.storage))
    middle = count // 2
    asked: dict[str, tuple[Callable[[], object], int]] = {
        "`ls` (newest 50)": (lambda: jobs.list_jobs(target, limit=50), 50),
        "`ls --all`": (lambda: jobs.list_jobs(target), count),
        "`status JOB`": (lambda: [jobs.find_job(target, job_id(middle))], 1),
        "`status` (last)": (lambda: [jobs.find_job(target, "last")], 1),
        "`models ls` (newest 50)": (lambda: catalog.models(target, limit=50), 50),
        "`models ls --all`": (lambda: catalog.models(target), count),
        "`models show NAME@alias`": (lambda: [catalog.show_model(target, "job-3@candidate")], 1),
        "`models show NAME`": (lambda: [catalog.show_model(target, "job-3")], 1),
        "`models show NAME/3`": (lambda: [catalog.show_model(target, "job-3/3")], 1),
        "the reaper's search": (tracker.open_runs, 0),
        "one run, found by its job (submit)": (lambda: [tracker.start_parent("job-1", "x", key=job_id(middle | 1))], 1),
        "the index alone, all ids": (lambda: job_index.newest(storage), count),
    }
    print(f"| {count} jobs, {count} runs, {count} versions of {MODELS} models | p50, s | p95, s |\n|---|---:|---:|")
    for name, (call, expected) in asked.items():
        taken = []
        for _ in range(REPEATS if expected <= 50 else 3):
            began = time.perf_counter()
            found = call()
            taken.append(time.perf_counter() - began)
            assert len(found) == expected, (name, len(found))  # type: ignore[arg-type]
        taken.sort()
        print(
            f"| {name} | {taken[len(taken) // 2]:.3f} | {taken[int(0.95 * (len(taken) - 1) + 0.5)]:.3f} |", flush=True
        )


def at_once(target: Target, count: int) -> None:
    """The part of a submission that writes: a run in MLflow, its files, the record. All at the same time."""
    job = load_job(Path(__file__).parents[2] / "jobs" / "acdc.yaml", [])
    storage = Location.parse(str(target.storage))
    before = len(job_index.newest(storage))

    def one(_: int) -> float:
        began = time.perf_counter()
        record_job(job, storage, str(target.tracking))
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        taken = sorted(pool.map(one, range(count)))
    wall = time.perf_counter() - began
    records = len(job_index.newest(storage)) - before
    runs = len(Tracker(str(target.tracking)).list_runs(job.name))
    print(f"\n| {count} submissions at once (record and MLflow) | |\n|---|---:|")
    print(
        f"| all of them, s | {wall:.1f} |\n| one, p50 and p95, s | {taken[count // 2]:.1f}, {taken[-count // 20]:.1f} |"
    )
    print(f"| records, runs (each wanted once) | {records}, {runs} |")


def really(home: Path, count: int) -> None:
    """Whole submissions to a real local target, each a process of its own."""
    source, file = home / "phantoms", home / "job.yaml"
    making = [sys.executable, "-m", "data_prep.phantom", "acdc", str(source), "--patients", "6", "--seed", "7"]
    subprocess.run(making, check=True, stdout=subprocess.DEVNULL)
    text = (Path(__file__).parents[2] / "jobs" / "acdc.yaml").read_text()
    file.write_text(text)
    command = [COMMAND, "submit", str(file), "--stages", "prepare", "--set", f"data.source={source}", "--wait"]
    try:
        subprocess.run(command, check=True, capture_output=True)  # the target is up, the data are there
        began = time.perf_counter()
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(count)]
        ended = [process.communicate()[1] or process.returncode for process in running]
        wall = time.perf_counter() - began
        found = [status for status in jobs.list_jobs(Target("local")) if status.state == "SUCCEEDED"]
        print(f"\n| {count} real submissions at once, to the end | |\n|---|---:|")
        print(f"| all of them, s | {wall:.1f} |\n| jobs that succeeded (one more came before) | {len(found)} |")
        print(f"| submissions that failed | {sum(process.returncode != 0 for process in running)} |")
        for words in ended:
            if isinstance(words, bytes) and b"rror" in words:
                print(words.decode(errors="replace")[-300:], file=sys.stderr)
    finally:
        subprocess.run([COMMAND, "down"], check=False, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
