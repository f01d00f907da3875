"""What checkpoints cost: how long training stands still, in the background and not, and what they take.

    OMP_NUM_THREADS=1 python tests/bench/bench_checkpoint.py --architecture udtransnet --steps 8

One worker trains a network on random pixels; now and then it saves, to a disk or to a real S3 server on the same cores,
once in the background (as `fit` does) and once waiting for the COMMIT. "Stall" is the time for which the training
thread stands still in a save. "Step beside an upload" is the median step time while an upload is under way, against the
steps without one: on the same cores both share the processor. CPU seconds of the training thread tell what of a stall
is work: on a busy machine the clock tells more of the others. Shares are of an interval of 10 minutes: of the clock,
stall plus what the slower steps lose; of CPU time, the stall's alone. Prints two Markdown tables.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from tests.bench.bench_step import Samples, random_batch
from tests.servers.swift import SwiftServers, swift_folder
from udt_cluster.config.job import ModelConfig, TrainConfig
from udt_cluster.models import build_model
from udt_cluster.storage import Location
from udt_cluster.training import DeepSpeedEngine, StorageCheckpoints, TrainingState, loss_function

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
INTERVAL = 600.0


@dataclass
class Seconds:
    """Of one way to save, in the order in which they were taken."""

    stalls: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    uploads: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Percent of an interval of 10 minutes that one checkpoint costs."""
        slower = statistics.median(self.beside) / statistics.median(self.alone) - 1 if self.beside else 0.0
        lost = statistics.median(self.stalls) + max(0.0, slower) * statistics.median(self.uploads or [0.0])
        return 100 * lost / INTERVAL

    def row(self, name: str) -> str:
        """A line of the table."""
        beside = f"{statistics.median(self.beside) / statistics.median(self.alone):.2f}" if self.beside else ""
        upload = f"{statistics.median(self.uploads):.2f}" if self.uploads else ""
        cpu = statistics.median(self.cpu)
        stall = f"{statistics.median(self.stalls):.2f} | {max(self.stalls):.2f} | {cpu:.2f}"
        return f"| {name} | {stall} | {upload} | {beside} | {self.share:.2f} % | {100 * cpu / INTERVAL:.3f} % |"


def measure(engine: DeepSpeedEngine, root: Location, *, saves: int, steps: int, samples: Samples) -> dict[str, Seconds]:
    """Train and save; both ways take turns."""
    store = StorageCheckpoints(root, run_id="bench", attempt=0, rank=0, world_size=1, keep=0)
    found, loss, state = (
        {"background": Seconds(), "waiting": Seconds()},
        loss_function(None, num_classes=2),
        TrainingState(),
    )
    for number in range(2 * saves):
        name = "waiting" if number % 2 else "background"
        mine = found[name]
        state = state.after_epoch(step=(number + 1) * steps, metrics={"val_dice": number / 100})
        began, worked = time.perf_counter(), time.thread_time()
        store.save(engine, state, kind="epoch")
        if name == "waiting":
            store.finish(engine)
        mine.stalls.append(time.perf_counter() - began)
        mine.cpu.append(time.thread_time() - worked)
        ended = 0
        while ended < steps:
            step = time.perf_counter()
            busy = store.busy
            engine.step([samples], loss)
            (mine.beside if busy else mine.alone).append(time.perf_counter() - step)
            if busy and not store.busy:
                mine.uploads.append(time.perf_counter() - began)
            ended += not busy
        store.settle(engine)
    store.close()
    return found


def sizes(architecture: str, folder: Path, samples: Samples) -> Iterator[str]:
    """For each ZeRO stage what a checkpoint weighs, against weights, buffers and Adam's two moments."""
    for stage in range(4):
        config = TrainConfig(global_batch_size=len(samples.samples), precision="fp32", zero_stage=stage)
        model = _model(architecture)
        bare = sum(3 * 4 * p.numel() for p in model.parameters()) + sum(b.nbytes for b in model.buffers())
        engine = DeepSpeedEngine(model, config, device=CPU, seed=1)
        engine.step([samples], loss_function(None, num_classes=2))
        place = Location.parse(folder / f"stage-{stage}")
        store = StorageCheckpoints(place, run_id="bench", attempt=0, rank=0, world_size=1, keep=0)
        store.save(engine, TrainingState().within_epoch(step=1, sums={}, seconds=1.0), kind="time")
        store.finish(engine)
        weight = sum(entry.size for entry in place.entries())
        store.close()
        engine.close()
        yield f"| {stage} | {weight / 1e6:.1f} | {bare / 1e6:.1f} | {weight / bare:.3f} |"


def _model(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(architecture=architecture), in_channels=3, num_classes=1)


@contextmanager
def s3_bucket(folder: Path) -> Iterator[Location | None]:
    """A new bucket of a server on these cores; None where it is not installed."""
    programs = swift_folder(REPOSITORY)
    if not (programs / "swift-proxy-server").is_file():
        yield None
        return
    servers = SwiftServers(programs, folder)
    server = servers.start()
    os.environ.update(server.environment)
    try:
        yield Location.parse(f"s3://{server.make_bucket()}/checkpoints")
    finally:
        servers.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="udtransnet", choices=["unet", "r34_unet", "udtransnet"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--saves", type=int, default=4, help="of each kind")
    parser.add_argument("--steps", type=int, default=8, help="between two saves, without an upload beside them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = random_batch(options.batch, options.size, CPU, seed=0)
    config = TrainConfig(global_batch_size=options.batch, precision="fp32")
    engine = DeepSpeedEngine(_model(options.architecture), config, device=CPU, seed=1)
    with tempfile.TemporaryDirectory() as name, s3_bucket(Path(name) / "swift") as bucket:
        places = {"disk": Location.parse(Path(name) / "c"), "S3 (on these cores)": bucket}
        print(
            "| to | stall, s (median) | largest | CPU s of it | upload, s | step beside an upload / alone "
            "| of 10 minutes | by CPU time |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for place, root in places.items():
            if root is None:
                print(f"| {place}: not installed | | | | | | | |")
                continue
            found = measure(engine, root, saves=options.saves, steps=options.steps, samples=samples)
            for way, seconds in found.items():
                print(seconds.row(f"{place}, {way}"))
        engine.close()
        print("\n| ZeRO stage | checkpoint, MB | weights, buffers and Adam's moments, MB | ratio |\n|---|---|---|---|")
        for line in sizes(options.architecture, Path(name), samples):
            print(line)


if __name__ == "__main__":
    main()
