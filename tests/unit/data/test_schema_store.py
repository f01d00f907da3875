"""A written store: read by Zarr alone, read by us, and what happens when somebody breaks it."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from data_prep.perceptual import perceptual_hashes
from tests.factories import make_store
from udt_cluster.data import DataStore
from udt_cluster.data.schema import NUMBER_COLUMNS, STRING_COLUMNS
from udt_cluster.data.shards import ShardError, decode_shard
from udt_cluster.errors import CorruptError, DataError
from udt_cluster.storage import Location

SLICES = (1, 3, 2, 5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    return make_store(folder, slices=SLICES, num_classes=4, channels=3, dtype="uint16").location.local_path


@pytest.fixture
def store(written: Path, tmp_path: Path) -> DataStore:
    """A copy of one's own to break."""
    return DataStore.open(Location.parse(shutil.copytree(written, tmp_path / "copy")))


def test_zarr_alone_reads_it(store: DataStore) -> None:
    group = zarr.open(str(store.location.local_path), mode="r")
    images, labels = store.read_samples(0, sum(SLICES))
    assert np.array_equal(group["images"][:], images)
    assert np.array_equal(group["labels"][:], labels)
    assert images.dtype == np.uint16
    assert images.any(axis=(1, 2, 3)).all()
    assert group["images"].metadata.dimension_names == ("sample", "channel", "y", "x")
    assert list(group["cases/id"][:]) == list(store.cases.ids)
    assert list(group["samples/case"][:]) == [0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3]
    assert list(group["samples/slice"][:]) == [0, 0, 1, 2, 0, 1, 0, 1, 2, 3, 4]
    assert group.attrs["class_names"] == ["background", "first", "second", "third"]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 9), (5, 5), (10, 11), (0, 11), (4, 8)])
def test_any_range_of_samples(store: DataStore, start: int, stop: int) -> None:
    group = zarr.open(str(store.location.local_path), mode="r")
    images, labels = store.read_samples(start, stop)
    assert np.array_equal(images, group["images"][start:stop])
    assert np.array_equal(labels, group["labels"][start:stop])


def test_shards_are_all_samples_once(store: DataStore) -> None:
    parts = [store.read_shard(index) for index in range(store.num_shards)]
    assert [len(images) for images, _ in parts] == [4, 4, 3]
    assert np.array_equal(np.concatenate([images for images, _ in parts]), store.read_samples(0, 11)[0])


def test_native_labels_and_geometry(store: DataStore) -> None:
    for case, depth in enumerate(SLICES):
        label = store.native_label(case)
        assert label.shape == (depth, 40 + case, 36)
        assert set(np.unique(label)) <= {0, 1, 2, 3}
        assert label.any()
    assert np.isnan(store.cases.spacing[0]).all()
    assert store.cases.spacing[1].tolist() == [5.0, 1.5, 1.25]
    assert store.cases.first_sample.tolist() == [0, 1, 4, 6]


def test_columns_are_read_when_they_are_asked_for(store: DataStore) -> None:
    """And what was lost meanwhile is an error by its name then."""
    assert len(store.cases) == 4
    assert store.cases.ids == ("case-00", "case-01", "case-02", "case-03")
    copy = pickle.loads(pickle.dumps(store.cases))
    assert copy.ids == store.cases.ids
    assert copy.affine.tobytes() == store.cases.affine.tobytes()
    for key, column in (("cases/group/c/0", "groups"), ("cases/first_sample/c/0", "first_sample")):
        fresh = DataStore.open(store.location).cases
        data = (store.location / key).read_bytes()
        (store.location / key).write_bytes(data[:-6] + b"\0" + data[-5:])
        with pytest.raises(CorruptError, match=key.removesuffix("/c/0")):
            getattr(fresh, column)
        (store.location / key).write_bytes(data)
        assert len(getattr(fresh, column)) == 4
    with pytest.raises(AttributeError, match="colour"):
        _ = store.cases.colour


def test_hashes_foreground_digests_and_sites_are_stored(tmp_path: Path) -> None:
    made = make_store(tmp_path, slices=(2, 1, 2), sites=("a", "b", ""), empty=[0], twins=[(2, 0)], channels=3)
    images, labels = made.read_samples(0, 5)
    assert made.sample_hash.dtype == np.uint64
    assert made.sample_hash.tolist() == perceptual_hashes(images).tolist()
    assert made.sample_foreground.tolist() == np.count_nonzero(labels, axis=(1, 2)).tolist()
    assert made.sample_foreground[0] == 0 < made.sample_foreground[1]
    assert made.cases.sites == ("a", "b", "")
    assert made.cases.digests[0] == made.cases.digests[2] != made.cases.digests[1]
    assert all(len(digest) == 32 for digest in made.cases.digests)


def test_it_travels_as_its_location(store: DataStore) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert again.location == store.location
    assert np.array_equal(again.images[2], store.images[2])


def test_without_commit_there_is_nothing(store: DataStore) -> None:
    (store.location / "COMMIT").delete()
    with pytest.raises(DataError, match="no COMMIT") as error:
        DataStore.open(store.location)
    assert store.location.uri in str(error.value)


