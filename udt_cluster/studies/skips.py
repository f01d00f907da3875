"""What each skip connection contributes: left out of all, alone against none, and averaged over all subsets."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from math import comb
from typing import NamedTuple

from udt_cluster.studies.design import Contrast, Design
from udt_cluster.studies.findings import Kind

LEVELS = (1, 2, 3, 4)
Subset = frozenset[int]


class SkipContrast(NamedTuple):
    """One number about one skip."""

    kind: Kind
    level: int
    contrast: Contrast


def skip_contrasts(design: Design) -> list[SkipContrast]:
    """All that the arms of the design allow; positive = the skip raises the metric."""
    arms = subsets(design)
    return [*_left_out(arms), *_alone(arms), *_shapley(arms)]


def subsets(design: Design) -> dict[Subset, str]:
    """The first arm of each set of levels, of those whose skips are of one kind; empty if the study is not about skips.

    Arms of other kinds are left out: all skips of one kind against all but one of another kind is no contribution.
    """
    found: dict[Subset, str] = {}
    wanted, absent = _wanted_kinds(design)
    for arm in design.arms:
        there = frozenset(arm.skips or ())
        kinds = dict(enumerate(arm.skip_kinds, start=1))
        if arm.skips is not None and all(
            kind == (wanted.get(level, kind) if level in there else absent) for level, kind in kinds.items()
        ):
            found.setdefault(frozenset(arm.skips), arm.name)
    return found


def _wanted_kinds(design: Design) -> tuple[dict[int, str], str]:
    """The kind at each level: the reference's, else that of most arms; and the way in which most arms leave one out."""
    reference = design.arm(design.reference)
    counts: dict[int, Counter[str]] = {level: Counter() for level in LEVELS}
    absent: Counter[str] = Counter()
    for arm in (reference, *design.arms):
        for level, kind in enumerate(arm.skip_kinds, start=1):
            if level not in (arm.skips or ()):
                absent[kind] += 1
            else:
                counts[level][kind] += len(design.arms) + 1 if arm is reference else 1
    wanted = {level: found.most_common(1)[0][0] for level, found in counts.items() if found}
    return wanted, absent.most_common(1)[0][0] if absent else ""


def all_subsets(levels: Iterable[int] = LEVELS) -> list[tuple[int, ...]]:
    """Every subset of levels, from none to all."""
    names = tuple(levels)
    return [subset for size in range(len(names) + 1) for subset in combinations(names, size)]


def _left_out(arms: dict[Subset, str]) -> Iterator[SkipContrast]:
    whole = frozenset(LEVELS)
    for level in LEVELS:
        if whole in arms and (rest := whole - {level}) in arms:
            contrast = Contrast.between(arms[whole], arms[rest], name=f"skip {level}: all skips against all but it")
            yield SkipContrast("left out", level, contrast)


def _alone(arms: dict[Subset, str]) -> Iterator[SkipContrast]:
    none: Subset = frozenset()
    for level in LEVELS:
        if none in arms and (single := frozenset({level})) in arms:
            contrast = Contrast.between(arms[single], arms[none], name=f"skip {level}: alone against no skip")
            yield SkipContrast("alone", level, contrast)


def _shapley(arms: dict[Subset, str]) -> Iterator[SkipContrast]:
    """Shapley (1953): the mean gain of a level over all orders in which levels can be added; they add up to all - none.

    It is a weighted sum of the 16 arms, so it is tested as any comparison is.
    """
    wanted = [frozenset(subset) for subset in all_subsets()]
    if any(subset not in arms for subset in wanted):
        return
    for level in LEVELS:
        weights: dict[str, float] = {}
        for subset in (subset for subset in wanted if level not in subset):
            share = 1 / (len(LEVELS) * comb(len(LEVELS) - 1, len(subset)))
            weights[arms[subset | {level}]] = share
            weights[arms[subset]] = -share
        yield SkipContrast("shapley", level, Contrast(name=f"skip {level}: mean over all subsets", weights=weights))
