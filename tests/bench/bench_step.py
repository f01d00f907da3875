"""Step time of the DeepSpeed engine that `fit` uses, against the same model in a bare torch loop.

    python tests/bench/bench_step.py --architecture unet --size 128 --batch 4 --steps 20

Both do the same work on the same batches with the same threads: forward, the job's loss, backward, Adam, and the loss
read back once a step. They take turns, step by step, so that whatever else the machine does falls on both. The first
steps are not counted. Prints a Markdown table; `step_times` is what other benchmarks (under Ray) call.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from udt_cluster.config.job import ModelConfig, TrainConfig
from udt_cluster.models import build_model
from udt_cluster.training import DeepSpeedEngine, loss_function
from udt_cluster.training.protocols import LossFunction


@dataclass(frozen=True)
class Samples:
    """One micro-batch of random pixels."""

    images: Tensor
    labels: Tensor
    samples: Tensor


@dataclass(frozen=True)
class Seconds:
    """Of one step: by the clock, and of this process's CPU time, which a busy machine disturbs less."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class StepTimes:
    """Times per step of both, in the order in which they were taken."""

    engine: list[Seconds]
    bare: list[Seconds]

    @property
    def ratio(self) -> float:
        """Median over the pairs of engine time / bare time: neighbours in time are compared with each other."""
        return statistics.median(e.wall / b.wall for e, b in zip(self.engine, self.bare, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU time."""
        return statistics.median(e.cpu / b.cpu for e, b in zip(self.engine, self.bare, strict=True))


def step_times(
    *, architecture: str, size: int, batch: int, steps: int, device: torch.device, warm_up: int = 3
) -> StepTimes:
    """Time both loops on one worker."""
    config = TrainConfig(global_batch_size=batch, precision="fp32")
    loss = loss_function(None, num_classes=2)
    engine = DeepSpeedEngine(_model(architecture), config, device=device, seed=1)
    one = bare_step(_model(architecture).to(device), config, loss)
    times = StepTimes([], [])
    for number in range(warm_up + steps):
        samples = random_batch(batch, size, device, seed=number)
        pair = [
            (times.engine, lambda samples=samples: engine.step([samples], loss)),
            (times.bare, lambda samples=samples: one(samples)),
        ]
        for seconds, step in pair if number % 2 else reversed(pair):  # neither is always the first
            took = timed(step, device)
            if number >= warm_up:
                seconds.append(took)
    engine.close()
    return times


def bare_step(model: nn.Module, config: TrainConfig, loss: LossFunction) -> Callable[[Samples], float]:
    """A training step as one writes it by hand."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)

    def step(samples: Samples) -> float:
        value = loss(model(samples.images), samples.labels)["loss"]
        value.backward()
        optimizer.step()
        optimizer.zero_grad()  # here, as in DeepSpeed: neither has gradients in memory while the other runs
        return value.item()

    return step


def random_batch(batch: int, size: int, device: torch.device, *, seed: int) -> Samples:
    """Images (B,3,S,S) and binary labels (B,S,S)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, size, size, generator=generator)
    labels = torch.randint(0, 2, (batch, size, size), generator=generator)
    return Samples(images.to(device), labels.to(device), torch.arange(batch))


def timed(step: Callable[[], object], device: torch.device) -> Seconds:
    """Time one step, the device's work included."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _model(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(architecture=architecture), in_channels=3, num_classes=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="unet", choices=["unet", "r34_unet", "udtransnet"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times = step_times(
        architecture=options.architecture,
        size=options.size,
        batch=options.batch,
        steps=options.steps,
        device=torch.device(options.device),
    )
    print(
        "| model | input | threads | bare torch, s/step | DeepSpeed engine, s/step | ratio (goal <= 1.05) "
        "| ratio of CPU time |"
    )
    print("|---|---|---|---|---|---|---|")
    shape = f"{options.batch} x 3 x {options.size} x {options.size}"
    bare, engine = (statistics.median(one.wall for one in of) for of in (times.bare, times.engine))
    measured = f"{bare:.3f} | {engine:.3f} | {times.ratio:.3f} | {times.cpu_ratio:.3f}"
    print(f"| {options.architecture} | {shape} | {options.threads} | {measured} |")


if __name__ == "__main__":
    main()