OBJECTS = ["images/c/1/0/0/0", "labels/c/2/0/0", "native_labels/c/0", "cases/id/c/0", "samples/case/c/0", "zarr.json"]


@pytest.mark.parametrize("key", OBJECTS)
def test_fault_z2_missing_object_is_found_on_opening(store: DataStore, key: str) -> None:
    (store.location / key).delete()
    with pytest.raises(CorruptError, match=key):
        DataStore.open(store.location)


@pytest.mark.parametrize("key", OBJECTS)
@pytest.mark.parametrize("part", [0, 0.5])
def test_fault_z4_truncated_object_is_found_on_opening(store: DataStore, key: str, part: float) -> None:
    data = (store.location / key).read_bytes()
    (store.location / key).write_bytes(data[: int(len(data) * part)])
    with pytest.raises(CorruptError, match=key):
        DataStore.open(store.location)


def _read_all(store: DataStore, key: str) -> None:
    if key.startswith("native"):
        store.native_label(0)
    else:
        store.read_samples(0, store.num_samples)


@pytest.mark.parametrize("key", OBJECTS[:3])
@pytest.mark.parametrize("harm", ["missing", "empty", "half"])
def test_fault_z2_z4_objects_lost_after_opening_never_read_as_zeros(store: DataStore, key: str, harm: str) -> None:
    data = (store.location / key).read_bytes()
    if harm == "missing":
        (store.location / key).delete()
    else:
        (store.location / key).write_bytes(b"" if harm == "empty" else data[: len(data) // 2])
    with pytest.raises(CorruptError, match=key.split("/", maxsplit=1)[0]):
        _read_all(store, key)


@pytest.mark.parametrize("key", OBJECTS[:3])
def test_fault_z3_flipped_byte_is_found_on_reading(store: DataStore, key: str) -> None:
    data = bytearray((store.location / key).read_bytes())
    data[20] ^= 0x10
    (store.location / key).write_bytes(bytes(data))
    reopened = DataStore.open(store.location)
    with pytest.raises(CorruptError, match=key.split("/", maxsplit=1)[0]):
        _read_all(reopened, key)
    with pytest.raises(CorruptError, match=key):
        DataStore.open(store.location, verify_checksums=True)


def test_fault_z2_single_samples_are_guarded_too(store: DataStore) -> None:
    (store.location / "images/c/2/0/0/0").delete()
    with pytest.raises(CorruptError, match="images/c/2/0/0/0"):
        store.images[10]


def test_a_shard_says_what_is_wrong_with_it(store: DataStore) -> None:
    data = (store.location / "labels/c/0/0/0").read_bytes()
    shape = {"count": 4, "shard_samples": 4, "sample_shape": (32, 32), "dtype": "uint8"}
    assert decode_shard(data, **shape).shape == (4, 32, 32)
    with pytest.raises(ShardError, match="cannot hold an index"):
        decode_shard(data[:10], **shape)
    with pytest.raises(ShardError, match="checksum of the index"):
        decode_shard(data[:-1] + b"\0", **shape)
    first = int(np.frombuffer(data[-4 * 16 - 4 :], "<u8", 1)[0])
    with pytest.raises(ShardError, match="checksum of sample 0"):
        decode_shard(data[:first] + b"\xff" + data[first + 1 :], **shape)


def _damage_seen(store: DataStore, key: str) -> str:
    """What opening the store and reading every column says when one bit of an object is another."""
    whole = (store.location / key).read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    (store.location / key).write_bytes(bytes(data))
    try:
        opened = DataStore.open(store.location)
        for name in (*NUMBER_COLUMNS, *STRING_COLUMNS):
            getattr(opened.cases, name)
        assert opened.sample_turned.shape == (opened.num_samples, 3)
    except CorruptError as error:
        return str(error)
    finally:
        (store.location / key).write_bytes(whole)
    return ""


def test_fault_z3_a_flipped_bit_of_metadata_or_tables_is_found_by_name(store: DataStore) -> None:
    shards = ("images/c/", "labels/c/", "native_labels/c/")
    keys = {record.key for record in store.commit.objects if not record.key.startswith(shards)}
    unread = {f"{folder}/zarr.json" for folder in (*STRING_COLUMNS.values(), "cases", "samples")}
    seen = {key: _damage_seen(store, key) for key in keys}
    assert {"zarr.json", "images/zarr.json", "samples/foreground/c/0", "cases/id/c/0"} <= keys - unread
    assert {key for key, text in seen.items() if key not in text} == unread & keys
    assert all("udt-cluster data rm DATASET/VERSION" in text for text in seen.values() if text)
    with pytest.raises(CorruptError, match=r"cases/id/zarr\.json"):  # nothing reads it; asked for, it is found
        _flip_and_verify(store, "cases/id/zarr.json")


def _flip_and_verify(store: DataStore, key: str) -> None:
    data = bytearray((store.location / key).read_bytes())
    data[len(data) // 2] ^= 1
    (store.location / key).write_bytes(bytes(data))
    DataStore.open(store.location, verify_checksums=True)
