"""Which cases train, validate and test: index tables beside the store, with a hash of their own.

A split is a function of the seed and the sorted ids, never of a directory listing, so two machines always agree; and
groups (patients) stay whole. The official `test` cases of a data set are in no fold. A split that leaks is refused.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from udt_cluster.config.data import AcceptedLeak, SplitsConfig
from udt_cluster.data.leaks import Leak, Verdict, find_leaks, group_leaks, judge, side_table
from udt_cluster.data.lookalikes import Pictures
from udt_cluster.data.schema import CaseTable
from udt_cluster.data.splits_classes import LabelledStore, class_presence, refuse_absent_classes
from udt_cluster.data.splits_files import folds_from_file
from udt_cluster.data.splits_schemes import SCHEMES, TEST, Assignment, Fold, Pool
from udt_cluster.data.versions import SPLITS_FOLDER
from udt_cluster.errors import CorruptError, DataError, VersionError
from udt_cluster.storage import Location

__all__ = ["TEST", "Fold", "Splits", "load_splits", "make_splits", "save_splits", "splits_location"]

SPLITS_FORMAT = 2
"""What this package reads. Splits without parameters and accepted leaks are written as format 1, as they always were:
what was published keeps its hash."""
_SHOWN = 10


class SplitStore(Pictures, LabelledStore, Protocol):
    """What splits need of a DataStore: hashes and images to find leaks, labels to find classes."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """All folds of one data-set version, as indices into its case table.

    `hash` covers everything but the data version, by case id: the same cases prepared at another size have the same
    folds under the same hash.

    Attributes:
        scheme: As in `data.splits.scheme`.
        k: Number of folds.
        seed: Of the assignment.
        group_by: `patient` or `case`.
        data_version: Of the store that the indices refer to.
        case_ids: All ids, in the order of the case table.
        folds: At least one.
        test: Case indices that are in no fold.
        warnings: What people should know of the folds; part of the content.
        parameters: What else the folds depend on or are called (`validation_fraction`, `sites`).
        accepted_leaks: `{"cases": [id, id], "reason": text}` of leaks that are there and that somebody vouches for.
        notes: What was seen in the images when the splits were made; neither stored nor hashed.
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
    parameters: Mapping[str, Any] = field(default_factory=dict)
    accepted_leaks: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the content."""
        return _digest(self.content())

    def content(self) -> dict[str, Any]:
        """What is stored and hashed: case ids instead of indices, JSON types only."""
        grown: dict[str, Any] = {}
        if self.parameters:
            grown["parameters"] = dict(self.parameters)
        if self.accepted_leaks:
            grown["accepted_leaks"] = [dict(leak) for leak in self.accepted_leaks]
        return {
            "format_version": SPLITS_FORMAT if grown else 1,
            "scheme": self.scheme,
            "k": self.k,
            "seed": self.seed,
            "group_by": self.group_by,
            "folds": [{"train": self._ids(f.train), "validation": self._ids(f.validation)} for f in self.folds],
            "test": self._ids(self.test),
            "warnings": list(self.warnings),
            **grown,
        }

    def to_nnunet(self) -> list[dict[str, list[str]]]:
        """The folds as nnU-Net's `splits_final.json` has them, ids sorted."""
        return [{"train": self._ids(f.train), "val": self._ids(f.validation)} for f in self.folds]

    def _ids(self, cases: Sequence[int]) -> list[str]:
        return sorted(self.case_ids[case] for case in cases)


def make_splits(
    cases: CaseTable,
    config: SplitsConfig,
    *,
    group_by: str,
    data_version: str,
    store: SplitStore | None = None,
    presence: npt.NDArray[np.bool_] | None = None,
    accept_leaks: Sequence[AcceptedLeak] = (),
) -> Splits:
    """Assign whole groups to folds by the scheme of the job, and refuse what leaks.

    Args:
        cases: The store's case table.
        config: Scheme and its parameters.
        group_by: `patient` or `picture` (the table's groups), or `case` (each case is a group of its own).
        data_version: Version of the store that the indices refer to.
        store: The store itself: images that look alike, and classes that nobody could learn, are found in it. Without
            it leaks are found by groups and digests alone.
        presence: (M, K) whether a case has a class, background first; for `stratified_group_kfold`. Default: read from
            the store.
        accept_leaks: Pairs that a person vouches for.

    Raises:
        DataError: two cases of one id, fewer groups than folds, a leak across sides that was not accepted, a class
            that no training case has, or what the scheme says.
        ValueError: another `group_by`; a stratified scheme without `store` and `presence`.
    """
    if group_by not in ("patient", "picture", "case"):
        raise ValueError(f"group_by={group_by!r}; allowed: patient, picture, case")
    _refuse_twins(cases)
    if presence is None and store is not None and config.scheme == "stratified_group_kfold":
        presence = class_presence(store)
    pool, leaks, unseen = grouped(cases, config, group_by=group_by, presence=presence, store=store)
    made = SCHEMES.get(config.scheme, folds_from_file)(pool, config)
    verdict = _judged(pool, made, leaks, accept_leaks)
    if store is not None:
        refuse_absent_classes(store, made.folds)
    return Splits(
        scheme=config.scheme,
        k=len(made.folds),
        seed=config.seed,
        group_by=group_by,
        data_version=data_version,
        case_ids=cases.ids,
        folds=made.folds,
        test=made.test,
        warnings=(*_split_patients(cases, group_by), *made.warnings),
        parameters={**made.parameters, **({"lookalikes": "together"} if config.lookalikes == "together" else {})},
        accepted_leaks=verdict.accepted,
        notes=(*verdict.notes, *unseen),
    )


def grouped(
    cases: CaseTable,
    config: SplitsConfig,
    *,
    group_by: str,
    presence: npt.NDArray[np.bool_] | None,
    store: Pictures | None,
) -> tuple[Pool, list[Leak], list[str]]:
    """The cases in the groups that the job asks for, what the pixels say against them, and what was not looked at."""
    pool = Pool.of(cases, group_by=group_by, class_presence=presence)
    leaks, unseen = find_leaks(cases, group_of=pool.group_of, store=store)
    if config.lookalikes == "together":
        pool = pool.joined([leak.members for leak in leaks])
    return pool, leaks, unseen


def splits_location(store: Location, splits_hash: str) -> Location:
    """Where the splits of a store lie: `<dataset>/splits/<version>-<hash>.json`, beside the version."""
    return store.parent / SPLITS_FOLDER / f"{store.name}-{splits_hash}.json"


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
        parameters=content.get("parameters", {}),
        accepted_leaks=tuple(content.get("accepted_leaks", ())),
    )


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _judged(pool: Pool, made: Assignment, leaks: Sequence[Leak], accepted: Sequence[AcceptedLeak]) -> Verdict:
    sides = side_table(made.folds, made.test, len(pool.cases.ids))
    return judge(pool.cases, [*group_leaks(pool.cases, sides, group_of=pool.group_of), *leaks], sides, accepted)


def _refuse_twins(cases: CaseTable) -> None:
    if twins := sorted(case_id for case_id, count in Counter(cases.ids).items() if count > 1):
        raise DataError("case ids occur more than once; every case needs an id of its own", twins)


def _split_patients(cases: CaseTable, group_by: str) -> tuple[str, ...]:
    patients = sum(count > 1 for count in Counter(cases.groups).values())
    if group_by != "case" or not patients:
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
