"""Damaged stores, seen through the loaders: an error that names the object, never zeros, and no thread left behind."""

import shutil
from pathlib import Path

import pytest

from data_prep import FileIndex, InProcessExecutor, Prepared, prepare, writer
from data_prep.phantom import glas
from tests.factories import make_store
from tests.loaders import eval_loader, loader_threads, train_loader
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import CorruptError
from udt_cluster.storage import Location


def store_with(tmp_path: Path, damage, *, array: str):
    store = make_store(tmp_path, slices=(8, 8), channels=3)
    shard = tmp_path / "data" / "tiny" / "v0" / array / "c" / "2" / ("0/0/0" if array == "images" else "0/0")
    damage(shard)
    return store, "/".join([array, "c", "2"])


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)


def cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def check(tmp_path: Path, damage, array: str, *, says: str = "") -> None:
    store, key = store_with(tmp_path, damage, array=array)
    for batches in (train_loader(store, threads=0), train_loader(store, threads=3)):
        for _ in range(2):  # asked again it is refused again
            with pytest.raises(CorruptError, match=f"{key}.*{says}"):
                list(batches.epoch(0))
    with pytest.raises(CorruptError, match=key):
        list(eval_loader(store))
    assert loader_threads() == []


@pytest.mark.parametrize("array", ["images", "labels"])
def test_fault_z2_a_missing_shard_ends_the_epoch_with_its_name(tmp_path, array):
    check(tmp_path, Path.unlink, array, says="missing; it was committed.*udt-cluster data prepare")


def test_fault_z2_a_shard_that_goes_while_it_trains_is_named_with_the_remedy_and_that_helps(tmp_path):
    glas(tmp_path / "glands", train=6, test=1, size=(48, 64))
    config = DataConfig(source=str(tmp_path / "glands"), adapter="glas", size=(32, 32), group_by="case")

    def prepared() -> Prepared:
        index = FileIndex(tmp_path / "i.db")
        return prepare(config, "set", Location.parse(tmp_path / "s"), executor=InProcessExecutor(), index=index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_MOST_SHARD_SAMPLES", 2)
        root = prepared().location
        batches = train_loader(DataStore.open(root), global_batch_size=2, cache_bytes=1, threads=0).epoch(0)
        next(batches)
        for shard in (root / "images/c").local_path.glob("*/0/0/0"):
            shard.unlink()
        with pytest.raises(CorruptError, match=r"missing; it was committed.*udt-cluster data prepare"):
            list(batches)
        assert any("was damaged and is written again" in warning for warning in prepared().warnings)
        assert len(list(train_loader(DataStore.open(root), global_batch_size=2).epoch(0))) == 3


@pytest.mark.parametrize("array", ["images", "labels"])
def test_fault_z3_a_flipped_bit_ends_the_epoch_with_its_name(tmp_path, array):
    check(tmp_path, flip, array, says="udt-cluster data rm DATASET/VERSION` and then prepare")


@pytest.mark.parametrize("damage", [cut, lambda shard: shard.write_bytes(b"")], ids=["half", "empty"])
def test_fault_z4_a_truncated_shard_ends_the_epoch_with_its_name(tmp_path, damage):
    check(tmp_path, damage, "images", says="udt-cluster data prepare")


def test_what_is_in_the_cache_is_used_even_if_the_store_is_gone(tmp_path):
    store = make_store(tmp_path, slices=(8, 8), channels=3)
    loader = train_loader(store)
    expected = [batch.images for step in loader.epoch(0) for batch in step]
    shutil.rmtree(tmp_path / "data")
    again = [batch.images for step in loader.epoch(0) for batch in step]
    assert all((a == b).all() for a, b in zip(expected, again, strict=True))
