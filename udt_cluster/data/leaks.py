"""The leakage firewall: cases that must not lie on two sides of a split, and what happens where they do.

Four kinds: cases of one group (patient), images that are equal pixel for pixel under two names, images that show the
same although their bytes differ, and the slices of one volume that were stored as cases. Across train, validation and
test they are refused, on one side they are worth a warning: such cases count twice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from udt_cluster.config.data import AcceptedLeak
from udt_cluster.data.lookalikes import Pictures, find_lookalikes, find_series
from udt_cluster.data.schema import CaseTable
from udt_cluster.data.splits_schemes import Fold, did_you_mean
from udt_cluster.data.symmetries import SYMMETRIES
from udt_cluster.errors import DataError

SIDES = ("train", "validation", "test")
_SHOWN = 10
_LISTED = 200
_REMEDY = (
    "Of each pair remove one from the source; or keep both on one side of every fold: data.splits.lookalikes: together "
    "(data.group_by: patient where patients are known); or, if it is no leak, name it with the reason: "
)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Cases that belong on one side.

    Attributes:
        members: Case indices in the order of their ids, at least two.
        evidence: Why, as people are told.
    """

    members: tuple[int, ...]
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A pair of a leak that lies on two sides.

    Attributes:
        cases: Indices of the two, in the order of their ids.
        sides: Of each, in `fold`.
        fold: The first fold where they are apart.
        folds: In how many folds they are.
    """

    leak: Leak
    cases: tuple[int, int]
    sides: tuple[str, str]
    fold: int
    folds: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is left when nothing is refused.

    Attributes:
        accepted: `{"cases": [id, id], "reason": text}` of each leak that is there and was accepted.
        notes: What people should know.
    """

    accepted: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())


