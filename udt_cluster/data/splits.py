"""Which cases train, validate and test: index tables beside the store, with a hash of their own.

A split is a function of the seed and the sorted ids, never of a directory listing, so two machines always agree; and
groups (patients) stay whole. The official `test` cases of a data set are in no fold.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from udt_cluster.config.data import SplitsConfig
from udt_cluster.data.order import balanced_parts
from udt_cluster.data.schema import CaseTable
from udt_cluster.errors import CorruptError, DataError, VersionError
from udt_cluster.storage import Location

SPLITS_FORMAT = 1
TEST = "test"
_SHOWN = 10


@dataclass(frozen=True)
class Fold:
    """Case indices of one fold, in the order of the case ids."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """All folds of one data-set version, as indices into its case table.

    `hash` covers everything but the data version, by case id: the same cases prepared at another size have the same
    folds under the same hash.
    """

    scheme: str
    k: int
    seed: int
    group_by: str
    data_version: str
    case_ids: tuple[str, ...] = field(repr=False)
    folds: tuple[Fold, ...]
    test: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the content."""
        return _digest(self.content())

    def content(self) -> dict[str, Any]:
        """What is stored and hashed: case ids instead of indices, JSON types only."""
        return {
            "format_version": SPLITS_FORMAT,
            "scheme": self.scheme,
            "k": self.k,
            "seed": self.seed,
            "group_by": self.group_by,
            "folds": [{"train": self._ids(f.train), "validation": self._ids(f.validation)} for f in self.folds],
            "test": self._ids(self.test),
            "warnings": list(self.warnings),
        }

    def _ids(self, cases: Sequence[int]) -> list[str]:
        return sorted(self.case_ids[case] for case in cases)


def make_splits(cases: CaseTable, config: SplitsConfig, *, group_by: str, data_version: str) -> Splits:
    """Assign whole groups to k folds, balanced by number of cases.

    Groups are shuffled by a hash of seed and group id, then given out largest first, each to the smallest fold: a
    function of ids and seed alone, stable over versions of every library.

    Args:
        cases: The store's case table.
        config: Scheme, k and seed.
        group_by: `patient` (the table's groups) or `case` (each case is a group of its own).
        data_version: Version of the store that the indices refer to.

    Raises:
        DataError: two cases of one id, or fewer groups than folds.
    """
    if group_by not in ("patient", "case"):
        raise ValueError(f"group_by={group_by!r}; allowed: patient, case")
    _refuse_twins(cases)
    group_of = cases.groups if group_by == "patient" else cases.ids
    by_id = sorted(range(len(cases.ids)), key=lambda case: cases.ids[case])
    groups: dict[str, list[int]] = defaultdict(list)
    for case in by_id:
        if cases.splits[case] != TEST:
            groups[group_of[case]].append(case)
    _refuse_few(groups, config, group_by=group_by, cases=cases)
    names = sorted(groups, key=lambda name: (_key(config.seed, name), name))
    parts = balanced_parts([len(groups[name]) for name in names], config.k)
    fold_of = {case: fold for fold, part in enumerate(parts) for item in part for case in groups[names[item]]}
    return Splits(
        scheme=config.scheme,
        k=config.k,
        seed=config.seed,
        group_by=group_by,
        data_version=data_version,
        case_ids=cases.ids,
        folds=tuple(_fold(fold, by_id, fold_of) for fold in range(config.k)),
        test=tuple(case for case in by_id if cases.splits[case] == TEST),
        warnings=(*_shared_with_test(cases, groups, group_of), *_split_patients(cases, group_by)),
    )


def splits_location(store: Location, splits_hash: str) -> Location:
    """Where the splits of a store lie: `<dataset>/splits/<version>-<hash>.json`, beside the version."""
    return store.parent / "splits" / f"{store.name}-{splits_hash}.json"


def save_splits(store: Location, splits: Splits) -> Location:
    """Write the splits beside their store, under a name that follows from the content. Saving twice changes nothing.

    Raises:
        ValueError: the splits belong to another data version than the store's.
    """
    if store.name != splits.data_version:
        raise ValueError(f"splits of data version {splits.data_version} do not belong beside {store.uri}")
    location = splits_location(store, splits.hash)
    location.write_bytes(json.dumps(splits.content(), indent=1, sort_keys=True).encode())
    return location


