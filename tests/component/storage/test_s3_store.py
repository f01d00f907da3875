"""The store contract on a real S3 server, and what only S3 has."""

import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.contracts.store import BIG, StoreContract, broken_source, write_array
from tests.servers.process import free_port
from tests.servers.swift import PAGE_KEYS, S3Server
from udt_cluster.errors import AuthError, StorageUnreachableError, UdtError
from udt_cluster.storage import Location, describe, probe, read_commit, write_commit

pytestmark = [pytest.mark.component, pytest.mark.s3]

CANARY = "canary-7f3e-secret"


class BotoClient:
    """boto3, which shares no code path with s3fs above botocore."""

    def __init__(self, server: S3Server, bucket: str, prefix: str) -> None:
        self.s3: Any = server.boto3()
        self.bucket, self.prefix = bucket, prefix

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)

    def get(self, key: str) -> bytes:
        with self.s3.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"] as body:
            data: bytes = body.read()
            return data

    def keys(self) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return {item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", [])}

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=self.prefix + key)


@pytest.fixture
def root(s3_uri: str) -> Location:
    return Location.parse(s3_uri) / "some prefix/ü"


@pytest.fixture
def second(root: Location, s3_env: S3Server) -> Iterator[BotoClient]:
    bucket, _, key = root.uri.removeprefix("s3://").partition("/")
    client = BotoClient(s3_env, bucket, f"{key}/")
    yield client
    client.s3.close()


class TestS3Store(StoreContract):
    many = 2 * PAGE_KEYS + 1

    @pytest.mark.slow
    def test_more_than_a_thousand_keys(self, root: Location, second: BotoClient) -> None:
        self.check_many(root, second, 1_001)


def test_big_objects_go_in_parts(root: Location, second: BotoClient) -> None:
    (root / "big").write_bytes(bytes(BIG))
    etag = second.s3.head_object(Bucket=second.bucket, Key=f"{second.prefix}big")["ETag"]
    assert etag.strip('"').endswith("-3")


def test_a_failed_upload_leaves_no_parts(root: Location, second: BotoClient) -> None:
    with pytest.raises(KeyboardInterrupt):
        (root / "big")._access.write(broken_source())
    assert second.s3.list_multipart_uploads(Bucket=second.bucket).get("Uploads", []) == []


def test_a_whole_bucket_is_a_location(s3_uri: str) -> None:
    root = Location.parse(s3_uri)
    write_array(root)
    write_commit(root, describe(root), {})
    assert "images/zarr.json" in {entry.key for entry in root.entries()}
    assert np.asarray(zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]).any()
    root.delete_tree()
    assert root.entries() == []


def every_use(root: Location, folder: Path) -> list[Callable[[], object]]:
    target = root / "object"
    (folder / "file").write_bytes(b"1")
    return [
        target.read_bytes,
        lambda: target.write_bytes(b"1"),
        lambda: target.write_bytes(bytes(BIG)),
        target.exists,
        target.open,
        target.checksum,
        target.delete,
        root.entries,
        root.delete_tree,
        lambda: target.upload(folder / "file"),
        lambda: target.download(folder / "back"),
        lambda: read_commit(root),
        lambda: probe(root),
        lambda: zarr.open_group(root.zarr_store(read_only=True), mode="r"),
        lambda: zarr.open_group(root.zarr_store(read_only=False), mode="w"),
    ]


def errors_of_every_use(root: Location, folder: Path, kind: type[UdtError]) -> list[str]:
    found = []
    for use in every_use(root, folder):
        with pytest.raises(kind) as caught:
            use()
        found.append("".join(traceback.format_exception(caught.value)))
        assert caught.value.message.startswith("s3://")
    assert not (folder / "back").exists()
    return found


def test_fault_s2_wrong_secret_is_refused_everywhere_and_shown_nowhere(
    root: Location, tmp_path: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(root)
    assert zarr.open_group(root.zarr_store(read_only=True), mode="r")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    for text in errors_of_every_use(root, tmp_path, AuthError):
        assert CANARY not in text
        assert s3_env.endpoint in text
        assert "AWS_PROFILE" in text


def test_unknown_access_key_and_no_credentials(root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody:here")
    errors_of_every_use(root, tmp_path, AuthError)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    errors_of_every_use(root, tmp_path, AuthError)


def test_credentials_and_endpoint_of_a_profile(
    root: Location, second: BotoClient, tmp_path: Path, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in s3_env.environment:
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {s3_env.access_key}\naws_secret_access_key = {s3_env.secret_key}\n"
    )
    (tmp_path / "config").write_text(f"[profile lab]\nregion = us-east-1\nendpoint_url = {s3_env.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    (root / "object").write_bytes(b"1")
    assert second.keys() == {"object"}
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AuthError, match="ProfileNotFound"):
        (root / "object").read_bytes()


def test_a_bucket_that_does_not_exist_is_not_an_empty_one(s3_env: S3Server) -> None:
    nowhere = Location.parse("s3://no-such-bucket/prefix")
    for use in (nowhere.read_bytes, lambda: nowhere.write_bytes(b"1"), nowhere.entries, lambda: read_commit(nowhere)):
        with pytest.raises(StorageUnreachableError, match="no such bucket"):
            use()


def test_nobody_listens(root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://user:{CANARY}@127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    started = time.monotonic()
    with pytest.raises(StorageUnreachableError, match=r"127\.0\.0\.1") as caught:
        probe(root)
    assert time.monotonic() - started < 10
    assert CANARY not in str(caught.value)
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "0.1")
    errors_of_every_use(root, tmp_path, StorageUnreachableError)


def test_somebody_listens_and_never_answers(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1.5")
        started = time.monotonic()
        with pytest.raises(StorageUnreachableError, match="TimeoutError"):
            (root / "object").read_bytes()
        assert time.monotonic() - started < 5


def test_a_host_that_swallows_packets(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        clients = [socket.socket() for _ in range(4)]
        for client in clients:  # fill the queue of connections that nobody accepts; later ones get no answer
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(StorageUnreachableError, match="ConnectTimeoutError"):
            (root / "object").read_bytes()
        assert time.monotonic() - started < 10
        for client in clients:
            client.close()
