"""The store contract on a local disk, and what only a disk has."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.contracts.store import StoreContract, write_array
from udt_cluster.errors import DataError, StorageUnreachableError
from udt_cluster.storage import Location
from udt_cluster.storage.local import LocalObject


class DiskClient:
    """Plain paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes) -> None:
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / key).write_bytes(data)

    def get(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def keys(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a store"


class TestLocalStore(StoreContract):
    @pytest.fixture
    def root(self, folder: Path) -> Location:
        return Location.parse(folder)

    @pytest.fixture
    def second(self, folder: Path) -> DiskClient:
        return DiskClient(folder)


def test_unfinished_files_are_not_listed_and_old_ones_go(folder: Path) -> None:
    folder.mkdir()
    names = [f".udt.{0:032x}.partial", f"zarr.{1:032x}.partial", f"young.{2:032x}.partial"]
    for name in names:
        (folder / name).write_bytes(b"half")
    yesterday = time.time() - 86_400
    for name in names[:2]:
        os.utime(folder / name, (yesterday, yesterday))
    (folder / "my.partial").write_bytes(b"a file of the user")
    root = Location.parse(folder)
    assert [entry.key for entry in root.entries()] == ["my.partial"]
    (root / "object").write_bytes(b"1")
    assert {path.name for path in folder.iterdir()} == {"my.partial", "object", names[2]}


def test_files_have_the_mode_of_the_umask(folder: Path) -> None:
    (Location.parse(folder) / "object").write_bytes(b"1")
    plain = folder / "plain"
    plain.write_bytes(b"1")
    assert (folder / "object").stat().st_mode == plain.stat().st_mode


def test_fault_d7_links_are_followed_and_bad_ones_all_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/image.png").write_bytes(b"png")
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "twice").symlink_to(tmp_path / "elsewhere")
    assert [entry.key for entry in Location.parse(folder).entries()] == ["linked/image.png", "twice/image.png"]
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to("nowhere")
    with pytest.raises(DataError) as caught:
        Location.parse(folder).entries()
    assert len(caught.value.problems) == 2
    assert "dangling" in "".join(caught.value.problems)
    assert "loop" in "".join(caught.value.problems)


def test_delete_tree_of_a_link_keeps_what_it_points_to(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "image.png").write_bytes(b"png")
    (tmp_path / "link").symlink_to(folder)
    Location.parse(tmp_path / "link").delete_tree()
    assert (folder / "image.png").exists()
    assert not (tmp_path / "link").exists()


def test_no_foreign_error_of_a_disk_escapes(folder: Path) -> None:
    folder.mkdir()
    (folder / "file").write_bytes(b"1")
    (folder / "loop").symlink_to("loop")
    root = Location.parse(folder)
    with pytest.raises(FileNotFoundError):
        (root / "file/below").read_bytes()
    with pytest.raises(FileNotFoundError):
        root.read_bytes()
    with pytest.raises(StorageUnreachableError, match="symbolic links"):
        (root / "loop").read_bytes()
    with pytest.raises(StorageUnreachableError, match="too long"):
        (root / ("x" * 300)).write_bytes(b"1")


def test_zarr_never_takes_an_unreadable_chunk_for_a_missing_one(folder: Path) -> None:
    root = Location.parse(folder)
    write_array(root)
    chunk = folder / "images/c/0/0/0/0"
    chunk.unlink()
    chunk.symlink_to(chunk.name)
    images = zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]
    with pytest.raises(StorageUnreachableError, match="images/c/0/0/0/0"):
        np.asarray(images)


def test_a_failed_write_removes_its_unfinished_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        LocalObject(folder / "taken").write([b"1"])
    assert [path.name for path in folder.iterdir()] == ["taken"]


def test_writers_survive_that_others_remove_the_empty_folder(folder: Path) -> None:
    """Preparations that end together remove what they staged, while others still stage."""
    root = Location.parse(folder)

    def write_and_remove(writer: int) -> None:
        for turn in range(150):
            (root / f"staged/{turn % 3}/{writer}").write_bytes(b"1")
            root.delete_keys([f"staged/{number}/{writer}" for number in range(3)])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write_and_remove, range(6)))
    assert root.entries() == []
