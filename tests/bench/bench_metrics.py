"""What a thousand metrics a second cost a training process: MLflow up, refusing, hanging.

    OMP_NUM_THREADS=1 python tests/bench/bench_metrics.py [--points 10000]

The time of the calls in the training thread, and the processor time of the log's own threads meanwhile.
"""

import argparse
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers.mlflow import MlflowServer
from udt_cluster.tracking import MetricLog, Tracker, server_command

RATE = 1000
WARM_UP = 50
HEAD = "MLflow | a call, us, p50 | p99 | 50 calls, of a step of 50 ms | the log's threads, of a core | left"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    points: int = parser.parse_args().points
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    os.environ["UDT_HOME"] = str(home)
    server = MlflowServer(home)
    server.command, server.environment = server_command(home, server.port)
    try:
        run_id = Tracker(server.start().uri).start_parent("bench", "metrics")
        print(f"| {HEAD} | close, s |\n|---|---:|---:|---:|---:|---:|---:|")
        measure("answers", MetricLog(server.uri, run_id, home / "a"), points)
        server.stop()
        measure("refuses", MetricLog(server.uri, run_id, home / "b"), points)
        with silent(server.port):
            measure("hangs", MetricLog(server.uri, run_id, home / "c"), points)
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def silent(port: int) -> Iterator[None]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", port), backlog=256):
        yield


def measure(name: str, log: MetricLog, points: int) -> None:
    """Log so many points at the rate of a burst, after some that warm the connection up."""
    for step in range(WARM_UP):
        log.log(step, {"loss": 0.5})
    time.sleep(2)
    calls: list[float] = []
    process, thread, began = time.process_time(), time.thread_time(), time.perf_counter()
    for step in range(WARM_UP, WARM_UP + points):
        before = time.perf_counter()
        log.log(step, {"loss": 0.5})
        calls.append(time.perf_counter() - before)
        if (ahead := began + len(calls) / RATE - time.perf_counter()) > 0:
            time.sleep(ahead)
    behind = (time.process_time() - process) - (time.thread_time() - thread)
    closing = time.perf_counter()
    left = log.close(timeout=60 if name == "answers" else 2)
    closing = time.perf_counter() - closing
    calls.sort()
    middle, high = statistics.median(calls) * 1e6, calls[int(0.99 * points)] * 1e6
    shares = f"{50 * middle / 50_000:.2%} | {behind / (points / RATE):.2%}"
    print(f"| {name} | {middle:.1f} | {high:.0f} | {shares} | {left} of {points + WARM_UP} | {closing:.1f} |")


if __name__ == "__main__":
    main()