def find_leaks(
    cases: CaseTable, *, group_of: Sequence[str], store: Pictures | None = None
) -> tuple[list[Leak], list[str]]:
    """What the pixels say, whatever the split: equal images, look-alikes, slices of one volume.

    Args:
        cases: The case table; without `digests` equal images are found by `store` only.
        group_of: Group of each case; look-alikes within a group are as they should be.
        store: Where hashes and images are; without it only digests are compared.

    Returns:
        The leaks, and what could not be looked at.
    """
    leaks = _equal(cases)
    if store is None:
        return leaks, []
    units = np.unique(np.asarray(group_of, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
    alone = np.flatnonzero(np.bincount(units)[units] == 1).tolist()
    runs = [_by_id(cases, run) for run in find_series(cases, alone, store.sample_hash[cases.first_sample])]
    alike, notes = find_lookalikes(store, units)
    told = {leak.members for leak in leaks} | {two for run in runs for two in combinations(run, 2)}
    for pair in alike:
        if (members := _by_id(cases, pair.cases)) not in told:
            how = f", one {SYMMETRIES[pair.symmetry]}" if pair.symmetry else ""
            leaks.append(Leak(members=members, evidence=f"show the same{how} (correlation {pair.correlation:.3f})"))
    for run in runs:
        leaks.append(Leak(members=run, evidence=f"are slices of one volume by name and content ({len(run)} slices)"))
    return leaks, notes


def group_leaks(cases: CaseTable, sides: npt.NDArray[np.int8], *, group_of: Sequence[str]) -> list[Leak]:
    """Groups with cases on two sides of any fold.

    Args:
        cases: The case table.
        sides: As :func:`side_table` gives it.
        group_of: Group of each case.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for case in sorted(range(len(cases.ids)), key=lambda case: cases.ids[case]):
        members[group_of[case]].append(case)
    groups = ((name, tuple(group)) for name, group in sorted(members.items()) if len(group) > 1)
    return [
        Leak(members=group, evidence=f"are of one group, {name!r}, of {len(group)} cases")
        for name, group in groups
        if _crossing_folds(sides[:, group]).any()
    ]


def side_table(folds: Sequence[Fold], test: Sequence[int], num_cases: int) -> npt.NDArray[np.int8]:
    """(F, M): where each case lies in each fold, an index of SIDES; -1 = nowhere."""
    sides = np.full((len(folds), num_cases), -1, np.int8)
    for row, fold in zip(sides, folds, strict=True):
        for side, members in enumerate((fold.train, fold.validation, test)):
            row[list(members)] = side
    return sides


def judge(
    cases: CaseTable, leaks: Sequence[Leak], sides: npt.NDArray[np.int8], accepted: Sequence[AcceptedLeak]
) -> Verdict:
    """Refuse leaks across sides that nobody accepted.

    Args:
        cases: The case table.
        leaks: Of :func:`find_leaks` and :func:`group_leaks`.
        sides: As :func:`side_table` gives it.
        accepted: Pairs that a person says are none; a pair stands for all that its leak has in common.

    Raises:
        DataError: ``problems`` lists each pair, with where each of the two lies.
    """
    index = {case_id: case for case, case_id in enumerate(cases.ids)}
    pairs = [{index.get(case_id, -1) for case_id in leak.cases} for leak in accepted]
    refused: list[Crossing] = []
    within: list[Leak] = []
    needed: set[int] = set()
    seen: set[int] = set()
    for leak in leaks:
        naming = {number for number, pair in enumerate(pairs) if len(pair) == 2 and pair <= set(leak.members)}
        seen |= naming
        crossing = _crossing(leak, sides)
        if crossing is None and not naming:
            within.append(leak)
        elif crossing is not None and naming:
            needed |= naming
        elif crossing is not None:
            refused.append(crossing)
    if refused:
        raise _refusal(cases, refused, sides)
    stored = sorted((sorted(accepted[number].cases), accepted[number].reason) for number in needed)
    pointless = [leak for number, leak in enumerate(accepted) if number not in seen]
    return Verdict(
        accepted=tuple({"cases": ids, "reason": reason} for ids, reason in stored),
        notes=(*_pointless(cases, pointless), *_twice(cases, within)),
    )


def _equal(cases: CaseTable) -> list[Leak]:
    """Each image that is there again, with its first name."""
    same: dict[str, list[int]] = defaultdict(list)
    for case, digest in enumerate(cases.digests):
        same[digest].append(case)
    leaks = []
    for digest, members in same.items():
        first, *others = _by_id(cases, members)
        leaks += [Leak(members=(first, other), evidence="are equal pixel for pixel") for other in others if digest]
    return sorted(leaks, key=lambda leak: [cases.ids[case] for case in leak.members])


def _by_id(cases: CaseTable, members: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(members, key=lambda case: cases.ids[case]))


def _crossing_folds(sides: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """(F,) whether cases lie on different sides, of (F, n) sides; what lies nowhere does not count."""
    lowest = np.where(sides < 0, np.int8(len(SIDES)), sides).min(axis=1)
    highest = sides.max(axis=1)
    apart: npt.NDArray[np.bool_] = (lowest < highest) & (highest >= 0)
    return apart


def _crossing(leak: Leak, sides: npt.NDArray[np.int8]) -> Crossing | None:
    mine = sides[:, leak.members]
    folds = np.flatnonzero(_crossing_folds(mine))
    if not len(folds):
        return None
    row = mine[folds[0]]
    one = int(np.flatnonzero(row >= 0)[0])
    other = int(np.flatnonzero((row >= 0) & (row != row[one]))[0])
    return Crossing(
        leak=leak,
        cases=(leak.members[one], leak.members[other]),
        sides=(SIDES[row[one]], SIDES[row[other]]),
        fold=int(folds[0]),
        folds=len(folds),
    )


def _refusal(cases: CaseTable, refused: Sequence[Crossing], sides: npt.NDArray[np.int8]) -> DataError:
    total = len(sides)
    lines = []
    for crossing in refused[:_LISTED]:
        (one, other), (here, there) = (cases.ids[case] for case in crossing.cases), crossing.sides
        where = f"fold {crossing.fold}" + (f", {crossing.folds} of {total} folds" if total > 1 else "")
        lines.append(f"{one} ({here}) and {other} ({there}, {where}) {crossing.leak.evidence}")
    if len(refused) > _LISTED:
        lines.append(f"and {len(refused) - _LISTED} more")
    one, other = (cases.ids[case] for case in refused[0].cases)
    example = f"data.accept_leaks: [{{cases: [{one}, {other}], reason: ...}}]"
    noun = "pair of cases lies" if len(refused) == 1 else "pairs of cases lie"
    return DataError(f"data.splits: {len(refused)} {noun} on two sides of a split. {_REMEDY}{example}", lines)


def _twice(cases: CaseTable, leaks: Sequence[Leak]) -> list[str]:
    if not leaks:
        return []
    shown = [f"{' and '.join(cases.ids[c] for c in leak.members[:2])} {leak.evidence}" for leak in leaks[:_SHOWN]]
    more = f"; and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
    return [f"cases on one side that say the same twice: {'; '.join(shown)}{more}"]


def _pointless(cases: CaseTable, accepted: Sequence[AcceptedLeak]) -> list[str]:
    known = set(cases.ids)
    lines = []
    for leak in accepted:
        unknown = [case_id for case_id in leak.cases if case_id not in known]
        what = [f"there is no case {name!r}{did_you_mean(name, cases.ids)}" for name in unknown]
        said = "; ".join(what) or "that pair is no leak here; remove it"
        lines.append(f"data.accept_leaks: [{', '.join(leak.cases)}]: {said}")
    return lines
