"""The S3 client: s3fs with one way to repeat and to fail for every request.

s3fs may not be shared by two event loops nor used after a fork. So a process has one client for blocking calls (on
fsspec's loop) and one for Zarr (on Zarr's loop), made when first needed, and a forked child makes its own.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from s3fs import S3FileSystem

from udt_cluster.errors import AuthError, StorageUnreachableError
from udt_cluster.storage.failures import error_codes
from udt_cluster.storage.patience import repeated

_CONNECT_TIMEOUT, _READ_TIMEOUT = 3, 20
_CONNECTIONS = 32
_KEYS_A_REQUEST = 1000
_BEYOND_THE_END = {"InvalidRange", "416"}

_clients: dict[tuple[object, ...], "S3Client"] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Range:
    """What a GET brought: the bytes, the size of the whole object and its ETag."""

    data: bytes
    total: int
    etag: str | None


class S3Client(S3FileSystem):  # type: ignore[misc]  # s3fs has no types
    """s3fs whose every request is repeated until a deadline and raises errors of this package only."""

    retries = 1  # s3fs's own count; repeating is done here, with a deadline

    async def request(self, method: str, **arguments: object) -> dict[str, Any]:
        """The answer to one S3 call, such as ``put_object``."""
        answer: dict[str, Any] = await self._call_s3(method, **arguments)
        return answer

    async def get_range(
        self, bucket: str, key: str, *, start: int | None = None, end: int | None = None, etag: str | None = None
    ) -> Range:
        """Bytes [start, end) of an object (the last -start where start is negative), if it still has this ETag."""
        attempt = partial(self._get_once, bucket, key, start=start, end=end, etag=etag)
        return await repeated(attempt, f"s3://{bucket}/{key}")

    async def _get_once(self, bucket: str, key: str, *, start: int | None, end: int | None, etag: str | None) -> Range:
        wanted = _range_header(start, end)
        condition = {} if etag is None else {"IfMatch": etag}
        try:
            answer = await super()._call_s3("get_object", Bucket=bucket, Key=key, **wanted, **condition)
        except OSError as error:
            if error_codes(error) & _BEYOND_THE_END:
                return Range(b"", 0, etag)
            raise
        async with answer["Body"] as body:
            data = await body.read()
        if "ContentRange" not in answer:  # a server that ignores ranges
            return Range(data[start:end], len(data), answer.get("ETag"))
        return Range(data, int(answer["ContentRange"].rpartition("/")[2]), answer.get("ETag"))

    async def _call_s3(self, method: str, *defaults: Any, **arguments: Any) -> Any:
        where = f"s3://{arguments.get('Bucket', '')}/{arguments.get('Key') or arguments.get('Prefix') or ''}"
        return await repeated(partial(super()._call_s3, method, *defaults, **arguments), where)

    async def _cat_file(
        self, path: str, version_id: None = None, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        bucket, key, _version = self.split_path(path)
        return (await self.get_range(bucket, key, start=start, end=end)).data

    async def pages(self, bucket: str, prefix: str) -> AsyncIterator[list[dict[str, Any]]]:
        """All objects of a bucket whose keys start with `prefix`, a page (at most 1,000) at a time."""
        async for page in self._pages(Bucket=bucket, Prefix=prefix):
            yield page.get("Contents", [])

    async def children(self, bucket: str, prefix: str, *, limit: int | None) -> list[str]:
        """Names directly below a prefix, in pages until there are `limit`; those of prefixes end with "/"."""
        names: list[str] = []
        most = {} if limit is None else {"MaxKeys": min(limit, _KEYS_A_REQUEST)}
        async for page in self._pages(Bucket=bucket, Prefix=prefix, Delimiter="/", **most):
            names += [item["Key"][len(prefix) :] for item in page.get("Contents", []) if item["Key"] != prefix]
            names += [item["Prefix"][len(prefix) :] for item in page.get("CommonPrefixes", [])]
            if limit is not None and len(names) >= limit:
                break
        return names

    async def _pages(self, **wanted: Any) -> AsyncIterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = await self.request("list_objects_v2", **wanted, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete_prefix(self, bucket: str, prefix: str) -> None:
        """Remove all objects whose keys start with `prefix`, a thousand with each request.

        Raises:
            AuthError, StorageUnreachableError: as `delete_keys`.
        """
        keys = [item["Key"] async for page in self.pages(bucket, prefix) for item in page]
        await self.delete_keys(bucket, keys)

    async def delete_keys(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects, a thousand with each request; those that are not there are no error.

        Raises:
            AuthError, StorageUnreachableError: ``problems`` names what was not removed.
        """
        for start in range(0, len(keys), _KEYS_A_REQUEST):
            wanted = {"Objects": [{"Key": key} for key in keys[start : start + _KEYS_A_REQUEST]], "Quiet": True}
            answer = await self.request("delete_objects", Bucket=bucket, Delete=wanted)
            if failed := answer.get("Errors"):
                raise _not_deleted(f"s3://{bucket}", failed)

    async def _rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        bucket, key, _version = self.split_path(path)
        if recursive:
            await self.delete_prefix(bucket, f"{key}/" if key else "")
        else:
            await self.request("delete_object", Bucket=bucket, Key=key)

    async def _exists(self, path: str) -> bool:
        bucket, key, _version = self.split_path(path)
        try:
            await self.request("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:
        """Connect; s3fs calls this before every request."""
        running = asyncio.get_running_loop()
        if getattr(self, "_used_by", running) is not running:
            raise RuntimeError("one S3 client was used from two event loops; open the store where it is used")
        self._used_by = running
        return await super().set_session(refresh, kwargs or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(client, asynchronous=self.asynchronous), ()

    def end(self) -> None:
        """Close the connections of a client that nobody will use again."""
        if self.asynchronous and self._s3 is not None and self._used_by.is_running():
            closing = asyncio.run_coroutine_threadsafe(self._s3creator.__aexit__(None, None, None), self._used_by)
            with suppress(FutureTimeoutError):
                closing.result(timeout=1)


def client(*, asynchronous: bool) -> S3Client:
    """This process's client for blocking calls or for Zarr, with the AWS settings of the environment as it is now."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    identity = (os.getpid(), asynchronous, settings)
    with _lock:
        if identity not in _clients:
            _clients[identity] = _new_client(asynchronous=asynchronous)
        return _clients[identity]


def _new_client(*, asynchronous: bool) -> S3Client:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    has_endpoint = bool(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
    config: dict[str, object] = {
        "connect_timeout": _CONNECT_TIMEOUT,
        "read_timeout": _READ_TIMEOUT,
        "max_pool_connections": _CONNECTIONS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        # Checksums of S3 itself are unknown to other servers; every object has its SHA-256 in a COMMIT.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if has_endpoint:
        config["s3"] = {"addressing_style": "path"}
    made: S3Client = S3Client(
        asynchronous=asynchronous,
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs=config,
        client_kwargs={"region_name": region} if region else {},
    )
    return made


def _not_deleted(where: str, failed: list[dict[str, str]]) -> Exception:
    kind = AuthError if all(item.get("Code") == "AccessDenied" for item in failed) else StorageUnreachableError
    problems = [f"{item.get('Key')}: {item.get('Code')}" for item in failed]
    return kind(f"{where}: {len(failed)} objects were not deleted. Check the right to delete and retry:", problems)


def _range_header(start: int | None, end: int | None) -> dict[str, str]:
    if start is None and end is None:
        return {}
    if start is not None and start < 0:
        return {"Range": f"bytes={start}"}
    return {"Range": f"bytes={start or 0}-{'' if end is None else end - 1}"}


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


def _end_all() -> None:
    for identity, made in _clients.items():
        if identity[0] == os.getpid():
            made.end()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_end_all)
