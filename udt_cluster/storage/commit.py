"""Commits: a list of what was written, put last. Without it nothing is there; with it everything can be checked.

Keys follow from the content, so two writers of one version put the same bytes and need no lock.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from udt_cluster.errors import AuthError, CorruptError, StorageUnreachableError, UsageError, VersionError
from udt_cluster.storage.location import Location, check_key
from udt_cluster.storage.objects import ObjectRecord
from udt_cluster.storage.patience import finish_within

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

COMMIT_NAME = "COMMIT"
FORMAT_VERSION = 1
_THREADS = 8
_SECONDS_TO_LOOK = 5.0
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Commit:
    """What a complete version, checkpoint or model consists of.

    Attributes:
        objects: Every object, sorted by its key relative to the root.
        info: What the writer wants to say about them; plain JSON.
    """

    objects: tuple[ObjectRecord, ...]
    info: dict[str, JSON]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of objects and info."""
        return hashlib.sha256(_canonical_json(self._content())).hexdigest()

    def to_bytes(self) -> bytes:
        """The COMMIT object: equal commits are equal bytes."""
        return _canonical_json({**self._content(), "digest": self.digest}) + b"\n"

    def _content(self) -> dict[str, JSON]:
        objects: list[JSON] = [{"key": o.key, "size": o.size, "sha256": o.sha256} for o in self.objects]
        return {"format_version": FORMAT_VERSION, "objects": objects, "info": self.info}


def write_commit(root: Location, objects: Sequence[ObjectRecord], info: Mapping[str, JSON]) -> Commit:
    """Declare complete what lies below `root`. Put this last; doing it again changes nothing.

    Args:
        root: Where the objects are.
        objects: Every object, keys relative to `root`.
        info: JSON; NaN and infinity are not JSON.

    Raises:
        ValueError: a key twice, or info that is not JSON.
        CorruptError: another commit is there already.
        StorageUnreachableError: it could not be put, and is not there either.
    """
    commit = Commit(objects=tuple(sorted(objects, key=lambda record: record.key)), info=dict(info))
    _refuse_bad_keys(commit)
    data, target = commit.to_bytes(), root / COMMIT_NAME
    try:
        already = target.read_bytes()
    except FileNotFoundError:
        already = b""
    if already == data:
        return commit
    if _is_sound(already, target):
        raise CorruptError(
            f"{target} commits something else already (digest {_parse(already, target).digest}, new {commit.digest}). "
            "What is committed is never changed: write under another name, or delete it first."
        )
    try:
        target.write_bytes(data)
    except StorageUnreachableError:
        if not _holds(target, data):
            raise
    return commit


def read_commit(root: Location) -> Commit | None:
    """The commit of `root`, or None where nothing is committed.

    Raises:
        CorruptError: there is a COMMIT, and it is not what was written.
        VersionError: it was written by a newer version of this package.
    """
    target = root / COMMIT_NAME
    try:
        data = target.read_bytes()
    except FileNotFoundError:
        return None
    return _parse(data, target)


def verify(root: Location, commit: Commit, *, checksums: bool) -> None:
    """Check that every committed object is there with its size, and with `checksums` its content.

    It needs no right to list: see `Location.sizes`.

    Raises:
        CorruptError: ``problems`` names every bad key.
    """
    sizes = root.sizes([record.key for record in commit.objects])
    bad = {o.key: _size_problem(o, sizes.get(o.key)) for o in commit.objects}
    problems = {key: problem for key, problem in bad.items() if problem}
    if checksums:
        whole = [o for o in commit.objects if o.key not in problems]
        found = in_threads(lambda o: _content_problem(root, o), whole)
        problems.update({o.key: problem for o, problem in zip(whole, found, strict=True) if problem})
    if problems:
        raise CorruptError(
            f"{root}: {len(problems)} of {len(commit.objects)} committed objects are not what was written. "
            "Restore them, or delete this and make it again:",
            [problems[key] for key in sorted(problems)],
        )


def describe(root: Location, keys: Iterable[str] | None = None) -> tuple[ObjectRecord, ...]:
    """Read objects through (all below `root` but COMMIT by default) and say what they are, sorted by key.

    Raises:
        FileNotFoundError: a key that is not there.
    """
    wanted = sorted({entry.key for entry in root.entries()} - {COMMIT_NAME} if keys is None else set(keys))
    return tuple(in_threads(lambda key: replace((root / key).checksum(), key=key), wanted))


