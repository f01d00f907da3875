"""Damaged stores, seen through the loaders: an error that names the object, never zeros, and no thread left behind."""

import shutil
from pathlib import Path

import pytest

from tests.factories import make_store
from tests.loaders import eval_loader, loader_threads, train_loader
from udt_cluster.errors import CorruptError


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


def check(tmp_path: Path, damage, array: str) -> None:
    store, key = store_with(tmp_path, damage, array=array)
    for batches in (train_loader(store, threads=0), train_loader(store, threads=3)):
        for _ in range(2):  # asked again it is refused again
            with pytest.raises(CorruptError, match=key):
                list(batches.epoch(0))
    with pytest.raises(CorruptError, match=key):
        list(eval_loader(store))
    assert loader_threads() == []


@pytest.mark.parametrize("array", ["images", "labels"])
def test_fault_z2_a_missing_shard_ends_the_epoch_with_its_name(tmp_path, array):
    check(tmp_path, Path.unlink, array)


@pytest.mark.parametrize("array", ["images", "labels"])
def test_fault_z3_a_flipped_bit_ends_the_epoch_with_its_name(tmp_path, array):
    check(tmp_path, flip, array)


@pytest.mark.parametrize("damage", [cut, lambda shard: shard.write_bytes(b"")], ids=["half", "empty"])
def test_fault_z4_a_truncated_shard_ends_the_epoch_with_its_name(tmp_path, damage):
    check(tmp_path, damage, "images")


def test_what_is_in_the_cache_is_used_even_if_the_store_is_gone(tmp_path):
    store = make_store(tmp_path, slices=(8, 8), channels=3)
    loader = train_loader(store)
    expected = [batch.images for step in loader.epoch(0) for batch in step]
    shutil.rmtree(tmp_path / "data")
    again = [batch.images for step in loader.epoch(0) for batch in step]
    assert all((a == b).all() for a, b in zip(expected, again, strict=True))
