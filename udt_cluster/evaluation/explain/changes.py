"""What is done to skips of a trained network, and which case stands in for which."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

ALL = "all"


@dataclass(frozen=True, order=True)
class Change:
    """One thing that is done to the skips of some levels.

    Attributes:
        kind: `zeroed` or `shuffled`: what the same skip puts out for another case.
        levels: Of which levels, at once.
    """

    kind: Literal["zeroed", "shuffled"]
    levels: tuple[int, ...]

    @property
    def level(self) -> str:
        """The level as it is written in tables: `1` .. `4`, or `all`."""
        return str(self.levels[0]) if len(self.levels) == 1 else ALL

    def instead(self, donated: Mapping[int, Tensor]) -> dict[int, Tensor | None]:
        """What stands for the skip of each level: None for zeros, or what it puts out for others, (B, C, H, W)."""
        return {level: None if self.kind == "zeroed" else donated[level] for level in self.levels}


def changes_of(levels: Sequence[int], *, shuffled: bool) -> tuple[Change, ...]:
    """Each level alone, and all of them where there are several: zeroed, and shuffled where that can be done."""
    chosen = [(level,) for level in levels] + ([tuple(levels)] if len(levels) > 1 else [])
    zeroed = tuple(Change("zeroed", levels) for levels in chosen)
    return zeroed + (tuple(Change("shuffled", levels) for levels in chosen) if shuffled else ())


@dataclass(frozen=True)
class Donors:
    """A derangement of cases: which other case's skips each one gets.

    Attributes:
        of: Position of the donor, by position; empty where there is one case only.
        other_groups: Whether every donor is of another group (another patient).
    """

    of: tuple[int, ...]
    other_groups: bool


def choose_donors(groups: Sequence[str], *, seed: int) -> Donors:
    """Give every case another one, each case once; of another group, unless one group has more than half of them.

    The cases are put in a random order that keeps groups together, and turned by the size of the largest group.

    Args:
        groups: The group of each case.
        seed: Of the order.
    """
    count, draw = len(groups), random.Random(seed)
    if count < 2:
        return Donors((), other_groups=False)
    rank = {group: place for place, group in enumerate(draw.sample(sorted(set(groups)), len(set(groups))))}
    order = sorted(draw.sample(range(count), count), key=lambda case: rank[groups[case]])
    largest = max(Counter(groups).values())
    possible = 2 * largest <= count
    shift = largest if possible else 1
    donor = {case: order[(place + shift) % count] for place, case in enumerate(order)}
    return Donors(tuple(donor[case] for case in range(count)), other_groups=possible)


def donor_slices(depth: int, donor_depth: int) -> list[int]:
    """The donor's slice for each slice of a case: at the same share of the way through the volume."""
    if depth == 1:
        return [donor_depth // 2]
    return [round(index * (donor_depth - 1) / (depth - 1)) for index in range(depth)]
