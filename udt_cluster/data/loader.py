"""Batches from a store: raw samples read ahead by threads, augmented and normalised on the training device.

There are no worker processes: decompression, checksums and copies release the GIL, and moving arrays between processes
costs more than making them. The global batches of an epoch are a function of (seed, epoch) alone; ranks take slices.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from udt_cluster.data.augment import RECIPES, augment
from udt_cluster.data.cache import SampleCache, shard_bytes
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.order import BatchPlan, Indices, Window, case_samples, epoch_order, rank_cases, without_empty
from udt_cluster.data.reader import RawBatch, SampleReader
from udt_cluster.data.store import DataStore
from udt_cluster.errors import DataError

CACHE_BYTES = 4 * 10**9


@dataclass(frozen=True)
class Batch:
    """One micro-batch of training.

    Attributes:
        images: Augmented, normalised; float32 (B, C, H, W) on the device, C with the neighbouring slices.
        labels: Class indices; int64 (B, H, W) on the device.
        samples: Sample indices in the store; int64 (B,), on the host.
    """

    images: Tensor
    labels: Tensor
    samples: Indices


@dataclass(frozen=True)
class EvalBatch:
    """One batch of evaluation, nothing augmented.

    Attributes:
        images: Normalised; float32 (B, C, H, W) on the device, C with the neighbouring slices.
        labels: Class indices at the store's size; int64 (B, H, W) on the device.
        case: Index of each sample's case in the store's case table; int64 (B,), on the host.
        slice: Slice number of each sample within its case; int64 (B,), on the host.
        context_slices: Neighbours on each side among the channels.
    """

    images: Tensor
    labels: Tensor
    case: Indices
    slice: Indices
    context_slices: int = 0

    @property
    def shown(self) -> Tensor:
        """The images without their neighbours, for people to look at."""
        channels = self.images.shape[1] // (2 * self.context_slices + 1)
        start = channels * self.context_slices
        return self.images[:, start : start + channels]


class TrainLoader:
    """Training batches of one rank.

    Order and augmentation follow from (seed, epoch, sample) and the arguments alone: the union of the ranks' batches of
    a step is the same, bit for bit, for any `world_size`, `micro_batch_size`, `threads` and whatever room a node has.
    Every epoch is a full shuffle where the decoded training set fits `cache_bytes`, else a shuffle within windows of
    half as many shards (:class:`order.Window` says how good that is).

    Args:
        store: The data-set version.
        cases: Indices of the training cases in its case table.
        normalization: Of the stored channels; applied after augmentation, so that zeros rotated in are the source's.
        global_batch_size: Samples per optimizer step over all ranks.
        micro_batch_size: Samples per forward pass of one rank.
        rank: Of this process, 0..world_size-1.
        world_size: Number of ranks.
        seed: Of order, augmentation and the choice of empty slices.
        augment: A recipe of `augment.RECIPES`.
        device: Where batches end up.
        empty_slices: Samples without foreground: all, none, or this share of them, the same ones in every epoch.
        context_slices: Neighbours on each side as channels: those before, the sample, those after; ends repeat.
        cache_bytes: Decoded samples that a node keeps for all its processes.
        cache_dir: Folder on a local disk for what does not fit into shared memory; by default that of temporary files.
        threads: Threads that fetch and decode shards ahead of use; 0 reads when a batch is asked for.
        cache: Share this one (with the validation loader, say) instead of making one.

    Raises:
        DataError: fewer training samples than one global batch.
        UdtError: there is no room for a cache at all.
        ValueError: batch sizes and `world_size` do not divide each other, or an unknown recipe.
    """

    def __init__(
        self,
        store: DataStore,
        cases: Sequence[int],
        *,
        normalization: Normalization,
        global_batch_size: int,
        micro_batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        augment: str,
        device: torch.device | str,
        empty_slices: Literal["keep", "drop"] | float = "keep",
        context_slices: int = 0,
        cache_bytes: int = CACHE_BYTES,
        cache_dir: Path | None = None,
        threads: int = 4,
        cache: SampleCache | None = None,
    ) -> None:
        if augment not in RECIPES:
            raise ValueError(f"augment={augment!r}; allowed: {', '.join(sorted(RECIPES))}")
        self._plan = BatchPlan(
            global_batch_size=global_batch_size, micro_batch_size=micro_batch_size, rank=rank, world_size=world_size
        )
        every = case_samples(store.cases, cases)
        self._samples = without_empty(every, store.sample_foreground, keep=empty_slices, seed=seed)
        if len(self._samples) < global_batch_size:
            raise _too_few(store, len(cases), len(every), len(self._samples), global_batch_size)
        self._window = Window.for_cache(
            every if context_slices else self._samples,
            shard_samples=store.info.shard_samples,
            capacity=cache_bytes // shard_bytes(store),
            context=context_slices > 0,
        )
        self.cache = cache or SampleCache(store, capacity_bytes=cache_bytes, folder=cache_dir)
        self._reader = SampleReader(
            self.cache,
            device=torch.device(device),
            threads=threads,
            context_slices=context_slices,
            once=self._window is not None,
        )
        self._normalization = _with_context(normalization, context_slices)
        self._seed, self._recipe = seed, augment
        self.wait_seconds = 0.0
        """Time that the consumer has waited for batches since the present epoch began."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the incomplete last global batch is dropped."""
        return self._plan.steps(len(self._samples))

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step over all ranks."""
        return self._plan.global_batch_size

    def epoch(self, epoch: int, *, start_step: int = 0) -> Generator[list[Batch], None, None]:
        """Yield the micro-batches of each optimizer step. Closing the generator early ends its threads.

        Args:
            epoch: Counted from 0.
            start_step: First step; what lies before it is not read.

        Raises:
            ValueError: the epoch has no such step.
            UdtError: the store could not be read (with the reading thread's traceback).
        """
        if not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(f"start_step={start_step} is not in 0..{self.steps_per_epoch}")
        return self._epoch(epoch, start_step)

    def close(self) -> None:
        """Let go of the cache; on a node it is removed with its last user."""
        self.cache.close()

    def _epoch(self, epoch: int, start_step: int) -> Generator[list[Batch], None, None]:
        order = epoch_order(self._samples, seed=self._seed, epoch=epoch, window=self._window)
        everyone = self._plan.global_samples(order, start_step)
        reading = self._reader.read(
            self._plan.local_samples(everyone),
            self._plan.local_batch_size,
            everyone=everyone,
            ranks=self._plan.world_size,
        )
        self.wait_seconds = 0.0
        with closing(reading) as raw_batches:
            began = time.perf_counter()
            for raw in raw_batches:
                micro_batches = self._finish(raw, epoch)
                self.wait_seconds += time.perf_counter() - began
                yield micro_batches
                began = time.perf_counter()

    def _finish(self, raw: RawBatch, epoch: int) -> list[Batch]:
        """One transfer, then augmentation and normalisation per micro-batch."""
        local, size = self._reader.to_device(raw), self._plan.micro_batch_size
        batches = []
        for start in range(0, len(local.samples), size):
            part = slice(start, start + size)
            images, labels = augment(
                local.images[part],
                local.labels[part],
                recipe=self._recipe,
                seed=self._seed,
                epoch=epoch,
                samples=local.samples[part],
                normalization=self._normalization,
            )
            batches.append(Batch(self._normalization(images), labels.long(), local.samples[part]))
        return batches


class EvalLoader:
    """Every sample of the given cases once, over all ranks; a group's (patient's) cases on one rank, slices in order.

    Groups are balanced by number of samples, so ranks have different numbers of batches, some perhaps none; who needs
    equal numbers of forward passes for its collectives fills up to `num_batches_max`.

    Args:
        store: The data-set version.
        cases: Indices of the cases in its case table.
        normalization: As in training.
        batch_size: Samples per forward pass; the last batch of a rank may be smaller.
        rank: Of this process.
        world_size: Number of ranks.
        device: Where batches end up.
        context_slices: As in training.
        cache_bytes: Decoded samples that a node keeps for all its processes.
        cache_dir: As in training.
        threads: As in training.
        cache: Share this one instead of making one. What only evaluation reads leaves it before all else.
    """

    def __init__(
        self,
        store: DataStore,
        cases: Sequence[int],
        *,
        normalization: Normalization,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        context_slices: int = 0,
        cache_bytes: int = CACHE_BYTES,
        cache_dir: Path | None = None,
        threads: int = 4,
        cache: SampleCache | None = None,
    ) -> None:
        assigned = rank_cases(store.cases, cases, world_size=world_size)
        counts = [sum(int(store.cases.num_samples[case]) for case in members) for members in assigned]
        self.cases: tuple[int, ...] = tuple(assigned[rank])
        """This rank's cases, in the order in which they come."""
        self.num_samples = counts[rank]
        """This rank's samples."""
        self.num_batches = -(-counts[rank] // batch_size)
        """This rank's batches."""
        self.num_batches_max = -(-max(counts) // batch_size)
        """Batches of the rank that has most."""
        self._batch_size = batch_size
        self._store = store
        self._context_slices = context_slices
        self._samples = case_samples(store.cases, self.cases)
        self.cache = cache or SampleCache(store, capacity_bytes=cache_bytes, folder=cache_dir)
        self._reader = SampleReader(
            self.cache, device=torch.device(device), threads=threads, context_slices=context_slices, passing=True
        )
        self._normalization = _with_context(normalization, context_slices)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Generator[EvalBatch, None, None]:
        with closing(self._reader.read(self._samples, self._batch_size)) as raw_batches:
            for raw in raw_batches:
                local = self._reader.to_device(raw)
                yield EvalBatch(
                    images=self._normalization(local.images),
                    labels=local.labels.long(),
                    case=self._store.sample_case[raw.samples].astype(np.int64),
                    slice=self._store.sample_slice[raw.samples].astype(np.int64),
                    context_slices=self._context_slices,
                )


def _with_context(normalization: Normalization, context_slices: int) -> Normalization:
    return normalization.with_context(context_slices) if context_slices else normalization


def _too_few(store: DataStore, cases: int, every: int, left: int, global_batch_size: int) -> DataError:
    smaller = f"set it to at most {left}, or add training cases" if left else "add training cases"
    dropped = f", {every - left} more without foreground are left out by data.empty_slices" if every > left else ""
    return DataError(
        f"train.global_batch_size={global_batch_size}, but the training split of {store.info.dataset} has only "
        f"{left} samples ({cases} cases{dropped}); {smaller}"
    )
