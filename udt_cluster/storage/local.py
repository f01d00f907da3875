"""Objects on a local (or mounted) file system."""

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from udt_cluster.errors import DataError
from udt_cluster.storage.objects import Entry, file_chunks

if TYPE_CHECKING:
    from zarr.abc.store import Store

# Zarr's own LocalStore ends its unfinished files in the same way.
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.partial")
_ABANDONED_AFTER_SECONDS = 6 * 3600
_TRIES = 20


@dataclass(frozen=True)
class LocalObject:
    """One file, or one folder of files. See :class:`~udt_cluster.storage.objects.ObjectAccess`."""

    path: Path

    def read(self, start: int | None, end: int | None) -> bytes:
        """Bytes [start, end) of the file."""
        with self.path.open("rb") as source:
            source.seek(start or 0)
            return source.read() if end is None else source.read(max(0, end - source.tell()))

    def chunks(self) -> Iterator[bytes]:
        """The file, piece by piece."""
        return file_chunks(self.path)

    def write(self, chunks: Iterable[bytes]) -> None:
        """Write beside the target, sync, rename: a reader sees the old file or the new one, never a part."""
        folder = self.path.parent
        unfinished = folder / f".udt.{uuid.uuid4().hex}.partial"
        try:
            with _created(unfinished) as target:
                for chunk in chunks:
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # somebody deleted it again, and the folder with it
            _sync_folder(folder)

    def exists(self) -> bool:
        """Whether the path is a file (a folder is a prefix, not an object)."""
        return self.path.is_file()

    def size(self) -> int:
        """Bytes of the file."""
        status = self.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder is no object", str(self.path))
        return status.st_size

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """Bytes of those files that are there; a look at each is much quicker than a walk through all folders."""
        found = {}
        for key in keys:
            with suppress(FileNotFoundError, NotADirectoryError):
                status = os.stat(f"{self.path}/{key}")  # noqa: PTH116 - making a Path takes longer than the look
                if stat.S_ISREG(status.st_mode):
                    found[key] = status.st_size
        return found

    def open(self) -> BinaryIO:
        """The file, for reading."""
        return self.path.open("rb")

    def entries(self) -> list[Entry]:
        """All files below, links followed.

        Raises:
            DataError: links that lead nowhere or in a circle, all by name.
        """
        if not self.path.is_dir():
            return []
        problems: list[str] = []
        found = sorted(_walk(self.path, "", frozenset(), problems), key=lambda entry: entry.key)
        if problems:
            raise DataError(f"{self.path} has symbolic links that cannot be followed; remove or mend them:", problems)
        return found

    def children(self, limit: int | None) -> list[str]:
        """Names directly below, sorted; those of folders end with "/"."""
        try:
            with os.scandir(self.path) as items:
                names = [f"{item.name}/" if item.is_dir() else item.name for item in items]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in names if not _UNFINISHED.search(name))[:limit]

    def delete(self) -> None:
        """Remove the file if it is there."""
        self.path.unlink(missing_ok=True)

    def delete_tree(self) -> None:
        """Remove the folder with all that is in it; a link to a folder is removed, not what it points to."""
        if self.path.is_symlink():
            self.path.unlink()
        elif self.path.is_dir():
            shutil.rmtree(self.path)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Remove some files below, and the folders that are empty then."""
        folders: set[Path] = set()
        for key in keys:
            (self.path / key).unlink(missing_ok=True)
            folders.update(parent for parent in (self.path / key).parents if parent.is_relative_to(self.path))
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # not empty, or gone already
                folder.rmdir()

    def zarr_store(self, *, read_only: bool) -> "Store":
        """The folder as a Zarr store."""
        from udt_cluster.storage.zarr_stores import LocalZarrStore

        return LocalZarrStore(self.path, read_only=read_only)


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]], problems: list[str]) -> Iterator[Entry]:
    here = folder.stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        problems.append(f"{folder} leads back to a folder that contains it")
        return
    with os.scandir(folder) as items:
        for item in items:
            if not _UNFINISHED.search(item.name):
                yield from _visit(item, f"{prefix}{item.name}", above | {identity}, problems)


def _visit(item: os.DirEntry[str], key: str, above: frozenset[tuple[int, int]], problems: list[str]) -> Iterator[Entry]:
    try:
        if item.is_dir():
            yield from _walk(Path(item.path), f"{key}/", above, problems)
        elif item.is_file():
            status = item.stat()
            yield Entry(key=key, size=status.st_size, token=str(status.st_mtime_ns), modified=status.st_mtime)
        elif item.is_symlink() and not Path(item.path).exists():
            problems.append(f"{item.path} points to {Path(item.path).readlink()}, which is not there")
    except FileNotFoundError:
        if os.path.lexists(item.path):
            raise


def _created(path: Path) -> BinaryIO:
    """A new file; its folder is made, again where somebody removes the empty one at this very moment."""
    for last in (*[False] * _TRIES, True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            return path.open("xb")
        except (FileNotFoundError, FileExistsError):  # mkdir says the latter of a folder that goes while it looks
            if last:
                raise
    raise AssertionError("the last try returned or raised")


@lru_cache(maxsize=4096)
def _sweep(folder: Path) -> None:
    """Remove what dead writers left, once per folder and process."""
    oldest = time.time() - _ABANDONED_AFTER_SECONDS
    for path in folder.iterdir():
        if _UNFINISHED.search(path.name):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
