"""Small collaborators of the training loop: data in memory, a bare torch engine, a reporter that remembers."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from udt_cluster.config.job import TrainConfig
from udt_cluster.training import recipe, snapshot
from udt_cluster.training.protocols import Kind, LossFunction, NonFiniteLossError, StepResult
from udt_cluster.training.state import TrainingState

SIZE = 16


@dataclass(frozen=True)
class Samples:
    images: Tensor
    labels: Tensor
    samples: np.ndarray
    case: np.ndarray
    slice: np.ndarray

    @property
    def shown(self) -> Tensor:
        return self.images

    def take(self, indices: Sequence[int] | np.ndarray) -> "Samples":
        chosen = np.asarray(indices, dtype=np.int64)
        return Samples(
            self.images[chosen], self.labels[chosen], self.samples[chosen], self.case[chosen], self.slice[chosen]
        )


def blobs(count: int, *, slices_per_case: int = 2, num_classes: int = 2, seed: int = 0) -> Samples:
    """Bright squares on noise: something that a small network learns in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 1, SIZE, SIZE, generator=generator)
    labels = torch.zeros(count, SIZE, SIZE, dtype=torch.int64)
    for index in range(count):
        top, left = torch.randint(0, SIZE - 8, (2,), generator=generator).tolist()
        value = 1 + index % (num_classes - 1)
        images[index, 0, top : top + 8, left : left + 8] += value
        labels[index, top : top + 8, left : left + 8] = value
    numbers = np.arange(count)
    return Samples(images, labels, numbers, numbers // slices_per_case, numbers % slices_per_case)


def tiny_net(channels_out: int = 1, *, seed: int = 0) -> nn.Module:
    """Everything that makes a resume hard: batch normalisation and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, channels_out, 1)
    )


class MemoryTrain:
    """Global batches that depend on (seed, epoch) alone, a contiguous slice of each per rank."""

    def __init__(
        self, data: Samples, *, global_batch_size: int, micro_batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.data, self.batch, self.micro = data, global_batch_size, micro_batch_size
        self.rank, self.world_size = rank, world_size
        self.steps_per_epoch = len(data.samples) // global_batch_size
        self.wait_seconds = 0.0
        self.seen: list[tuple[int, list[int]]] = []

    def epoch(self, epoch: int, *, start_step: int = 0) -> Generator[Sequence[Samples], None, None]:
        order = np.random.default_rng([7, epoch]).permutation(len(self.data.samples))
        share = self.batch // self.world_size
        for step in range(start_step, self.steps_per_epoch):
            start = step * self.batch + self.rank * share
            mine = order[start : start + share]
            self.seen.append((epoch, mine.tolist()))
            yield [self.data.take(mine[at : at + self.micro]) for at in range(0, share, self.micro)]


class MemoryEval:
    """Cases dealt out to the ranks in turn; `num_batches_max` is that of rank 0."""

    def __init__(self, data: Samples, *, batch_size: int = 4, rank: int = 0, world_size: int = 1) -> None:
        cases = sorted(set(data.case.tolist()))
        shares = [np.flatnonzero(np.isin(data.case, cases[r::world_size])) for r in range(world_size)]
        self.data, self.batch = data.take(shares[rank]), batch_size
        self.num_batches_max = max(-(-len(share) // batch_size) for share in shares)

    def __iter__(self) -> Generator[Samples, None, None]:
        for start in range(0, len(self.data.samples), self.batch):
            yield self.data.take(range(start, min(start + self.batch, len(self.data.samples))))


class TorchEngine:
    """The Engine protocol in plain torch on one process: what DeepSpeed must agree with."""

    rank, world_size, zero_stage = 0, 1, 0

    def __init__(self, model: nn.Module, config: TrainConfig, *, seed: int = 0) -> None:
        self.module = model
        self.optimizer = recipe.build_optimizer(model.parameters(), config)
        self.clipping = config.gradient_clipping
        self.syncs = 0
        snapshot.seed_all(seed)

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(
        self, micro_batches: Sequence[Samples], loss_function: LossFunction, flags: Sequence[bool] = ()
    ) -> StepResult:
        self.module.train()
        self.optimizer.zero_grad()
        sums: dict[str, float] = {}
        for batch in micro_batches:
            losses = loss_function(self.module(batch.images), batch.labels)
            (losses["loss"] / len(micro_batches)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item() / len(micro_batches)
        if not np.isfinite(list(sums.values())).all():
            raise NonFiniteLossError(sums, [int(s) for batch in micro_batches for s in batch.samples])
        if self.clipping:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clipping)
        self.optimizer.step()
        return StepResult(losses=sums, flags=tuple(flags))

    def predict(self, images: Tensor) -> Tensor:
        self.module.eval()
        with torch.no_grad():
            logits: Tensor = self.module(images)
        return logits.float()

    def pad_forwards(self, count: int) -> None:
        assert count >= 0

    def sync_buffers(self) -> None:
        self.syncs += 1

    def memory_gb(self) -> float:
        return 0.5

    def save(self, folder: Path) -> None:
        snapshot.save_weights(self.module.state_dict(), folder)
        snapshot.save_optimizer(self.optimizer, self.module, folder)
        snapshot.save_rank_state(self.module, folder, rank=0)

    def load(self, folder: Path) -> None:
        snapshot.load_weights(self.module, folder)
        snapshot.load_optimizer(self.optimizer, self.module, folder)
        snapshot.load_rank_state(self.module, folder, rank=0, saved_ranks=1, ranks=1, seed=0)

    def barrier(self) -> None:
        return None

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value]


class Remembered:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int, dict[str, float]]] = []
        self.pictures: list[tuple[str, bytes, int]] = []

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append((epoch, step, dict(metrics)))

    def picture(self, name: str, png: bytes, step: int) -> None:
        self.pictures.append((name, png, step))


class FolderCheckpoints:
    """A checkpoint store on a disk without any of the safety, and without a background."""

    busy = failed = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.saved: list[tuple[int, int, Kind]] = []
        """(finished epochs, steps, kind)"""
        self.settled = 0

    def save(self, engine: Any, state: TrainingState, *, kind: Kind, beat: Callable[[], None]) -> None:
        folder = self.root / f"{state.step:08d}-{state.epoch:04d}"
        folder.mkdir()
        engine.save(folder)
        (folder / "state.json").write_text(state.to_json())
        self.saved.append((state.epoch, state.step, kind))

    def restore(self, engine: Any) -> TrainingState | None:
        folders = sorted(self.root.iterdir())
        if not folders:
            return None
        engine.load(folders[-1])
        return TrainingState.from_json((folders[-1] / "state.json").read_text())

    def settle(self, engine: Any, *, beat: Callable[[], None]) -> None:
        self.settled += 1

    def finish(self, engine: Any, *, beat: Callable[[], None]) -> None:
        beat()
