"""Preparation: find the version, do nothing if it is there, else prepare every case and write the store."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from data_prep.adapters import get as get_adapter
from data_prep.assembly import PREP_VERSION, OnProgress, Order, assemble, committed
from data_prep.case import Case, Discovery
from data_prep.discovery import discover
from data_prep.executor import Executor
from data_prep.file_index import FileIndex
from data_prep.quarantine import left_out
from udt_cluster.config.data import DataConfig
from udt_cluster.data.versions import staging_root, version_root
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_SHOWN = 20
Rename = Callable[[Discovery], Discovery]
"""Gives cases and groups other names (pseudonyms); pure, and sure to give the same names again."""

# What a sample does not depend on: another value is no other version.
_NOT_IN_SAMPLES = frozenset(
    {
        "source",
        "name",
        "group_by",
        "on_bad_case",
        "pseudonymize",
        "accept_leaks",
        "normalize",
        "window",
        "empty_slices",
        "context_slices",
        "splits",
        "cache",
    }
)


def same_names(discovery: Discovery) -> Discovery:
    """No renaming."""
    return discovery


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A committed data-set version.

    Attributes:
        location: Of the store.
        version: Its hash, the last part of the location.
        already_there: Whether nothing had to be done.
        group_by: What folds keep together: `data.group_by`; where it is not set and patients are known, `patient`;
            for tiles of pictures whose patients are unknown, `picture`.
        warnings: What the user should know.
        seconds: How long it took.
    """

    location: Location
    version: str
    already_there: bool
    group_by: Literal["patient", "picture", "case"]
    warnings: tuple[str, ...]
    seconds: float


def prepare(
    config: DataConfig,
    dataset: str,
    storage: Location,
    *,
    executor: Executor,
    index: FileIndex,
    rename: Rename = same_names,
    on_progress: OnProgress = lambda done, total, what: None,
) -> Prepared:
    """Make sure that a data set is in the store. One that was interrupted goes on where it was.

    Args:
        config: The `data` section of a job.
        dataset: Name, the folder of its versions.
        storage: Storage root of the target; the store is `<storage>/data/<dataset>/<version>`.
        executor: Where tasks run.
        index: Of files that were hashed before.
        rename: Applied to what the adapter found, before anything else sees it.
        on_progress: Told after every task.

    Raises:
        DataError: ``problems`` lists everything that is wrong with the source, file by file.
    """
    started = time.monotonic()
    found = _find(config, dataset, index, rename)
    group_by, warnings = choose_groups(config, found.discovery)
    root = version_root(storage, dataset, found.version)
    already_there, repair = committed(root)
    warnings = (*found.discovery.warnings, *warnings, *repair)
    if not already_there:
        order = Order(
            config=config,
            dataset=dataset,
            version=found.version,
            root=root,
            discovery=found.discovery,
            keys=found.keys,
            digests=found.digests,
            staging=staging_root(storage, dataset),
            unreadable=found.unreadable,
        )
        made = assemble(order, executor=executor, on_progress=on_progress)
        root, warnings = made.root, (*warnings, *made.warnings)
    return Prepared(
        location=root,
        version=root.name,
        already_there=already_there,
        group_by=group_by,
        warnings=warnings,
        seconds=time.monotonic() - started,
    )


