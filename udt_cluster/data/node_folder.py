"""A folder that processes of one node share while they live; the last one to leave removes it.

Membership is a shared `flock` on a file in the folder. The kernel takes it away with its process, however that ended,
so a folder whose lock can be had exclusively has no users: it is removed by whoever joins or leaves next. Joining,
leaving and removing happen under one more lock, on the root folder itself. Nothing waits for a process that is dead.
"""

import atexit
import fcntl
import logging
import os
import shutil
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from udt_cluster.errors import UdtError

SHARED_MEMORY = Path("/dev/shm")
_USERS = "users"
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")

log = logging.getLogger(__name__)

Prepare = Callable[[Path, int], None]
"""Fills a new folder; gets its path and the bytes that it may take."""


@dataclass(frozen=True)
class Place:
    """Where a folder may be made.

    Attributes:
        path: An existing folder.
        room: Bytes that may be taken: half of what is free.
    """

    path: Path
    room: int


class NodeFolder:
    """Membership in a shared folder, until :meth:`leave`, the end of the object or the end of the process.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, roots: Sequence[Path], users: int) -> None:
        self.path = path
        self._roots, self._pid = tuple(roots), os.getpid()
        self._dropped = weakref.finalize(self, _leave, self._roots, users, wait=False)
        self._dropped.atexit = False
        _members.add(self)

    @classmethod
    def join(cls, name: str, *, wanted: int, disk: Path, prepare: Prepare) -> "NodeFolder":
        """Join the folder of this name where there is one, else make it: in shared memory, or on disk.

        Args:
            name: Equal names are one folder on a node.
            wanted: Bytes that will be put there; shared memory is taken if half of what is free there is enough.
            disk: Folder for everything that does not fit into shared memory.
            prepare: Called by the process that makes the folder, before any other one sees it.

        Raises:
            UdtError: no place can be written, or the folder belongs to another user.
        """
        places = [path for path in (SHARED_MEMORY, disk) if os.access(path, os.W_OK | os.X_OK)]
        if not places:
            raise UdtError(f"neither {SHARED_MEMORY} nor {disk} can be written; set TMPDIR to a folder on a local disk")
        roots = [path / f"udt-cluster-{os.getuid()}" for path in places]
        with _locked(roots[0]):
            _remove_abandoned(roots)
            found = [root / name for root in roots if (root / name).is_dir()]
            path = found[0] if found else _made(name, wanted, places, prepare)
            users = os.open(path / _USERS, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
        return cls(path, roots, users)

    def leave(self) -> None:
        """End the membership; the folder goes with its last member. Doing it again changes nothing."""
        left = self._dropped.detach()
        # A forked child has no membership of its own, and must not end its parent's.
        if left is not None and os.getpid() == self._pid:
            _leave(*left[2], wait=True)


_members: "weakref.WeakSet[NodeFolder]" = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    for member in list(_members):
        member.leave()


def free_place(path: Path) -> Place:
    """Half of what is free in a folder, for shared memory also of the machine's and the container's memory."""
    state = os.statvfs(path)
    free = [state.f_bavail * state.f_frsize]
    if path == SHARED_MEMORY:
        free += [*_available_memory(), *_container_memory()]
    return Place(path, max(0, min(free)) // 2)


def _available_memory() -> Iterator[int]:
    with suppress(OSError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])


def _container_memory() -> Iterator[int]:
    """What the control group (version 2) still allows; page cache that it would give up counts as free."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit, taken = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        yield limit - taken + int(statistics.get("inactive_file", 0))


def _made(name: str, wanted: int, places: Sequence[Path], prepare: Prepare) -> Path:
    """A new folder in the first place with room enough, else in the roomiest, and a warning that says so."""
    free = [free_place(path) for path in places]
    chosen = next((place for place in free if place.room >= wanted), None) or max(free, key=lambda place: place.room)
    capacity = min(wanted, chosen.room)
    path = chosen.path / f"udt-cluster-{os.getuid()}" / name
    try:
        path.mkdir(mode=0o700, parents=True)
        prepare(path, capacity)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise UdtError(
            f"{path}: the cache of decoded samples cannot be made there: {error.strerror}. Make room in {chosen.path}, "
            "or set TMPDIR to a folder on a local disk that has some"
        ) from error
    _tell(chosen, free, path, wanted=wanted, capacity=capacity)
    return path


def _tell(chosen: Place, free: Sequence[Place], path: Path, *, wanted: int, capacity: int) -> None:
    rooms = ", ".join(f"{place.path} {place.room / 1e9:.3g} GB" for place in free)
    remedy = f"Room (half of what is free): {rooms}. Give the node more shared memory (docker run --shm-size, a"
    remedy += " Kubernetes emptyDir of medium Memory), or set data.cache lower."
    if capacity < wanted:
        log.warning(
            "the cache of decoded samples has %.3g GB in %s, not the %.3g GB that it was to have: batches are the "
            "same, but shards are read again and again. %s",
            *(capacity / 1e9, path, wanted / 1e9, remedy),
        )
    elif chosen.path != SHARED_MEMORY:
        log.warning("the cache of decoded samples (%.3g GB) lies on disk, in %s. %s", wanted / 1e9, path, remedy)


def _leave(roots: tuple[Path, ...], users: int, *, wait: bool) -> None:
    """Close the membership and remove what has no members.

    Args:
        roots: Of the folder.
        users: The open file of the membership.
        wait: For the lock. Not from a garbage collection, which may come while this very thread has it: then what is
            abandoned waits for the next one who joins or leaves.
    """
    os.close(users)
    with suppress(BlockingIOError), _locked(roots[0], wait=wait):
        _remove_abandoned(roots)
        for root in roots[1:]:
            with suppress(OSError):
                root.rmdir()


def _remove_abandoned(roots: Sequence[Path]) -> None:
    for root in roots:
        with suppress(FileNotFoundError):
            for path in list(root.iterdir()):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a folder without living members; the caller holds the lock of the root."""
    with suppress(FileNotFoundError, BlockingIOError):
        users = os.open(path / _USERS, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(users)


@contextmanager
def _locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a root folder, which is there meanwhile; afterwards it is removed if it is empty.

    Raises:
        UdtError: it cannot be made, or belongs to another user.
        BlockingIOError: somebody has it, and this was not to wait.
    """
    folder = _locked_folder(root, wait=wait)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            root.rmdir()
        os.close(folder)


def _locked_folder(root: Path, *, wait: bool) -> int:
    while True:
        try:
            root.mkdir(mode=0o700, exist_ok=True)
            folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # removed by the one who left
            continue
        except OSError as error:
            raise UdtError(f"{root}: no folder that can be used: {error.strerror}; remove it") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise
        if is_at(folder, root):
            break
        os.close(folder)  # while this process waited it was removed, and perhaps made again
    owner = os.fstat(folder)
    if owner.st_uid != os.getuid() or stat.S_IMODE(owner.st_mode) & 0o077:
        os.close(folder)
        raise UdtError(f"{root}: other users could read or change what is put there; remove it")
    return folder


def is_at(descriptor: int, path: Path) -> bool:
    """Whether what is open is what lies at the path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
