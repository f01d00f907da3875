"""Objects in S3, through s3fs."""

import asyncio
import hashlib
import io
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from udt_cluster.errors import AuthError, CorruptError, StorageUnreachableError, UdtError
from udt_cluster.storage.objects import PART_BYTES, Entry
from udt_cluster.storage.patience import finish_within
from udt_cluster.storage.s3_client import S3Client, client

if TYPE_CHECKING:
    from zarr.abc.store import Store

_PARTS_IN_FLIGHT = 4
_HEADS_IN_FLIGHT = 64
_SECONDS_AFTER = 5.0  # for a look, or for cleaning up, after a request has failed
_T = TypeVar("_T")


@dataclass(frozen=True)
class S3Object:
    """One object, or one prefix of objects. See :class:`~udt_cluster.storage.objects.ObjectAccess`."""

    bucket: str
    key: str

    def read(self, start: int | None, end: int | None) -> bytes:
        """Bytes [start, end) of the object, in one request."""
        connection = client(asynchronous=False)
        return _result(connection, connection.get_range(self.bucket, self.key, start=start, end=end)).data

    def chunks(self) -> Iterator[bytes]:
        """The object, piece by piece, each a request of its own; a change meanwhile is an error."""
        connection, offset, etag, total = client(asynchronous=False), 0, None, 1
        while offset < total:
            request = connection.get_range(self.bucket, self.key, start=offset, end=offset + PART_BYTES, etag=etag)
            part = _result(connection, request)
            yield part.data
            offset, etag, total = offset + len(part.data), part.etag, part.total

    def write(self, chunks: Iterable[bytes]) -> None:
        """One PUT, or a multipart upload where there is more than a part; S3 shows neither before it is complete."""
        parts = _regrouped(chunks)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            self._call("put_object", Key=self.key, Body=first)
        else:
            self._write_parts(chain([first, second], parts))

    def exists(self) -> bool:
        """Whether the object is there; AuthError where that may not be known."""
        try:
            self._call("head_object", Key=self.key)
        except FileNotFoundError:
            return False
        return True

    def size(self) -> int:
        """Bytes of the object."""
        return int(self._call("head_object", Key=self.key)["ContentLength"])

    def sizes(self, keys: Sequence[str]) -> dict[str, int]:
        """Bytes of those objects that are there and may be seen.

        One listing says it of all; what that does not show, or everything where listing is not allowed, is asked for.
        """
        try:
            found = {entry.key: entry.size for entry in self.entries()}
        except AuthError:
            found = {}
        connection = client(asynchronous=False)
        unseen = [key for key in keys if key not in found]
        for start in range(0, len(unseen), _HEADS_IN_FLIGHT):
            found |= _result(connection, self._looked_up(connection, unseen[start : start + _HEADS_IN_FLIGHT]))
        return {key: found[key] for key in keys if key in found}

    def open(self) -> BinaryIO:
        """The object as a seekable file."""
        head = self._call("head_object", Key=self.key)
        raw = _RangeFile(self, size=int(head["ContentLength"]), etag=str(head["ETag"]))
        return cast(BinaryIO, io.BufferedReader(raw, buffer_size=2**20))

    def entries(self) -> list[Entry]:
        """All objects below the prefix; empty ones that stand for folders are none."""
        connection = client(asynchronous=False)
        return sorted(_result(connection, self._entries(connection)), key=lambda entry: entry.key)

    def children(self, limit: int | None) -> list[str]:
        """Names directly below, sorted; those of prefixes end with "/". As few requests as the limit allows."""
        connection = client(asynchronous=False)
        return sorted(_result(connection, connection.children(self.bucket, self._prefix, limit=limit)))[:limit]

    def delete(self) -> None:
        """Remove the object if it is there."""
        self._call("delete_object", Key=self.key)

    def delete_tree(self) -> None:
        """Remove all objects below the prefix."""
        connection = client(asynchronous=False)
        _result(connection, connection.delete_prefix(self.bucket, self._prefix))

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Remove some objects below, as far as they are there."""
        connection = client(asynchronous=False)
        _result(connection, connection.delete_keys(self.bucket, [f"{self._prefix}{key}" for key in keys]))

    def zarr_store(self, *, read_only: bool) -> "Store":
        """The prefix as a Zarr store; Zarr runs an event loop of its own, so it has a client of its own."""
        from zarr.storage import FsspecStore

        root = f"{self.bucket}/{self.key}".rstrip("/")
        return FsspecStore(client(asynchronous=True), read_only=read_only, path=root)

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _call(self, method: str, **arguments: object) -> dict[str, Any]:
        connection = client(asynchronous=False)
        return _result(connection, connection.request(method, Bucket=self.bucket, **arguments))

    async def _entries(self, connection: S3Client) -> list[Entry]:
        skip = len(self._prefix)
        return [
            Entry(
                key=item["Key"][skip:],
                size=int(item["Size"]),
                token=str(item["ETag"]).strip('"'),
                modified=item["LastModified"].timestamp(),
            )
            async for page in connection.pages(self.bucket, self._prefix)
            for item in page
            if not item["Key"].endswith("/")
        ]

    async def _looked_up(self, connection: S3Client, keys: Sequence[str]) -> dict[str, int]:
        """Sizes by HEAD; without the right to list, S3 answers 403 for what is not there."""
        requests = (connection.request("head_object", Bucket=self.bucket, Key=f"{self._prefix}{key}") for key in keys)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        found = {}
        for key, answer in zip(keys, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError | AuthError):
                raise answer
            if not isinstance(answer, BaseException):
                found[key] = int(answer["ContentLength"])
        return found

    def _write_parts(self, parts: Iterator[bytes]) -> None:
        upload = self._call("create_multipart_upload", Key=self.key)["UploadId"]
        complete = False
        try:
            self._complete(upload, self._send_parts(upload, parts))
            complete = True
        finally:
            if not complete:
                self._abort(upload)

    def _complete(self, upload: str, tags: list[str]) -> None:
        """Make the object of its parts. After a lost answer S3 may know the upload no more: the object decides."""
        sent = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]}
        try:
            self._call("complete_multipart_upload", Key=self.key, UploadId=upload, MultipartUpload=sent)
        except (CorruptError, StorageUnreachableError):
            if not self._is_made_of(tags):
                raise

    def _is_made_of(self, tags: list[str]) -> bool:
        """Whether the object is there and its ETag is that of these parts: the MD5 of their MD5s, and their number."""
        with suppress(FileNotFoundError, UdtError), finish_within(_SECONDS_AFTER):
            digests = b"".join(bytes.fromhex(tag.strip('"')) for tag in tags)
            expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(tags)}"
            return str(self._call("head_object", Key=self.key)["ETag"]).strip('"') == expected
        return False

    def _abort(self, upload: str) -> None:
        """Free what was sent. What ended the upload is raised, not what may be wrong with this."""
        with suppress(FileNotFoundError, UdtError), finish_within(_SECONDS_AFTER):
            self._call("abort_multipart_upload", Key=self.key, UploadId=upload)

    def _send_parts(self, upload: str, parts: Iterator[bytes]) -> list[str]:
        """Send the parts, some at a time; their ETags."""
        connection = client(asynchronous=False)
        target = {"Bucket": self.bucket, "Key": self.key, "UploadId": upload}
        flying: deque[Future[dict[str, Any]]] = deque()
        tags: list[str] = []
        try:
            for number, part in enumerate(parts, 1):
                request = connection.request("upload_part", **target, PartNumber=number, Body=part)
                flying.append(asyncio.run_coroutine_threadsafe(request, connection.loop))
                if len(flying) == _PARTS_IN_FLIGHT:
                    tags.append(flying.popleft().result()["ETag"])
            tags.extend(future.result()["ETag"] for future in flying)
        finally:
            for future in flying:
                future.cancel()
        return tags


class _RangeFile(io.RawIOBase):
    """Reads ranges of one object as it was when it was opened."""

    def __init__(self, source: S3Object, *, size: int, etag: str) -> None:
        super().__init__()
        self._source, self._size, self._etag, self._position = source, size, etag, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        start, end = self._position, min(self._position + len(buffer), self._size)
        if start >= end:
            return 0
        connection = client(asynchronous=False)
        request = connection.get_range(self._source.bucket, self._source.key, start=start, end=end, etag=self._etag)
        data = _result(connection, request).data
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _result(connection: S3Client, request: Coroutine[Any, Any, _T]) -> _T:
    future = asyncio.run_coroutine_threadsafe(request, connection.loop)
    try:
        return future.result()
    finally:
        future.cancel()


def _regrouped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PART_BYTES, the last one shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)
