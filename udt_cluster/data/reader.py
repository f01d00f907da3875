"""From an order of samples to raw batches on a device: shards read ahead, batches gathered, both by threads."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udt_cluster.data.cache import SampleCache
from udt_cluster.data.order import Indices, neighbours
from udt_cluster.data.prefetch import ReadAhead, ShardNeeds, prefetched

_AHEAD = 4
"""Batches gathered before they are asked for. One thread gathers: it moves memory, which others would only share."""
# Everything that augmentation's gather and fill know on every device; other source types travel as float32.
_NATIVE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.float32)


@dataclass(frozen=True)
class RawBatch:
    """Samples as they are stored.

    Attributes:
        images: Source precision, (B, C * (2n + 1), H, W): the neighbours before, the sample, those after.
        labels: uint8 (B, H, W).
        samples: Sample indices, int64 (B,), on the host.
    """

    images: Tensor
    labels: Tensor
    samples: Indices


class SampleReader:
    """Reads batches through a cache.

    Args:
        cache: Of the store.
        device: Where batches end up; those for a GPU are gathered in pinned memory.
        threads: Threads that read shards ahead; 0 does everything when a batch is asked for.
        context_slices: Neighbours on each side.
        passing: What is read is wanted once in a while and shall leave the cache first.
        once: Not all fits the cache: a shard that no batch needs any more shall leave it before those to come.
    """

    def __init__(
        self,
        cache: SampleCache,
        *,
        device: torch.device,
        threads: int,
        context_slices: int,
        passing: bool = False,
        once: bool = False,
    ) -> None:
        self.cache = cache
        self.device = device
        self._threads, self._context, self._passing, self._once = threads, context_slices, passing, once
        self._dtype = torch.from_numpy(np.empty(0, np.dtype(cache.store.info.dtype))).dtype

    def read(
        self, samples: Indices, batch_size: int, *, everyone: Indices | None = None, ranks: int = 1
    ) -> Generator[RawBatch, None, None]:
        """Raw batches in host memory, in order.

        Args:
            samples: Of this rank, batch after batch.
            batch_size: Of this rank; the last batch may be smaller.
            everyone: The samples of all ranks, batch after batch: what another one still needs is not pushed out.
            ranks: Their number.
        """
        own = self._shards(samples)
        needs = ShardNeeds.of(own if everyone is None else self._shards(everyone), batch_size * ranks, own)
        with ReadAhead(self.cache, needs, threads=self._threads, passing=self._passing, once=self._once) as ahead:
            batches = self._batches(samples, batch_size, ahead)
            yield from prefetched(self._assemble, batches, threads=min(1, self._threads), ahead=_AHEAD)

    def to_device(self, raw: RawBatch) -> RawBatch:
        """The same on the device, in a type that augmentation can work with."""
        images = raw.images if raw.images.dtype in _NATIVE else raw.images.float()
        return RawBatch(
            images.to(self.device, non_blocking=True), raw.labels.to(self.device, non_blocking=True), raw.samples
        )

    def _batches(self, samples: Indices, batch_size: int, ahead: ReadAhead) -> Iterator[Indices]:
        for number, start in enumerate(range(0, len(samples), batch_size)):
            ahead.advance(number - _AHEAD - 1)  # ranks that train together may be one step apart
            yield samples[start : start + batch_size]

    def _shards(self, samples: Indices) -> Indices:
        rows = self._neighbours(samples, (-self._context, 0, self._context))
        return rows // self.cache.store.info.shard_samples

    def _neighbours(self, samples: Indices, offsets: tuple[int, ...] | range) -> Indices:
        if not self._context:
            return samples[:, None]
        return neighbours(self.cache.store.cases, self.cache.store.sample_case, samples, offsets)

    def _assemble(self, samples: Indices) -> RawBatch:
        info, pinned = self.cache.store.info, self.device.type == "cuda"
        rows = self._neighbours(samples, range(-self._context, self._context + 1))
        images = torch.empty((*rows.shape, info.channels, *info.size), dtype=self._dtype, pin_memory=pinned)
        labels = torch.empty((len(samples), *info.size), dtype=torch.uint8, pin_memory=pinned)
        self.cache.gather(rows, images.numpy(), labels.numpy(), passing=self._passing)
        return RawBatch(images.flatten(1, 2), labels, samples)