def find_version(
    config: DataConfig, dataset: str, index: FileIndex, *, rename: Rename = same_names
) -> tuple[str, Discovery]:
    """The version that this data set has, or will have, and what it consists of.

    A hash of every input file, of the names of the cases, of the parameters that matter to samples (not splits, not
    normalisation, not where the source lies), and of PREP_VERSION.

    Raises:
        DataError: the source is missing, incomplete or unreadable.
    """
    found = _find(config, dataset, index, rename)
    return found.version, found.discovery


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A source, looked through.

    Attributes:
        version: Hash.
        discovery: The cases, renamed.
        keys: Hash of what each case is made of.
        digests: SHA-256 of the files, by key.
        unreadable: What is wrong with files of cases, by the id of the case.
    """

    version: str
    discovery: Discovery
    keys: tuple[str, ...]
    digests: dict[str, str]
    unreadable: dict[str, tuple[str, ...]]


def _find(config: DataConfig, dataset: str, index: FileIndex, rename: Rename) -> _Found:
    source = Location.parse(config.source)
    adapter = get_adapter(config.adapter)
    discovery = _said(rename(discover(adapter, source, config)))
    _refuse_twins(source, discovery)
    choose_groups(config, discovery)
    digests, unreadable = _digests(config, source, discovery, index)
    parameters = {
        "prep_version": PREP_VERSION,
        "classes": adapter.class_names(config),
        **config.model_dump(mode="json", exclude=set(_NOT_IN_SAMPLES), exclude_defaults=True),
    }
    of_cases = {key for case in discovery.cases for key in _files(case)}
    shared = {key: digest for key, digest in digests.items() if key not in of_cases}
    base = _hash({"parameters": parameters, "files": shared})
    keys = tuple(_hash([base, asdict(case), [digests.get(key) for key in _files(case)]]) for case in discovery.cases)
    whole: dict[str, Any] = {"dataset": dataset, "cases": keys, "files": digests, "on_bad_case": config.on_bad_case}
    if discovery.left_out:
        whole["left_out"] = [[entry.case.id, *entry.problems] for entry in discovery.left_out]
    return _Found(version=_hash(whole)[:16], discovery=discovery, keys=keys, digests=digests, unreadable=unreadable)


def _said(discovery: Discovery) -> Discovery:
    """With a warning for each of the first that are left out."""
    lines = left_out(discovery.left_out[:_SHOWN])
    if (more := len(discovery.left_out) - _SHOWN) > 0:
        lines.append(f"and {more} more are left out")
    return replace(discovery, warnings=(*discovery.warnings, *lines))


def _digests(
    config: DataConfig, source: Location, discovery: Discovery, index: FileIndex
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """SHA-256 by file; where bad cases are left out, also what is wrong with the files of some."""
    if config.on_bad_case == "fail":
        return index.digests(source, discovery.files), {}
    digests, problems = index.readable_digests(source, discovery.files)
    unreadable = {
        case.id: found
        for case in discovery.cases
        if (found := tuple(problems[k] for k in _files(case) if k in problems))
    }
    said = {problem for found in unreadable.values() for problem in found}
    if others := [problem for problem in problems.values() if problem not in said]:
        raise DataError(f"{source}: {len(others)} files that belong to no single case cannot be read", others)
    return digests, unreadable


def _files(case: Case) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*case.images, *case.labels)))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def choose_groups(
    config: DataConfig, discovery: Discovery
) -> tuple[Literal["patient", "picture", "case"], tuple[str, ...]]:
    """What folds keep together, and what is to be said about it.

    Raises:
        DataError: patients are asked for and not known, or nothing is said where they are not known.
    """
    if discovery.patients_known:
        if config.group_by != "case":
            return "patient", ()
        return "case", (
            "data.group_by: case, although the patients are known: folds may leak. Remove it to keep them whole.",
        )
    if config.group_by == "case":
        return "case" if config.tiles is None else "picture", ()
    said = "data.group_by: patient cannot be met" if config.group_by else "data.group_by is not set"
    raise DataError(
        f"{said}: this source does not say which cases are of one patient"
        + "".join(f" ({warning})" for warning in discovery.warnings)
        + ". Set data.group_by: case to make every case a group of its own; scores may then be too good where a "
        "patient has several cases."
    )


def _refuse_twins(source: Location, discovery: Discovery) -> None:
    if not discovery.cases:
        raise DataError(f"{source}: no case was found. Check data.source and data.adapter.")
    first: dict[str, Any] = {}
    twins = [
        f"{case.images[0]} and {first[case.id].images[0]}: both would be case {case.id!r}"
        for case in discovery.cases
        if first.setdefault(case.id, case) is not case
    ]
    if twins:
        raise DataError(f"{source}: {len(twins)} cases have the name of another; rename them", twins)
