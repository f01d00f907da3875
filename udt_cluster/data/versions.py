"""The versions of data sets that a storage has: where they lie, which there are, and how they are removed.

``<storage>/data/<dataset>/<version>/`` is a store (or one that is being written), ``<storage>/data/<dataset>/splits/``
has the splits of all versions, ``<storage>/staging/<dataset>/`` what preparations of the data set have done so far.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from udt_cluster.storage import COMMIT_NAME, Entry, Location

SPLITS_FOLDER = "splits"
DAY = 24 * 3600.0


def version_root(storage: Location, dataset: str, version: str) -> Location:
    """Where a version lies."""
    return storage / "data" / dataset / version


def staging_root(storage: Location, dataset: str) -> Location:
    """Where preparations of a data set keep what they have done."""
    return storage / "staging" / dataset


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a data set, finished or not; what a listing tells.

    Attributes:
        dataset: Name.
        version: Hash.
        location: Where it lies.
        committed: Whether there is a COMMIT.
        objects: Number of objects, splits and COMMIT included.
        size: Bytes of them all.
        modified: When the last of them was written, in seconds since 1970; a split that was made counts too.
    """

    dataset: str
    version: str
    location: Location
    committed: bool
    objects: int
    size: int
    modified: float

    @property
    def name(self) -> str:
        """`DATASET/VERSION`."""
        return f"{self.dataset}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class Staging:
    """What preparations of one data set have staged.

    Attributes:
        dataset: Name.
        location: Where it lies.
        objects: Number of objects.
        size: Bytes of them all.
        modified: When the last of them was written, in seconds since 1970.
    """

    dataset: str
    location: Location
    objects: int
    size: int
    modified: float


@dataclass(frozen=True)
class Removal:
    """Something to remove, or that was removed.

    Attributes:
        uri: Where it lies.
        bytes: How much.
        why: Why it may go.
    """

    uri: str
    bytes: int
    why: Literal["not used", "never finished", "left by a preparation"]


def list_versions(storage: Location) -> tuple[Version, ...]:
    """All versions, finished or not, sorted by data set and version; one listing."""
    return tuple(
        Version(
            dataset=dataset,
            version=version,
            location=version_root(storage, dataset, version),
            committed=any(entry.key.split("/")[2:] == [COMMIT_NAME] for entry in entries),
            objects=len(entries),
            size=sum(entry.size for entry in entries),
            modified=max(entry.modified for entry in entries),
        )
        for (dataset, version), entries in _grouped((storage / "data").entries(), 2)
        if version != SPLITS_FOLDER
    )


def list_staging(storage: Location) -> tuple[Staging, ...]:
    """What is staged, by data set; one listing."""
    return tuple(
        Staging(
            dataset=dataset,
            location=staging_root(storage, dataset),
            objects=len(entries),
            size=sum(entry.size for entry in entries),
            modified=max(entry.modified for entry in entries),
        )
        for (dataset,), entries in _grouped((storage / "staging").entries(), 1)
    )


def remove_version(location: Location) -> None:
    """Remove a version and its splits, COMMIT first: however far this comes, nobody takes the rest for a data set.

    Can be repeated.
    """
    (location / COMMIT_NAME).delete()
    splits = location.parent / SPLITS_FOLDER
    for entry in splits.entries():
        if entry.key.startswith(f"{location.name}-"):
            (splits / entry.key).delete()
    location.delete_tree()


def plan_collection(
    versions: Sequence[Version],
    staging: Sequence[Staging],
    *,
    keep: Collection[str],
    older_than: float,
    now: float,
    unfinished_after: float = DAY,
) -> tuple[Removal, ...]:
    """What may go; decides only.

    Args:
        versions: All that there are.
        staging: All that there is.
        keep: Versions that a run, a job in progress or a model uses: hashes, or `DATASET/VERSION`.
        older_than: A finished version that nothing uses stays for so many seconds after it was last written to.
        now: Seconds since 1970.
        unfinished_after: What is unfinished or staged stays for so many seconds after anything of its data set was
            last written: until then a preparation may be at work on it.
    """
    busy: dict[str, float] = defaultdict(float)
    at_work: list[Version | Staging] = [*staging, *(version for version in versions if not version.committed)]
    for each in at_work:
        busy[each.dataset] = max(busy[each.dataset], each.modified)
    removals = []
    for version in versions:
        used = version.version in keep or version.name in keep
        if version.committed and not used and now - version.modified > older_than:
            removals.append(Removal(version.location.uri, version.size, "not used"))
        if not version.committed and now - busy[version.dataset] > unfinished_after:
            removals.append(Removal(version.location.uri, version.size, "never finished"))
    for staged in staging:
        if now - busy[staged.dataset] > unfinished_after:
            removals.append(Removal(staged.location.uri, staged.size, "left by a preparation"))
    return tuple(removals)


def collect(
    storage: Location, *, keep: Collection[str], older_than: float = 7 * DAY, dry_run: bool = False
) -> tuple[Removal, ...]:
    """Remove what nobody uses, and what dead preparations left; see `plan_collection`. Can be repeated at any point.

    Args:
        storage: Storage root of a target.
        keep: As in `plan_collection`, like older_than.
        older_than: Seconds.
        dry_run: Only say what would be removed.

    Returns:
        What was removed.
    """
    versions, staging = list_versions(storage), list_staging(storage)
    removals = plan_collection(versions, staging, keep=keep, older_than=older_than, now=time.time())
    for removal in () if dry_run else removals:
        location = Location.parse(removal.uri)
        if removal.why == "left by a preparation":
            location.delete_tree()
        else:
            remove_version(location)
    return removals


def _grouped(entries: Sequence[Entry], parts: int) -> list[tuple[tuple[str, ...], list[Entry]]]:
    """Entries by the first parts of their keys, sorted; what lies higher up belongs to nothing."""
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        names = entry.key.split("/")
        if len(names) > parts:
            groups[tuple(names[:parts])].append(entry)
    return sorted(groups.items())
