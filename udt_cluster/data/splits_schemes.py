"""How cases are shared among folds: each scheme a function of the seed and the sorted ids, never of a listing."""

import difflib
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from udt_cluster.config.data import SplitsConfig
from udt_cluster.data.order import balanced_parts
from udt_cluster.data.schema import CaseTable
from udt_cluster.errors import DataError

TEST = "test"
VALIDATION = "validation"
_SHOWN = 10
_COMPARED = 10_000


@dataclass(frozen=True)
class Fold:
    """Case indices of one fold, in the order of the case ids."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a scheme decides.

    Attributes:
        folds: At least one.
        test: Case indices, in the order of the case ids.
        parameters: What else the folds depend on or are called, JSON types only.
        warnings: What people should know; a function of the case table alone.
    """

    folds: tuple[Fold, ...]
    test: tuple[int, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The cases that folds are made of, and their groups.

    Attributes:
        cases: The whole table.
        group_by: `patient`, `picture` or `case`.
        group_of: Group of each case of the table.
        members: Case indices in the order of the ids, official test cases left out.
        test: The official test cases, in the order of the ids.
        groups: Members of each group, as `members`.
        class_presence: (M, K) whether a case has a class, background first; None = not known.
    """

    cases: CaseTable
    group_by: str
    group_of: tuple[str, ...]
    members: tuple[int, ...]
    test: tuple[int, ...]
    groups: Mapping[str, Sequence[int]]
    class_presence: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, cases: CaseTable, *, group_by: str, class_presence: npt.NDArray[np.bool_] | None = None) -> "Pool":
        """Sort and group the cases of a table."""
        return cls._made(cases, group_by, cases.ids if group_by == "case" else cases.groups, class_presence)

    @classmethod
    def _made(
        cls, cases: CaseTable, group_by: str, group_of: Sequence[str], presence: npt.NDArray[np.bool_] | None
    ) -> "Pool":
        by_id = sorted(range(len(cases.ids)), key=lambda case: cases.ids[case])
        members = tuple(case for case in by_id if cases.splits[case] != TEST)
        groups: dict[str, list[int]] = defaultdict(list)
        for case in members:
            groups[group_of[case]].append(case)
        return cls(
            cases=cases,
            group_by=group_by,
            group_of=tuple(group_of),
            members=members,
            test=tuple(case for case in by_id if cases.splits[case] == TEST),
            groups=groups,
            class_presence=presence,
        )

    def joined(self, leaks: Sequence[Sequence[int]]) -> "Pool":
        """The same cases, with all groups that a leak connects made one; official test cases stay what they are."""
        first = {name: name for name in self.group_of}

        def root(name: str) -> str:
            while first[name] != name:
                first[name] = name = first[first[name]]
            return name

        inside = set(self.members)
        for leak in leaks:
            names = sorted({root(self.group_of[case]) for case in leak if case in inside})
            first.update(dict.fromkeys(names, names[0]) if names else {})
        return self._made(self.cases, self.group_by, [root(name) for name in self.group_of], self.class_presence)

    @property
    def noun(self) -> str:
        """What a group is called."""
        return f"{self.group_by}s"

    def shuffled(self, seed: int) -> list[str]:
        """Names of the groups in the order of a hash of seed and name: the same on every machine and library."""
        return sorted(self.groups, key=lambda name: (_key(seed, name), name))

    def held_out(self, *held_out: Sequence[int]) -> tuple[Fold, ...]:
        """A fold for each set of validation cases; all other members train."""
        chosen = [set(validation) for validation in held_out]
        return tuple(
            Fold(
                train=tuple(case for case in self.members if case not in validation),
                validation=tuple(case for case in self.members if case in validation),
            )
            for validation in chosen
        )


def group_kfold(pool: Pool, config: SplitsConfig) -> Assignment:
    """Whole groups in k folds, balanced by number of cases: largest group first, each to the smallest fold.

    Raises:
        DataError: fewer groups than folds.
    """
    _refuse_few(pool, config.k)
    names = pool.shuffled(config.seed)
    parts = balanced_parts([len(pool.groups[name]) for name in names], config.k)
    return _folds_of(pool, [[names[item] for item in part] for part in parts])


def stratified_group_kfold(pool: Pool, config: SplitsConfig) -> Assignment:
    """Whole groups in k folds, balanced by number of cases and by how many cases have each class.

    Greedy: groups with the largest share of what is rare come first, each goes to the fold that has least of what it
    brings. Cases without any foreground count as a class of their own.

    Raises:
        DataError: fewer groups than folds.
        ValueError: the class presence is not known.
    """
    if pool.class_presence is None:
        raise ValueError("stratified_group_kfold needs the class presence of every case: pass store or class_presence")
    _refuse_few(pool, config.k)
    foreground = pool.class_presence[:, 1:]
    traits = np.column_stack([np.ones(len(foreground), bool), ~foreground.any(axis=1), foreground]).astype(np.int64)
    totals = [max(1, int(total)) for total in traits[list(pool.members)].sum(axis=0)]
    brings = {name: [int(n) for n in traits[list(group)].sum(axis=0)] for name, group in pool.groups.items()}
    weight = {name: math.fsum(n / total for n, total in zip(brings[name], totals, strict=True)) for name in brings}
    loads = [[0] * len(totals) for _ in range(config.k)]
    parts: list[list[str]] = [[] for _ in range(config.k)]
    for name in sorted(pool.shuffled(config.seed), key=lambda name: -weight[name]):
        fold = min(range(config.k), key=lambda fold: (_crowding(loads[fold], brings[name], totals), fold))
        parts[fold].append(name)
        loads[fold] = [load + n for load, n in zip(loads[fold], brings[name], strict=True)]
    return _folds_of(pool, parts)


def holdout(pool: Pool, config: SplitsConfig) -> Assignment:
    """One fold, with `validation_fraction` of the groups (at least one, not all) held out.

    Raises:
        DataError: fewer than two groups.
    """
    _refuse_few(pool, 2)
    names = pool.shuffled(config.seed)
    count = min(max(1, math.floor(config.validation_fraction * len(names) + 0.5)), len(names) - 1)
    chosen = [case for name in names[:count] for case in pool.groups[name]]
    parameters = {"validation_fraction": config.validation_fraction}
    return Assignment(folds=pool.held_out(chosen), test=pool.test, parameters=parameters)


def official(pool: Pool, config: SplitsConfig) -> Assignment:
    """One fold as the data set says; where it names no validation cases, a holdout of the others.

    Raises:
        DataError: the data set says nothing at all, or has no training cases.
    """
    splits = pool.cases.splits
    chosen = [case for case in pool.members if splits[case] == VALIDATION]
    if not pool.test and all(splits[case] == "unknown" for case in pool.members):
        raise DataError(
            "data.splits.scheme: official, but the data set does not say which cases train, validate or test; "
            "use holdout or group_kfold, or file with folds of your own"
        )
    if not chosen:
        made = holdout(pool, config)
        count = len(made.folds[0].validation)
        warning = f"the data set names no validation cases: a holdout of {count} training cases stands in for them"
        return Assignment(folds=made.folds, test=made.test, parameters=made.parameters, warnings=(warning,))
    if len(chosen) == len(pool.members):
        raise DataError("data.splits.scheme: official, but the data set has no training cases; use group_kfold")
    return Assignment(folds=pool.held_out(chosen), test=pool.test)


def leave_one_site_out(pool: Pool, config: SplitsConfig) -> Assignment:
    """A fold for each site, in the order of their names, with the cases of that site held out.

    Raises:
        DataError: the site of a case is not known, or there is only one.
    """
    sites = pool.cases.sites or ("",) * len(pool.cases.ids)
    unknown = [pool.cases.ids[case] for case in pool.members if not sites[case]]
    if unknown:
        raise DataError(
            f"data.splits.scheme: leave_one_site_out, but the site of {len(unknown)} of {len(pool.members)} cases is "
            "not known. monuseg knows the site of a slide; image_folder takes the first subfolder for it "
            "(images/SITE/NAME.png). Sort the pictures so, or use scheme: file with a fold for each site",
            _shortened(unknown),
        )
    names = sorted({sites[case] for case in pool.members})
    if len(names) < 2:
        raise DataError(f"data.splits.scheme: leave_one_site_out needs two sites, but all cases are of {names}")
    folds = pool.held_out(*([case for case in pool.members if sites[case] == name] for name in names))
    return Assignment(folds=folds, test=pool.test, parameters={"sites": names})


SCHEMES: Mapping[str, Callable[[Pool, SplitsConfig], Assignment]] = {
    "group_kfold": group_kfold,
    "stratified_group_kfold": stratified_group_kfold,
    "holdout": holdout,
    "official": official,
    "leave_one_site_out": leave_one_site_out,
}
"""By the name in `data.splits.scheme`; `file` is in splits_files."""


def did_you_mean(name: str, ids: Sequence[str]) -> str:
    """What to add to a message on a name that is no case id: the nearest id, nothing among very many ids."""
    near = difflib.get_close_matches(name, ids, n=1) if len(ids) <= _COMPARED else []
    return f", did you mean {near[0]!r}?" if near else ""


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _folds_of(pool: Pool, parts: Sequence[Sequence[str]]) -> Assignment:
    validations = [[case for name in part for case in pool.groups[name]] for part in parts]
    return Assignment(folds=pool.held_out(*validations), test=pool.test)


def _crowding(load: Sequence[int], brings: Sequence[int], totals: Sequence[int]) -> float:
    """Growth of the sum of squared shares; rounded once (fsum), so that it is the same everywhere."""
    return math.fsum(have * n / total**2 for have, n, total in zip(load, brings, totals, strict=True))


def _shortened(names: Sequence[str]) -> list[str]:
    return [*names[:_SHOWN], *([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])]


def _refuse_few(pool: Pool, folds: int) -> None:
    found = len(pool.groups)
    if found >= folds:
        return
    remedy = f"set data.splits.k to at most {found}, or" if found >= 2 else "a fold needs at least 2 groups:"
    raise DataError(
        f"data.splits: {folds} folds need at least {folds} groups, but the data set has {found} "
        f"({pool.noun}; {len(pool.members)} cases for training and {len(pool.test)} official test cases); "
        f"{remedy} add {pool.noun}"
    )
