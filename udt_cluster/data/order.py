"""Which samples make up which batch of which rank: pure functions of seeds and ids, never of time or listings."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udt_cluster.data.schema import CaseTable

Indices = NDArray[np.int64]


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


def epoch_order(samples: Indices, *, seed: int, epoch: int) -> Indices:
    """The order of one epoch: a full shuffle that depends on seed, epoch and the set of samples alone."""
    return np.random.default_rng([seed, epoch]).permutation(np.sort(samples))


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

    def local_samples(self, order: Indices, step: int) -> Indices:
        """What this rank trains on in this step, shape (local_batch_size,)."""
        start = step * self.global_batch_size + self.rank * self.local_batch_size
        return order[start : start + self.local_batch_size]
