"""Folders on the node's own disk for snapshots on their way to storage; those of the dead are removed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX, _LOCK = "udt-snapshot-", "owner.lock"


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

    def free(self) -> int:
        """Bytes that can still be written."""
        return shutil.disk_usage(self.path).free

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


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