def load_splits(location: Location, cases: CaseTable) -> Splits:
    """Read splits back and check that they are what was saved.

    Args:
        location: As :func:`save_splits` returned it; its name has the data version and the hash.
        cases: Case table of that data version; ids become indices into it.

    Raises:
        DataError: there are no such splits.
        CorruptError: the content does not have the hash of the name, or names cases that the table does not have.
        VersionError: written by a later version of this package.
    """
    data_version, _, splits_hash = location.name.removesuffix(".json").rpartition("-")
    content = _read(location, splits_hash)
    index = {case_id: case for case, case_id in enumerate(cases.ids)}
    lists = [content["test"], *(fold[part] for fold in content["folds"] for part in ("train", "validation"))]
    if unknown := sorted({case_id for ids in lists for case_id in ids} - index.keys()):
        raise CorruptError(
            f"{location.uri} names {len(unknown)} cases that the data set does not have; prepare the data set again",
            unknown[:_SHOWN],
        )
    return Splits(
        **{name: content[name] for name in ("scheme", "k", "seed", "group_by")},
        data_version=data_version,
        case_ids=cases.ids,
        folds=tuple(
            Fold(tuple(index[i] for i in fold["train"]), tuple(index[i] for i in fold["validation"]))
            for fold in content["folds"]
        ),
        test=tuple(index[case_id] for case_id in content["test"]),
        warnings=tuple(content["warnings"]),
    )


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _fold(fold: int, by_id: Sequence[int], fold_of: Mapping[int, int]) -> Fold:
    members = [case for case in by_id if case in fold_of]
    return Fold(
        train=tuple(case for case in members if fold_of[case] != fold),
        validation=tuple(case for case in members if fold_of[case] == fold),
    )


def _refuse_twins(cases: CaseTable) -> None:
    if twins := sorted(case_id for case_id, count in Counter(cases.ids).items() if count > 1):
        raise DataError("case ids occur more than once; every case needs an id of its own", twins)


def _refuse_few(groups: Mapping[str, Sequence[int]], config: SplitsConfig, *, group_by: str, cases: CaseTable) -> None:
    found = len(groups)
    if found >= config.k:
        return
    members = sum(len(group) for group in groups.values())
    tests = len(cases.ids) - members
    noun = "patients" if group_by == "patient" else "cases"
    remedy = f"set data.splits.k to at most {found}, or" if found >= 2 else "a fold needs at least 2 groups:"
    raise DataError(
        f"data.splits: {config.k} folds need at least {config.k} groups, but the data set has {found} "
        f"({noun}; {members} cases for training and {tests} official test cases); {remedy} add {noun}"
    )


def _shared_with_test(
    cases: CaseTable, groups: Mapping[str, Sequence[int]], group_of: Sequence[str]
) -> tuple[str, ...]:
    tests = {group_of[case] for case in range(len(cases.ids)) if cases.splits[case] == TEST}
    shared = sorted(tests & set(groups))
    if not shared:
        return ()
    names = ", ".join(shared[:_SHOWN]) + (", ..." if len(shared) > _SHOWN else "")
    return (f"{len(shared)} groups have cases in the official test split and in the folds; test scores leak: {names}",)


def _split_patients(cases: CaseTable, group_by: str) -> tuple[str, ...]:
    patients = sum(count > 1 for count in Counter(cases.groups).values())
    if group_by == "patient" or not patients:
        return ()
    return (f"data.group_by is case, but {patients} patients have several cases: folds leak; say patient instead",)


def _read(location: Location, splits_hash: str) -> dict[str, Any]:
    try:
        content = json.loads(location.read_bytes())
    except FileNotFoundError:
        raise DataError(f"no splits {splits_hash} at {location.uri}; prepare the data set again") from None
    except ValueError as error:
        raise CorruptError(f"{location.uri} is not JSON ({error}); prepare the data set again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SPLITS_FORMAT:
        raise VersionError(
            f"{location.uri} has format {version}, this package reads up to {SPLITS_FORMAT}; install a newer one"
        )
    if not isinstance(content, dict) or _digest(content) != splits_hash:
        raise CorruptError(f"{location.uri} is not what was saved: its content has another hash; prepare again")
    return content
