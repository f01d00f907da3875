"""Which samples make up which batch of which rank: pure functions of seeds and ids, never of time or listings."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from udt_cluster.data.schema import CaseTable

Indices = NDArray[np.int64]
_EMPTY = 1  # of the random numbers that choose empty slices, apart from those of the epochs


def balanced_parts(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Share items among `parts` with sums of sizes that differ little: largest first, each to the lightest part.

    Ties go to the earlier item and to the lower part, so the answer depends on nothing but the arguments.

    Args:
        sizes: Size of each item.
        parts: Number of parts.

    Returns:
        For each part the positions of its items in `sizes`, ascending. Parts are empty where items are too few.
    """
    loads = [(0, part) for part in range(parts)]
    members: list[list[int]] = [[] for _ in range(parts)]
    for item in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        load, part = heapq.heappop(loads)
        members[part].append(item)
        heapq.heappush(loads, (load + sizes[item], part))
    return [sorted(items) for items in members]


def case_samples(cases: CaseTable, selection: Sequence[int]) -> Indices:
    """Sample indices of the selected cases, ascending, whatever order the cases are named in.

    Args:
        cases: The store's case table.
        selection: Indices into it, each once.
    """
    first, count = cases.first_sample, cases.num_samples
    ranges = [np.arange(first[case], first[case] + count[case], dtype=np.int64) for case in selection]
    return np.sort(np.concatenate(ranges)) if ranges else np.empty(0, np.int64)


def rank_cases(cases: CaseTable, selection: Sequence[int], *, world_size: int) -> list[list[int]]:
    """Give whole groups (patients) to ranks, balanced by number of samples; a pure function of the group ids.

    Returns:
        For each rank its case indices in the order of their first sample. With fewer groups than ranks some are empty.
    """
    groups: dict[str, list[int]] = {}
    for case in sorted(selection, key=lambda case: int(cases.first_sample[case])):
        groups.setdefault(cases.groups[case], []).append(case)
    names = sorted(groups)
    sizes = [sum(int(cases.num_samples[case]) for case in groups[name]) for name in names]
    parts = balanced_parts(sizes, world_size)
    return [
        sorted((case for item in part for case in groups[names[item]]), key=lambda case: int(cases.first_sample[case]))
        for part in parts
    ]


def without_empty(
    samples: Indices, foreground: NDArray[np.int32], *, keep: Literal["keep", "drop"] | float, seed: int
) -> Indices:
    """The samples that a run trains on: all with foreground, and of the empty ones as many as `keep` says.

    Which empty ones stay is drawn once for the run, from the seed and the set of empty samples.

    Args:
        samples: Sample indices, ascending.
        foreground: Foreground pixels of every sample of the store.
        keep: All, none, or this share of the empty ones.
        seed: Of the run.
    """
    if keep == "keep":
        return samples
    empty = samples[foreground[samples] == 0]
    share = 0.0 if keep == "drop" else float(keep)
    drawn = np.random.default_rng([seed, 0, _EMPTY]).permutation(empty)[round(share * len(empty)) :]
    return np.setdiff1d(samples, drawn, assume_unique=True)


def neighbours(cases: CaseTable, sample_case: NDArray[np.int32], samples: Indices, offsets: Sequence[int]) -> Indices:
    """Rows of the slices at these offsets from each sample, within its case: the ends repeat.

    Args:
        cases: The store's case table.
        sample_case: The case of every sample of the store.
        samples: Sample indices, shape (B,).
        offsets: In slices, K of them.

    Returns:
        Shape (B, K).
    """
    case = sample_case[samples]
    first = cases.first_sample[case][:, None]
    rows = samples[:, None] + np.asarray(offsets, np.int64)
    return np.clip(rows, first, first + cases.num_samples[case][:, None] - 1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A shuffle for data larger than the cache: shards come in random order, so many at a time, mixed among themselves.

    Where a full shuffle draws a batch from all T shards, this draws it from `shards` of them, other ones in each epoch:
    two samples of one shard meet in a batch T / `shards` times as often. With 100 shards of 100 samples in the window
    and batches of 32 that is 5 pairs in a batch, whatever T is; data whose neighbouring samples are alike (the slices
    of a volume) want a window of many volumes. Every sample comes once an epoch, and every shard is read once.

    Attributes:
        shards: Shards in a window.
        shard_samples: Samples in a shard.
        run: So many neighbouring shards always come together.
    """

    shards: int
    shard_samples: int
    run: int = 1

    @classmethod
    def for_cache(cls, rows: Indices, *, shard_samples: int, capacity: int, context: bool) -> "Window | None":
        """The window for data of which `capacity` shards can be kept; None where all fit.

        It is half of that, so that the next window can be read while this one is used. With neighbouring slices, shards
        come in runs of 8: the neighbours that lie in a shard outside of the window are few.

        Args:
            rows: All samples that will be read.
            shard_samples: Samples in a shard.
            capacity: Shards.
            context: Whether neighbouring slices are read too.
        """
        if len(np.unique(rows // shard_samples)) <= capacity:
            return None
        shards = max(1, capacity // 2)
        return cls(shards=shards, shard_samples=shard_samples, run=min(8, shards) if context else 1)


def epoch_order(samples: Indices, *, seed: int, epoch: int, window: Window | None = None) -> Indices:
    """The order of one epoch, which depends on the arguments alone.

    Args:
        samples: Their set; the order in which they are given does not matter.
        seed: Of the run.
        epoch: Counted from 0.
        window: None for a full shuffle.
    """
    rng, samples = np.random.default_rng([seed, epoch]), np.sort(samples)
    if window is None:
        return rng.permutation(samples)
    runs, run_of_sample = np.unique(samples // (window.shard_samples * window.run), return_inverse=True)
    place = rng.permutation(len(runs))[run_of_sample]
    return samples[np.lexsort((rng.permutation(len(samples)), place // max(1, window.shards // window.run)))]


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How a global batch is cut: over ranks in contiguous slices, each slice in micro-batches.

    Raises:
        ValueError: the numbers do not divide each other.
    """

    global_batch_size: int
    micro_batch_size: int
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} is not in 0..{self.world_size - 1}")
        if self.global_batch_size % (self.world_size * self.micro_batch_size):
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is no multiple of world_size={self.world_size} "
                f"* micro_batch_size={self.micro_batch_size}"
            )

    @property
    def local_batch_size(self) -> int:
        """Samples of one rank per optimizer step."""
        return self.global_batch_size // self.world_size

    def steps(self, samples: int) -> int:
        """Whole global batches in so many samples; what is left over waits for the next epoch's shuffle."""
        return samples // self.global_batch_size

    def global_samples(self, order: Indices, start_step: int = 0) -> Indices:
        """What all ranks train on from a step on, step after step: shape (steps * global_batch_size,)."""
        return order[start_step * self.global_batch_size : self.steps(len(order)) * self.global_batch_size]

    def local_samples(self, samples: Indices) -> Indices:
        """The part of this rank in that, step after step: shape (steps * local_batch_size,)."""
        return samples.reshape(-1, self.world_size, self.local_batch_size)[:, self.rank].ravel()