def upload_folder(folder: Path, root: Location) -> tuple[ObjectRecord, ...]:
    """Put every file of a local folder below `root`; the records' keys are relative to it, sorted."""
    keys = [entry.key for entry in Location.parse(folder).entries()]
    return tuple(in_threads(lambda key: replace((root / key).upload(folder / key), key=key), keys))


def download_committed(root: Location, commit: Commit, folder: Path) -> None:
    """Copy every committed object to a local folder and check it on the way.

    Raises:
        CorruptError: ``problems`` names every object that is missing or is not what was committed.
    """
    found = in_threads(lambda o: _download_problem(root, o, folder), commit.objects)
    if problems := [problem for problem in found if problem]:
        count = f"{len(problems)} of {len(commit.objects)}"
        raise CorruptError(f"{root}: {count} objects are not what was committed", problems)


def probe(root: Location, *, seconds: float = 8.0) -> None:
    """Write, read back and delete a small object; an answer comes in less than `seconds`, good or bad.

    Raises:
        AuthError, StorageUnreachableError: it cannot be done; the message says why.
        CorruptError: what came back is not what was written.
    """
    target, data = root / f".udt-probe-{uuid.uuid4().hex}", uuid.uuid4().bytes
    with finish_within(seconds):
        target.write_bytes(data)
        came = target.read_bytes()
        target.delete()
    if came != data:
        raise CorruptError(f"{root}: wrote {len(data)} bytes and read other {len(came)} back. Do not use this storage.")


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Results in order; the first error ends it."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="udt-storage") as pool:
        return list(pool.map(function, items))


def _size_problem(expected: ObjectRecord, size: int | None) -> str | None:
    if size is None:
        return f"{expected.key}: missing, or it may not be read ({expected.size} bytes were committed)"
    return None if size == expected.size else f"{expected.key}: {size} bytes, {expected.size} were committed"


def _content_problem(root: Location, expected: ObjectRecord) -> str | None:
    try:
        return _difference(expected, (root / expected.key).checksum())
    except (FileNotFoundError, AuthError):
        return _size_problem(expected, None)


def _download_problem(root: Location, expected: ObjectRecord, folder: Path) -> str | None:
    target = folder / expected.key
    try:
        problem = _difference(expected, (root / expected.key).download(target))
    except (FileNotFoundError, AuthError):
        return _size_problem(expected, None)
    if problem:
        target.unlink()
    return problem


def _difference(expected: ObjectRecord, found: ObjectRecord) -> str | None:
    if found.size != expected.size:
        return _size_problem(expected, found.size)
    return None if found.sha256 == expected.sha256 else f"{expected.key}: the content changed (SHA-256 differs)"


def _refuse_bad_keys(commit: Commit) -> None:
    keys = [record.key for record in commit.objects]
    for key in keys:
        check_key(key)
    if len(set(keys)) != len(keys) or COMMIT_NAME in keys:
        raise ValueError(f"every object is committed once, and {COMMIT_NAME} never: {keys}")


def _canonical_json(value: JSON) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _holds(target: Location, data: bytes) -> bool:
    """Whether a write that had no answer was done all the same; the storage is asked for some seconds only."""
    with suppress(FileNotFoundError, AuthError, StorageUnreachableError), finish_within(_SECONDS_TO_LOOK):
        return target.read_bytes() == data
    return False


def _is_sound(data: bytes, target: Location) -> bool:
    try:
        _parse(data, target)
    except CorruptError:
        return False
    return True


def _parse(data: bytes, target: Location) -> Commit:
    broken = f"{target} is not what was written"
    try:
        content: dict[str, Any] = json.loads(data)
        version, info = content["format_version"], content["info"]
        if version != FORMAT_VERSION:
            raise VersionError(f"{target} has format {version!r}, known is {FORMAT_VERSION}. Upgrade udt-cluster.")
        objects = tuple(ObjectRecord(key=o["key"], size=o["size"], sha256=o["sha256"]) for o in content["objects"])
        commit = Commit(objects=objects, info=info)
        _refuse_bad_keys(commit)
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise CorruptError(f"{broken} ({type(error).__name__}). Delete it and make it again.") from error
    if commit.to_bytes() != data:
        raise CorruptError(f"{broken} (its digest does not match). Delete it and make it again.")
    return commit
