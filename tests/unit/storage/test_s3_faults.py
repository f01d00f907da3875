"""S3 that misbehaves: a small server in this process that fails as told. What real S3 does is tested on a real one."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.servers.faulty_s3 import FaultyServer, running_faulty_server
from udt_cluster.errors import AuthError, CorruptError, StorageUnreachableError
from udt_cluster.storage import Location, describe, read_commit, s3_client, verify, write_commit

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setattr(s3_client, "_READ_TIMEOUT", 0.3)
    with running_faulty_server() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


ROOT = Location.parse("s3://bucket/p")


@pytest.mark.parametrize("fault", ["503", "hang up", "half", "reset", "stall"])
@pytest.mark.parametrize("times", [1, 3])
def test_fault_N2_passing_faults_of_a_get_are_repeated(server: FaultyServer, fault: str, times: int) -> None:
    server.objects["/bucket/p/object"] = CONTENT
    server.faults = [fault] * times
    began = time.monotonic()
    assert (ROOT / "object").read_bytes() == CONTENT
    assert len(server.requests) == times + 1
    assert time.monotonic() - began < 20, "silence ends with the time-out of a read, not with the server's"


def test_a_server_that_ignores_ranges_is_understood(server: FaultyServer) -> None:
    server.objects["/bucket/p/object"] = CONTENT
    assert (ROOT / "object").read_bytes(start=5, end=9) == CONTENT[5:9]
    assert (ROOT / "object").checksum().size == len(CONTENT)


def test_a_put_is_repeated(server: FaultyServer) -> None:
    server.faults = ["503", "503"]
    (ROOT / "object").write_bytes(CONTENT)
    assert server.objects == {"/bucket/p/object": CONTENT}


@pytest.mark.parametrize("fault", ["half", "reset", "stall"])
def test_fault_N2_a_download_that_breaks_off_leaves_the_whole_file_or_none(
    server: FaultyServer, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.objects["/bucket/p/object"] = CONTENT
    server.faults = [fault]
    assert (ROOT / "object").download(tmp_path / "file").size == len(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    server.faults = [fault] * 1000
    with pytest.raises(StorageUnreachableError):
        (ROOT / "object").download(tmp_path / "never")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fault", ["503", "half", "reset", "stall"])
def test_fault_N2_lasting_faults_end_with_the_deadline(
    server: FaultyServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    server.objects["/bucket/p/object"] = CONTENT
    server.faults = [fault] * 1000
    with pytest.raises(StorageUnreachableError, match=r"127\.0\.0\.1") as caught:
        (ROOT / "object").read_bytes()
    assert "secret" not in str(caught.value)


def test_zarr_takes_what_it_may_not_see_for_an_error_and_not_for_zeros(server: FaultyServer) -> None:
    written = zarr.storage.MemoryStore()
    zarr.create_array(written, shape=(4,), chunks=(2,), dtype="u1", fill_value=0)
    server.objects["/bucket/p/zarr.json"] = written._store_dict["zarr.json"].to_bytes()
    array = zarr.open_array(ROOT.zarr_store(read_only=True), mode="r")
    assert np.asarray(array).tolist() == [0, 0, 0, 0], "absent, and known to be"
    server.hides = True
    with pytest.raises(AuthError, match="bucket/p/c/"):
        np.asarray(array)
    with pytest.raises(AuthError):
        (ROOT / "missing").exists()


def test_fault_S11_a_commit_is_verified_with_the_right_to_get_alone(server: FaultyServer) -> None:
    for key in ("a", "b/c"):
        (ROOT / key).write_bytes(key.encode() * 100)
    commit = write_commit(ROOT, describe(ROOT, ["a", "b/c"]), {})
    server.hides = True
    assert read_commit(ROOT) == commit
    verify(ROOT, commit, checksums=True)
    del server.objects["/bucket/p/a"]
    for checksums in (False, True):
        with pytest.raises(CorruptError) as caught:
            verify(ROOT, commit, checksums=checksums)
        assert caught.value.problems == ("a: missing, or it may not be read (100 bytes were committed)",)


def test_fault_S11_what_may_not_be_seen_is_no_missing_commit(server: FaultyServer) -> None:
    """Else a data set that is there would be prepared again, or one that is not there trained on."""
    server.hides = True
    with pytest.raises(AuthError, match="without the right to list"):
        read_commit(ROOT)
    assert ROOT.sizes(["x"]) == {}
