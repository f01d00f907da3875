"""How long a data set of a million samples takes to open, and how much memory it is then.

    python tests/bench/bench_open.py [--samples 1000000] [--cases 1000000 10000]

The tables are real, written by the real writer; shards are empty files of the right size (sparse), since opening looks
at no pixel. Each opening is a process of its own; "used" also reads what every training reads: ids, groups, splits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.case import CaseSummary
from data_prep.statistics import measure
from data_prep.writer import StorePlan, finish, plan_store, write_tables
from udt_cluster.data.schema import NATIVE_SHARD
from udt_cluster.storage import Location, ObjectRecord

SIZE = (224, 224)
CHANNELS = 3
STEPS = ("open", "used")
PROGRAM = """
import sys, time
from udt_cluster.data.store import DataStore
from udt_cluster.storage import Location

def memory(field):
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6

before, began, worked = memory("VmRSS"), time.perf_counter(), time.process_time()
store = DataStore.open(Location.parse(sys.argv[1]))
if sys.argv[2] == "used":
    len(store.cases.ids), len(store.cases.groups), len(store.cases.splits), store.cases.num_samples.sum()
print(time.perf_counter() - began, time.process_time() - worked, memory("VmRSS") - before, memory("VmHWM"))
"""


def summaries(cases: int, samples: int) -> Iterator[CaseSummary]:
    """Cases of equal size, with ids and digests as long as real ones."""
    depth = samples // cases
    for number in range(cases):
        yield CaseSummary(
            id=f"patient{number // 2:07d}_study{number % 2}",
            group=f"patient{number // 2:07d}",
            split="train",
            site=f"site{number % 7}",
            meta={},
            digest=f"{number:032x}",
            foreground=(1,) * depth,
            hashes=(number,) * depth,
            turned=(number,) * (3 * depth),
            num_samples=depth,
            channels=CHANNELS,
            dtype="uint8",
            native_shape=(depth, *SIZE),
            spacing=(5.0, 1.5, 1.5),
            affine=(1.0,) * 16,
        )


def write(root: Location, cases: int, samples: int) -> None:
    """A store of that many samples without their pixels."""
    image, label = np.zeros((1, CHANNELS, 16, 16), np.uint8), np.zeros((1, 16, 16), np.uint8)
    plan = plan_store(
        root,
        list(summaries(cases, samples)),
        [measure(image, label, num_classes=2)],
        dataset="bench",
        adapter="arrays",
        version="v",
        size=SIZE,
        resize="stretch",
        class_names=("background", "x"),
        provenance={"patients_known": True, "warnings": []},
    )
    finish(plan, [*shards(plan), *write_tables(plan)])


def shards(plan: StorePlan) -> Iterator[ObjectRecord]:
    """Objects of about 10 MB that hold nothing and take no room."""
    counts = {"images": -(-int(plan.sample_ends[-1]) // plan.info.shard_samples)}
    counts |= {"labels": counts["images"], "native_labels": -(-int(plan.native_ends[-1]) // NATIVE_SHARD)}
    for name, tail in (("images", "/0/0/0"), ("labels", "/0/0"), ("native_labels", "")):
        for index in range(counts[name]):
            key = f"{name}/c/{index}{tail}"
            path = plan.root.local_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(10**7 + index)
            yield ObjectRecord(key=key, size=10**7 + index, sha256="0" * 64)


def measure_opening(root: Location, step: str) -> list[float]:
    """Seconds, of them on a CPU, MB more than before, MB at most."""
    command = [sys.executable, "-c", PROGRAM, str(root), step]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(part) for part in ended.stdout.split()]


def main() -> None:
    """Write the stores, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--cases", type=int, nargs="+", default=[1_000_000, 10_000])
    arguments = parser.parse_args()
    for cases in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            root, began = Location.parse(folder), time.perf_counter()
            write(root, cases, arguments.samples)
            made = time.perf_counter() - began
            print(f"{arguments.samples} samples in {cases} cases, {len(root.entries())} objects (made in {made:.0f} s)")
            for step in STEPS:
                seconds, worked, more, most = min(measure_opening(root, step) for _ in range(3))
                print(
                    f"  {step:5} {seconds:6.2f} s ({worked:.2f} s of CPU)  {more:4.0f} MB more  {most:4.0f} MB at most"
                )


if __name__ == "__main__":
    main()
