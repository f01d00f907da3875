"""A source whose files must still be what was hashed when they are read: the version follows from these hashes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from udt_cluster.errors import DataError
from udt_cluster.storage import Location


@dataclass(frozen=True)
class HashedSource(Location):
    """A source, and the SHA-256 of some of its files.

    Attributes:
        digests: By key; the others are read as they are.
    """

    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __truediv__(self, key: str) -> Location:
        place = super().__truediv__(key)
        digest = self.digests.get(key)
        return place if digest is None else _HashedFile(place.uri, digest)


@dataclass(frozen=True)
class _HashedFile(Location):
    sha256: str = ""

    def read_bytes(self, *, start: int | None = None, end: int | None = None) -> bytes:
        """As of any location.

        Raises:
            DataError: all of it was read, and it is not what was hashed.
        """
        data = super().read_bytes(start=start, end=end)
        whole = not start and (end is None or len(data) < end)
        if whole and hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(f"{self}: changed while the source was read; prepare again when nothing writes there.")
        return data
