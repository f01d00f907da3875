"""What storage says about an object, and what every kind of storage can do with one."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from udt_cluster.storage.failures import storage_errors

if TYPE_CHECKING:
    from zarr.abc.store import Store

PART_BYTES = 6 * 2**20
"""Objects are streamed in pieces of this size; S3 wants at least 5 MiB for every part but the last."""


@dataclass(frozen=True)
class Entry:
    """One object of a listing.

    Attributes:
        key: Name relative to the listed location, with "/" on every system.
        size: Bytes.
        token: Changes whenever the object is written: modification time in ns on a disk, ETag on S3.
        modified: When it was written last by the clock of the storage, in seconds since 1970.
    """

    key: str
    size: int
    token: str
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class ObjectRecord:
    """What an object must be: ``size`` in bytes and the hexadecimal SHA-256 of its content."""

    key: str
    size: int
    sha256: str


class ObjectAccess(Protocol):
    """One object, or the prefix of many, on one kind of storage. Errors are still those of the storage."""

    def read(self, start: int | None, end: int | None) -> bytes:
        """Bytes [start, end) of the object; fewer where it is shorter."""

    def chunks(self) -> Iterator[bytes]:
        """The whole object, piece by piece."""

    def write(self, chunks: Iterable[bytes]) -> None:
        """Put the object; nobody sees it before it is complete."""

    def exists(self) -> bool:
        """Whether the object is there."""

    def size(self) -> int:
        """Bytes of the object."""

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """Bytes of those of some objects below that are there and may be seen."""

    def open(self) -> BinaryIO:
        """The object as a seekable file for reading."""

    def entries(self) -> list[Entry]:
        """All objects below, sorted by key."""

    def children(self, limit: int | None) -> list[str]:
        """The first names directly below, sorted; those of folders end with "/"."""

    def delete(self) -> None:
        """Remove the object if it is there."""

    def delete_tree(self) -> None:
        """Remove all objects below."""

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Remove some objects below, as far as they are there."""

    def zarr_store(self, *, read_only: bool) -> "Store":
        """A Zarr store whose root is here."""


class Hashed:
    """Passes pieces on while it counts and hashes them."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._sha256 = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self.size += len(chunk)
            yield chunk

    def record(self, key: str) -> ObjectRecord:
        """What passed so far."""
        return ObjectRecord(key=key, size=self.size, sha256=self._sha256.hexdigest())


def file_chunks(path: Path) -> Iterator[bytes]:
    """The content of a local file in pieces of :data:`PART_BYTES`."""
    with storage_errors(path), path.open("rb") as source:
        while piece := source.read(PART_BYTES):
            yield piece
