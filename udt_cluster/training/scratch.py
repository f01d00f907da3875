"""Folders on the node's own disk for snapshots on their way to storage; those of the dead are removed."""

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

_PREFIX, _LOCK = "udt-snapshot-", "owner.lock"


@dataclass(frozen=True)
class Room:
    """What one rank has on its disk, named by host and device, and what it needs; bytes."""

    disk: tuple[str, int]
    needed: int
    free: int


class Scratch:
    """A folder below the one for temporary files (``TMPDIR``) that lives as long as its process, at most.

    A lock says that its owner lives: it goes with the process, however that ends, and is seen by other containers
    that share the disk.
    """

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        made = Path(tempfile.mkdtemp(prefix="udt-"))
        self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = made.rename(made.with_name(_PREFIX + made.name))  # only now: without its lock it looks abandoned
        self._count = 0

    def new(self) -> Path:
        """An empty folder."""
        self._count += 1
        folder = self.path / str(self._count)
        folder.mkdir()
        return folder

    def room(self, needed: int) -> Room:
        """What there is for `needed` bytes."""
        disk = platform.node(), self.path.stat().st_dev
        return Room(disk, needed, shutil.disk_usage(self.path).free)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def refuse_full_disks(rooms: Sequence[Room]) -> None:
    """Look whether the ranks that share a disk fit on it together.

    Raises:
        OSError: they do not (ENOSPC), with the host and the figures.
    """
    for disk in sorted({room.disk for room in rooms}):
        there = [room for room in rooms if room.disk == disk]
        needed, free = sum(room.needed for room in there), min(room.free for room in there)
        if free < needed:
            figures = f"{free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed" + (
                f" by {len(there)} ranks" if len(there) > 1 else ""
            )
            raise OSError(ENOSPC, f"No space left on device of {disk[0]}: {figures}")


def remove_abandoned(parent: Path) -> None:
    """Remove the folders whose owners are dead; those of other users stay."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
