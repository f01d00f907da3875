"""Batches from a store: raw samples read ahead by threads, augmented and normalised on the training device.

There are no worker processes: decompression, checksums and copies release the GIL, and moving arrays between processes
costs more than making them. The global batches of an epoch are a function of (seed, epoch) alone; ranks take slices.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udt_cluster.data.augment import RECIPES, augment
from udt_cluster.data.cache import SampleCache
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.order import BatchPlan, Indices, case_samples, epoch_order, rank_cases
from udt_cluster.data.prefetch import prefetched
from udt_cluster.data.store import DataStore
from udt_cluster.errors import DataError

GIB = 2**30
# Everything that augmentation's gather and fill know on every device; other source types travel as float32.
_NATIVE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.float32)


@dataclass(frozen=True)
class Batch:
    """One micro-batch of training.

    Attributes:
        images: Augmented, normalised; float32 (B, C, H, W) on the device.
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
        images: Normalised; float32 (B, C, H, W) on the device.
        labels: Class indices at the store's size; int64 (B, H, W) on the device.
        case: Index of each sample's case in the store's case table; int64 (B,), on the host.
        slice: Slice number of each sample within its case; int64 (B,), on the host.
    """

    images: Tensor
    labels: Tensor
    case: Indices
    slice: Indices


@dataclass(frozen=True)
class _RawBatch:
    """Samples as they are stored, in host memory (pinned where the device is a GPU)."""

    images: Tensor
    labels: Tensor
    samples: Indices


class _Reader:
    """From sample indices to raw tensors on a device."""

    def __init__(self, cache: SampleCache, *, device: torch.device, threads: int) -> None:
        self.cache = cache
        self.device = device
        self._threads = threads
        info = cache.store.info
        self._sample_shape = (info.channels, *info.size)
        self._dtype = torch.from_numpy(np.empty(0, np.dtype(info.dtype))).dtype

    def read(self, batches: Iterable[Indices]) -> Generator[_RawBatch, None, None]:
        """Raw batches in order, read ahead by the threads."""
        return prefetched(self._assemble, batches, threads=self._threads, ahead=2 * self._threads)

    def _assemble(self, samples: Indices) -> _RawBatch:
        pinned = self.device.type == "cuda"
        shape = (len(samples), *self._sample_shape)
        images = torch.empty(shape, dtype=self._dtype, pin_memory=pinned)
        labels = torch.empty((shape[0], *shape[2:]), dtype=torch.uint8, pin_memory=pinned)
        self.cache.gather(samples, images.numpy(), labels.numpy())
        return _RawBatch(images, labels, samples)

    def to_device(self, raw: _RawBatch) -> _RawBatch:
        images = raw.images if raw.images.dtype in _NATIVE else raw.images.float()
        return _RawBatch(
            images.to(self.device, non_blocking=True), raw.labels.to(self.device, non_blocking=True), raw.samples
        )


class TrainLoader:
    """Training batches of one rank.

    Order and augmentation follow from (seed, epoch, sample) alone: the union of the ranks' batches of a step is the
    same, bit for bit, for any `world_size`, `micro_batch_size` and `threads`. Every epoch is a full shuffle. A data set
    larger than `cache_bytes` works the same and is slower: then single samples are read instead of whole shards.

    Args:
        store: The data-set version.
        cases: Indices of the training cases in its case table.
        normalization: Applied after augmentation, so that zeros rotated in are the source's zeros.
        global_batch_size: Samples per optimizer step over all ranks.
        micro_batch_size: Samples per forward pass of one rank.
        rank: Of this process, 0..world_size-1.
        world_size: Number of ranks.
        seed: Of order and augmentation.
        augment: A recipe of `augment.RECIPES`.
        device: Where batches end up.
        cache_bytes: Memory of this process for decoded samples.
        threads: Threads that read ahead; 0 reads when a batch is asked for.
        cache: Share this one (with the validation loader, say) instead of making one of `cache_bytes`.

    Raises:
        DataError: fewer training samples than one global batch.
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
        cache_bytes: int = 2 * GIB,
        threads: int = 2,
        cache: SampleCache | None = None,
    ) -> None:
        if augment not in RECIPES:
            raise ValueError(f"augment={augment!r}; allowed: {', '.join(sorted(RECIPES))}")
        self._samples = case_samples(store.cases, cases)
        if len(self._samples) < global_batch_size:
            raise DataError(
                f"train.global_batch_size={global_batch_size}, but the training split of {store.info.dataset} has only "
                f"{len(self._samples)} samples ({len(cases)} cases); {_smaller_batch(len(self._samples))}"
            )
        self._plan = BatchPlan(
            global_batch_size=global_batch_size, micro_batch_size=micro_batch_size, rank=rank, world_size=world_size
        )
        self.cache = cache or SampleCache.for_samples(store, self._samples, capacity_bytes=cache_bytes)
        self._reader = _Reader(self.cache, device=torch.device(device), threads=threads)
        self._normalization = normalization
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

    def _epoch(self, epoch: int, start_step: int) -> Generator[list[Batch], None, None]:
        order = epoch_order(self._samples, seed=self._seed, epoch=epoch)
        steps = (self._plan.local_samples(order, step) for step in range(start_step, self.steps_per_epoch))
        self.wait_seconds = 0.0
        with closing(self._reader.read(steps)) as raw_batches:
            began = time.perf_counter()
            for raw in raw_batches:
                micro_batches = self._finish(raw, epoch)
                self.wait_seconds += time.perf_counter() - began
                yield micro_batches
                began = time.perf_counter()

    def _finish(self, raw: _RawBatch, epoch: int) -> list[Batch]:
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
        cache_bytes: Memory for decoded samples, kept between passes.
        threads: Threads that read ahead; 0 reads when a batch is asked for.
        cache: Share this one instead of making one of `cache_bytes`.
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
        cache_bytes: int = GIB,
        threads: int = 2,
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
        self._samples = case_samples(store.cases, self.cases)
        cache = cache or SampleCache(store, capacity_bytes=cache_bytes, block_samples=store.info.shard_samples)
        self._reader = _Reader(cache, device=torch.device(device), threads=threads)
        self._normalization = normalization

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Generator[EvalBatch, None, None]:
        starts = range(0, len(self._samples), self._batch_size)
        batches = (self._samples[start : start + self._batch_size] for start in starts)
        with closing(self._reader.read(batches)) as raw_batches:
            for raw in raw_batches:
                local = self._reader.to_device(raw)
                yield EvalBatch(
                    images=self._normalization(local.images),
                    labels=local.labels.long(),
                    case=self._store.sample_case[raw.samples].astype(np.int64),
                    slice=self._store.sample_slice[raw.samples].astype(np.int64),
                )


def _smaller_batch(samples: int) -> str:
    return f"set it to at most {samples}, or add training cases" if samples else "add training cases"
