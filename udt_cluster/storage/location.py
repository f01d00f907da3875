"""Where something is stored: a URI that can be read, written and listed, on a disk or in S3."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote_to_bytes

from udt_cluster.errors import UsageError
from udt_cluster.storage.failures import storage_errors
from udt_cluster.storage.local import LocalObject
from udt_cluster.storage.objects import Entry, Hashed, ObjectAccess, ObjectRecord, file_chunks

if TYPE_CHECKING:
    from zarr.abc.store import Store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_ALLOWED = "s3://bucket/prefix, file:///folder or a path"


@dataclass(frozen=True)
class Location:
    """A file, folder, S3 object or S3 prefix, by its URI.

    Holds the URI only: it can be hashed, compared, pickled and used from any thread; clients are made in the process
    that reads or writes. S3 credentials, endpoint and region are those of that process (the usual AWS variables and
    files). Every method that touches storage raises FileNotFoundError, AuthError, CorruptError or
    StorageUnreachableError, and no other error of the storage.

    Attributes:
        uri: ``file:///absolute/path`` (percent-encoded) or ``s3://bucket/key`` (as it is), without a trailing slash.
    """

    uri: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", _canonical(self.uri))

    @classmethod
    def parse(cls, uri: str | Path) -> "Location":
        """Read ``s3://bucket/prefix``, ``file:///path`` or a path (relative ones start at the working directory).

        Raises:
            UsageError: another scheme, no bucket, NUL, or ".." in a URI (a plain path may have it).
        """
        return cls(str(uri))

    def __str__(self) -> str:
        return self.uri

    @property
    def is_local(self) -> bool:
        """Whether this is on a file system."""
        return self.uri.startswith("file://")

    @property
    def local_path(self) -> Path:
        """The path.

        Raises:
            ValueError: this is not on a file system.
        """
        if not self.is_local:
            raise ValueError(f"{self.uri} is not on a file system")
        return Path(os.fsdecode(unquote_to_bytes(self.uri.removeprefix("file://"))))

    @property
    def name(self) -> str:
        """The last part of the path; empty for a bucket or the root folder."""
        return self.local_path.name if self.is_local else self._bucket_and_key[1].rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        """One step up; a bucket and the root folder are their own parents."""
        if self.is_local:
            return Location(self.local_path.parent.as_uri())
        bucket, key = self._bucket_and_key
        return Location(f"s3://{bucket}/{key.rpartition('/')[0]}")

    def __truediv__(self, key: str) -> "Location":
        """The location of a key below this one.

        Raises:
            UsageError: an empty or absolute key, or one with an empty, "." or ".." part or NUL.
        """
        check_key(key)
        if self.is_local:
            return Location((self.local_path / key).as_uri())
        return Location(f"{self.uri}/{key}")

    def read_bytes(self, *, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes [start, end) of the object, all by default; fewer where it is shorter.

        Raises:
            FileNotFoundError: there is no such object.
            ValueError: a negative position.
        """
        if min(start or 0, end or 0) < 0:
            raise ValueError(f"positions count from the start of the object: start={start}, end={end}")
        with storage_errors(self):
            return self._access.read(start, end)

    def write_bytes(self, data: bytes) -> None:
        """Put the object; readers see the old one or the new one, never a part."""
        with storage_errors(self):
            self._access.write([data])

    def exists(self) -> bool:
        """Whether there is an object here (a folder or a prefix is none)."""
        with storage_errors(self):
            return self._access.exists()

    def size(self) -> int:
        """Bytes of the object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with storage_errors(self):
            return self._access.size()

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """Bytes of some objects below, by key; those that are not there, or may not be seen, are left out."""
        with storage_errors(self):
            return self._access.sizes(keys)

    def open(self) -> BinaryIO:
        """The object as a seekable binary file for reading.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with storage_errors(self):
            return self._access.open()

    def entries(self) -> list[Entry]:
        """All objects below, recursively, sorted by key; none where nothing is there. Unfinished writes are left out.

        Raises:
            DataError: symbolic links that lead nowhere or in a circle, all by name.
        """
        with storage_errors(self):
            return self._access.entries()

    def children(self, *, limit: int | None = None) -> list[str]:
        """Names directly below, sorted; those of folders (or prefixes) end with "/". Never walks through what is below.

        Args:
            limit: Only so many, the first ones; all by default. On S3 a thousand names are one request.
        """
        with storage_errors(self):
            return self._access.children(limit)

    def upload(self, path: Path) -> ObjectRecord:
        """Put the content of a local file here, streaming; the record's key is this location's name.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self._write_hashed(file_chunks(path))

    def download(self, path: Path) -> ObjectRecord:
        """Copy the object to a local file, which appears complete or not at all; says what came.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with storage_errors(self):
            came = Hashed(self._access.chunks())
            with storage_errors(path):
                LocalObject(path).write(came)
            return came.record(self.name)

    def checksum(self) -> ObjectRecord:
        """Read the object through and say what it is; the record's key is this location's name.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with storage_errors(self):
            read = Hashed(self._access.chunks())
            for _ in read:
                pass
            return read.record(self.name)

    def delete(self) -> None:
        """Remove the object; nothing happens where there is none."""
        with storage_errors(self):
            self._access.delete()

    def delete_tree(self) -> None:
        """Remove all objects below; nothing happens where there are none."""
        with storage_errors(self):
            self._access.delete_tree()

    def delete_keys(self, keys: Iterable[str]) -> None:
        """Remove some objects below; those that are not there are no error.

        Raises:
            UsageError: a key that leads elsewhere.
        """
        wanted = list(keys)
        for key in wanted:
            check_key(key)
        with storage_errors(self):
            self._access.delete_keys(wanted)

    def zarr_store(self, *, read_only: bool) -> "Store":
        """A Zarr store whose root is here; it raises the same errors as this class, never foreign ones."""
        with storage_errors(self):
            return self._access.zarr_store(read_only=read_only)

    def _write_hashed(self, chunks: Iterable[bytes]) -> ObjectRecord:
        with storage_errors(self):
            sent = Hashed(chunks)
            self._access.write(sent)
            return sent.record(self.name)

    @property
    def _bucket_and_key(self) -> tuple[str, str]:
        bucket, _, key = self.uri.removeprefix("s3://").partition("/")
        return bucket, key

    @property
    def _access(self) -> ObjectAccess:
        if self.is_local:
            return LocalObject(self.local_path)
        from udt_cluster.storage.s3 import S3Object

        return S3Object(*self._bucket_and_key)


def check_key(key: str) -> None:
    """Refuse a key that could leave the location that it is relative to.

    Raises:
        UsageError: the key is empty or absolute, or has an empty, "." or ".." part or NUL.
    """
    if not key or key.startswith("/") or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UsageError(f"{key!r} is not a key. Give a relative name such as a/b.bin, without '', '.' or '..' parts")


def _canonical(uri: str) -> str:
    if not uri or "\0" in uri:
        raise UsageError(f"{uri!r} is not a location. Allowed: {_ALLOWED}")
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return _absolute(uri).as_uri()
    rest = uri[scheme.end() :]
    if scheme[1].lower() == "s3":
        return _canonical_s3(rest)
    if scheme[1].lower() == "file":
        return _canonical_file(rest)
    raise UsageError(f"{scheme[1]}:// is not a kind of storage that this package knows. Allowed: {_ALLOWED}")


def _canonical_s3(rest: str) -> str:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        shown = "credentials" if "@" in bucket else repr(bucket)
        raise UsageError(f"an S3 URI is s3://bucket/prefix, not one with {shown} where the bucket's name must be")
    parts = [part for part in key.split("/") if part]
    _refuse_dots(parts, f"s3://{rest}")
    return "/".join(["s3:/", bucket, *parts])


def _canonical_file(rest: str) -> str:
    path = os.fsdecode(unquote_to_bytes(rest.removeprefix("localhost")))
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"'file://{rest}' names no absolute path. A file URI is file:///folder, with three slashes")
    _refuse_dots(path.split("/"), f"file://{rest}")
    return _absolute(path).as_uri()


def _absolute(path: str) -> Path:
    """Links stay as they are written, except where ".." has to be taken from what a link points to."""
    given = Path(re.sub(r"^/+", "/", path))
    return given.resolve() if ".." in given.parts else given.absolute()


def _refuse_dots(parts: list[str], uri: str) -> None:
    if not {".", ".."}.isdisjoint(parts):
        raise UsageError(f"{uri!r}: '.' and '..' are not allowed in a URI. Write the location that is meant")
