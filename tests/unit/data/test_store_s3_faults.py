"""A data set in S3 that misbehaves: whole samples, or an error; never zeros, never a part."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.factories import make_store
from tests.servers.faulty_s3 import FaultyServer, running_faulty_server
from udt_cluster.data import DataStore
from udt_cluster.errors import AuthError, CorruptError, StorageUnreachableError
from udt_cluster.storage import Location, s3_client

ROOT = Location.parse("s3://bucket/d/v")
SHARD = "images/c/1/0/0/0"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> DataStore:
    return make_store(tmp_path_factory.mktemp("store"), slices=(2, 7), channels=3)


@pytest.fixture
def server(local: DataStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """The same store behind a role that may get objects, and neither list nor delete."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setattr(s3_client, "_READ_TIMEOUT", 0.3)
    with running_faulty_server() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        for entry in local.location.entries():
            running.objects[f"/bucket/d/v/{entry.key}"] = (local.location / entry.key).read_bytes()
        running.hides = True
        yield running


def test_fault_S11_the_right_to_get_is_enough_to_train(server: FaultyServer, local: DataStore) -> None:
    store = DataStore.open(ROOT, verify_checksums=True)
    for mine, theirs in zip(store.read_samples(0, 9), local.read_samples(0, 9), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(store.native_label(1), local.native_label(1))
    assert np.array_equal(store.images[3], local.images[3])
    assert store.cases.ids == local.cases.ids


@pytest.mark.parametrize("key", [SHARD, "labels/c/0/0/0", "native_labels/c/0", "cases/id/c/0", "samples/case/c/0"])
def test_fault_S11_a_missing_object_behind_403_is_an_error_on_opening(server: FaultyServer, key: str) -> None:
    del server.objects[f"/bucket/d/v/{key}"]
    with pytest.raises(CorruptError, match=f"{key}: missing, or it may not be read"):
        DataStore.open(ROOT)


def test_fault_S11_a_missing_object_behind_403_never_reads_as_zeros(server: FaultyServer) -> None:
    store = DataStore.open(ROOT)
    for key in (SHARD, "native_labels/c/0", "cases/id/c/0", "cases/affine/c/0/0/0"):
        del server.objects[f"/bucket/d/v/{key}"]
    for read in (
        lambda: store.read_samples(0, 9),
        lambda: store.read_shard(1),
        lambda: store.images[5],
        lambda: store.native_label(0),
        lambda: store.cases.ids,
        lambda: store.cases.affine,
    ):
        with pytest.raises((AuthError, CorruptError), match="d/v/"):
            read()


@pytest.mark.parametrize("fault", ["half", "reset", "stall"])
def test_fault_N2_a_shard_that_breaks_off_is_read_again(server: FaultyServer, local: DataStore, fault: str) -> None:
    store = DataStore.open(ROOT)
    server.faults = [fault, fault]
    assert np.array_equal(store.read_shard(1)[0], local.read_shard(1)[0])
    server.faults = [fault]
    assert np.array_equal(store.images[5], local.images[5])


@pytest.mark.parametrize("fault", ["half", "reset", "stall"])
def test_fault_N2_a_shard_that_never_comes_whole_is_an_error(
    server: FaultyServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DataStore.open(ROOT)
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    for read in (lambda: store.read_shard(1), lambda: store.images[5]):
        server.faults = [fault] * 1000
        with pytest.raises(StorageUnreachableError):
            read()
