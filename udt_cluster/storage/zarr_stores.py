"""Zarr stores that raise the errors of this package: what may not be read must never look like what is not there."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zarr.abc.store import ByteRequest
from zarr.storage import LocalStore

from udt_cluster.storage.failures import storage_errors

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype


class LocalZarrStore(LocalStore):
    """Zarr's store on a file system, with its errors translated."""

    async def get(
        self, key: str, prototype: "BufferPrototype | None" = None, byte_range: ByteRequest | None = None
    ) -> "Buffer | None":
        """The object or a part of it; None only where there is none."""
        with storage_errors(self.root / key):
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: "BufferPrototype", key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> "list[Buffer | None]":
        """Parts of objects."""
        with storage_errors(self.root):
            return await super().get_partial_values(prototype, key_ranges)

    async def set(self, key: str, value: "Buffer") -> None:
        """Put the object, complete or not at all."""
        with storage_errors(self.root / key):
            await super().set(key, value)

    async def delete(self, key: str) -> None:
        """Remove the object."""
        with storage_errors(self.root / key):
            await super().delete(key)
