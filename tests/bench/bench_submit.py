"""Seconds from `submit` to the first training step on a warm local target, by part; and the start of the command line.

    python tests/bench/bench_submit.py

Everything is real: Ray, MLflow, the driver, two training workers. The data are phantoms, prepared beforehand.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "udt-cluster")
REPEATS = 2


def main() -> None:
    """Print both tables."""
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    os.environ.update(UDT_HOME=str(home), NO_COLOR="1")
    try:
        command_line()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "data_prep.phantom",
                "acdc",
                str(home / "phantoms"),
                "--patients",
                "6",
                "--seed",
                "7",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        submissions(home)
    finally:
        subprocess.run([COMMAND, "down"], check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(home, ignore_errors=True)


def command_line() -> None:
    """Time `--help` against an interpreter that does nothing."""
    bare = [seconds([sys.executable, "-c", "pass"]) for _ in range(7)]
    print("| command | seconds (median of 7) | over a bare interpreter |\n|---|---|---|")
    for arguments in (["--help"], ["submit", "--help"], ["--version"]):
        taken = [seconds([COMMAND, *arguments]) for _ in range(7)]
        middle = statistics.median(taken)
        print(f"| `udt-cluster {' '.join(arguments)}` | {middle:.3f} | {middle / statistics.median(bare):.1f}x |")


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def submissions(home: Path) -> None:
    """Submit the same job several times; the first warms the cluster and is not counted."""
    rows = [one_submission(home) for _ in range(REPEATS + 1)][1:]
    print(f"\n| part | seconds (median of {REPEATS}) |\n|---|---|")
    for part in rows[0]:
        print(f"| {part} | {statistics.median(row[part] for row in rows):.1f} |")


def one_submission(home: Path) -> dict[str, float]:
    """The moments of one job, read from its record every 50 ms."""
    from udt_cluster.cluster.record import list_records
    from udt_cluster.storage import Location

    storage = Location.parse(str(home / "store"))
    before = {record.id for record in list_records(storage)}
    began = time.time()
    process = subprocess.Popen(
        [
            COMMAND,
            "submit",
            "jobs/phantom.yaml",
            "--set",
            f"data.source={home / 'phantoms'}",
            "--set",
            "train.epochs=1",
        ],
        stdout=subprocess.DEVNULL,
    )
    seen: dict[str, float] = {}
    record = None
    while "epoch" not in seen:
        record = record or next((found for found in list_records(storage) if found.id not in before), None)
        if record is not None:
            seen.setdefault("recorded", time.time())
            seen.setdefault(record.state().stage or "waiting", time.time())
            if record.progress():
                seen.setdefault("worker", record.progress()["started"])
                seen.setdefault("epoch", time.time())
        time.sleep(0.05)
    assert process.wait() == 0
    while record is not None and record.state().state == "RUNNING":
        time.sleep(0.2)
    first_step = seen["epoch"] - record.progress()["epoch_seconds"] if record else 0.0
    return {
        "checks of the client (source, storage, MLflow)": seen["recorded"] - began,
        "hand-over to the driver's first line": seen["preflight"] - seen["recorded"],
        "preflight on the nodes": seen["prepare"] - seen["preflight"],
        "prepare (the version is there)": seen["train"] - seen["prepare"],
        "placement of two workers": seen["worker"] - seen["train"],
        "imports, model, DeepSpeed, in the worker": first_step - seen["worker"],
        "submit to first step": first_step - began,
    }


if __name__ == "__main__":
    main()
