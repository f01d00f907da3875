"""What a stored object may be relied on for; the same on every kind of storage. Checked through a second client."""

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from udt_cluster.errors import CorruptError, UsageError, VersionError
from udt_cluster.storage import (
    COMMIT_NAME,
    Location,
    ObjectRecord,
    describe,
    download_committed,
    probe,
    read_commit,
    upload_folder,
    verify,
    write_commit,
)

BIG = 12 * 2**20 + 5
SAMPLES = np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16), dtype=np.uint8)


class SecondClient(Protocol):
    """The same storage, seen by other code than ours."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def keys(self) -> set[str]: ...

    def remove(self, key: str) -> None: ...


def read_elsewhere(location: Location) -> tuple[int, bytes]:
    """For another process."""
    return os.getpid(), location.read_bytes()


def sum_of_array(root: Location) -> int:
    """For another process: through Zarr."""
    return int(np.asarray(zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]).sum())


def write_array(root: Location) -> None:
    """A sharded Zarr v3 array as data sets have them."""
    group = zarr.open_group(root.zarr_store(read_only=False), mode="w")
    group.create_array(
        "images",
        data=SAMPLES,
        chunks=(1, 3, 16, 16),
        shards=(4, 3, 16, 16),
        compressors=[ZstdCodec(), Crc32cCodec()],
    )


def broken_source() -> Iterator[bytes]:
    """A source of 14 MiB that then fails."""
    yield bytes(14 * 2**20)
    raise KeyboardInterrupt


class StoreContract:
    """Subclasses give the fixtures `root` (an empty location) and `second` (the same place for a second client)."""

    many = 1_001
    """More keys than a listing has on a page."""

    def test_what_is_written_is_read_by_both_clients(self, root: Location, second: SecondClient) -> None:
        (root / "a/b.bin").write_bytes(b"ours")
        second.put("c.bin", b"theirs")
        assert second.get("a/b.bin") == b"ours"
        assert (root / "c.bin").read_bytes() == b"theirs"
        assert (root / "a" / "b.bin").exists()
        assert not (root / "a").exists(), "a prefix is not an object"
        assert not (root / "a/b").exists()

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (2, 5, b"234"),
            (None, 3, b"012"),
            (7, None, b"789"),
            (8, 99, b"89"),
            (10, None, b""),
            (99, 200, b""),
            (3, 3, b""),
            (5, 2, b""),
            (None, 0, b""),
        ],
    )
    def test_ranges(self, root: Location, start: int | None, end: int | None, expected: bytes) -> None:
        (root / "digits").write_bytes(b"0123456789")
        assert (root / "digits").read_bytes(start=start, end=end) == expected

    def test_negative_positions_are_refused(self, root: Location) -> None:
        with pytest.raises(ValueError, match="start=-1"):
            (root / "digits").read_bytes(start=-1)

    def test_empty_object(self, root: Location, second: SecondClient) -> None:
        record = (root / "empty").upload(Path(os.devnull))
        assert record == ObjectRecord("empty", 0, hashlib.sha256(b"").hexdigest())
        assert second.get("empty") == (root / "empty").read_bytes() == b""
        assert (root / "empty").read_bytes(start=0, end=5) == b""
        assert (root / "empty").checksum() == record
        with (root / "empty").open() as file:
            assert file.read() == b""

    @pytest.mark.parametrize("key", ["ä ö/日本 語.bin", "a+b c%20d", "q?x=1&y#z", "[a]*{b}", 'it\'s "so"\\', ".hidden"])
    def test_names(self, root: Location, second: SecondClient, key: str) -> None:
        (root / key).write_bytes(key.encode())
        assert second.keys() == {key}
        assert [entry.key for entry in root.entries()] == [key]
        assert (root / key).read_bytes() == second.get(key) == key.encode()
        assert Location.parse((root / key).uri) == root / key
        (root / key).delete()
        assert second.keys() == set()

    def test_readers_never_see_a_part_of_an_overwrite(self, root: Location) -> None:
        contents = [bytes([value]) * size for value, size in ((1, 300_000), (2, 100_000), (3, 500_000))]
        target, done = root / "object", threading.Event()
        target.write_bytes(contents[0])

        def overwrite() -> None:
            for turn in range(12):
                target.write_bytes(contents[turn % 3])
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(overwrite)
            seen = {target.read_bytes() for _ in range(10)}
            while not done.is_set() and not writing.done():
                seen.add(target.read_bytes())
            writing.result()
        assert seen <= set(contents)

    def test_big_object_streams_both_ways(self, root: Location, second: SecondClient, tmp_path: Path) -> None:
        data = np.random.default_rng(1).bytes(BIG)
        (tmp_path / "here").write_bytes(data)
        record = (root / "folder/big").upload(tmp_path / "here")
        assert record == ObjectRecord("big", BIG, hashlib.sha256(data).hexdigest())
        assert second.get("folder/big") == data
        assert (root / "folder/big").download(tmp_path / "back") == record
        assert (tmp_path / "back").read_bytes() == data
        assert (root / "folder/big").checksum() == record
        (root / "folder/big").write_bytes(data[::-1])
        assert second.get("folder/big") == data[::-1]

    def test_failed_write_leaves_what_was_there(self, root: Location, second: SecondClient) -> None:
        second.put("object", b"before")
        for name in ("object", "new"):
            with pytest.raises(KeyboardInterrupt):
                (root / name)._access.write(broken_source())
        assert second.get("object") == b"before"
        assert second.keys() == {"object"}

    def test_open_seeks(self, root: Location) -> None:
        data = bytes(range(256)) * 20_000
        (root / "object").write_bytes(data)
        with (root / "object").open() as file:
            assert file.seek(-7, os.SEEK_END) == len(data) - 7
            assert file.read() == data[-7:]
            assert file.read(1) == b""
            file.seek(1_000_003)
            file.seek(10, os.SEEK_CUR)
            assert file.read(1_500_000) == data[1_000_013:2_500_013]

    def test_missing_object(self, root: Location, tmp_path: Path) -> None:
        missing = root / "no/such"
        for use in (
            missing.read_bytes,
            missing.open,
            missing.size,
            missing.checksum,
            lambda: missing.download(tmp_path / "x"),
        ):
            with pytest.raises(FileNotFoundError) as caught:
                use()
            assert "no/such" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        assert missing.entries() == []
        missing.delete()
        missing.delete_tree()
        root.delete_keys(["no/such", "nor/this"])

    def test_children_are_the_names_directly_below(self, root: Location, second: SecondClient) -> None:
        assert root.children() == (root / "nothing").children() == []
        for key in ("b", "a/1", "a/2/3", "a-", "z/y", "ü"):
            second.put(key, b"1")
        assert root.children() == sorted(["b", "a/", "a-", "z/", "ü"])
        assert root.children(limit=2) == sorted(["a-", "a/"])
        assert root.children(limit=0) == []
        assert (root / "a").children(limit=9) == ["1", "2/"]
        assert (root / "b").children() == []

    def test_some_objects_are_deleted_and_no_others(self, root: Location, second: SecondClient) -> None:
        for key in ("a/1", "a/2", "a/b/3", "c"):
            second.put(key, b"12345")
        assert (root / "a/b/3").size() == 5
        with pytest.raises(FileNotFoundError):
            (root / "a/b").size()
        assert root.sizes(["c", "a/b/3", "a", "c/x", "gone"]) == {"c": 5, "a/b/3": 5}
        (root / "a").delete_keys(["1", "b/3", "gone"])
        assert second.keys() == {"a/2", "c"}
        with pytest.raises(UsageError):
            root.delete_keys(["c", "../c"])
        assert second.keys() == {"a/2", "c"}

    def test_entries_say_when(self, root: Location, second: SecondClient) -> None:
        second.put("now", b"1")
        (entry,) = root.entries()
        assert abs(entry.modified - time.time()) < 60

    def test_upload_of_a_missing_file_names_the_file(self, root: Location, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="not-here"):
            (root / "object").upload(tmp_path / "not-here")
        assert root.entries() == []

    def test_entries_say_size_and_change(self, root: Location, second: SecondClient) -> None:
        for key in ("b", "a/2", "a/1"):
            second.put(key, key.encode())
        before = root.entries()
        assert [(entry.key, entry.size) for entry in before] == [("a/1", 3), ("a/2", 3), ("b", 1)]
        assert root.entries() == before
        second.put("a/1", b"new")
        after = root.entries()
        assert after[0].token != before[0].token
        assert after[1:] == before[1:]
        assert [entry.key for entry in (root / "a").entries()] == ["1", "2"]

    def test_more_than_a_page_of_keys(self, root: Location, second: SecondClient) -> None:
        self.check_many(root, second, self.many)

    def check_many(self, root: Location, second: SecondClient, number_of_keys: int) -> None:
        keys = [f"many/{number:04d}" for number in range(number_of_keys)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: second.put(key, key.encode()), keys))
        second.put("many-others/x", b"stays")
        assert [entry.key for entry in (root / "many").entries()] == [key.removeprefix("many/") for key in keys]
        (root / "many").delete_tree()
        assert second.keys() == {"many-others/x"}

    def test_zarr_round_trip(self, root: Location, second: SecondClient) -> None:
        write_array(root)
        assert second.keys() == {"zarr.json", "images/zarr.json", "images/c/0/0/0/0", "images/c/1/0/0/0"}
        store = root.zarr_store(read_only=True)
        assert np.array_equal(np.asarray(zarr.open_group(store, mode="r")["images"]), SAMPLES)
        again = zarr.open_group(pickle.loads(pickle.dumps(store)), mode="r")
        assert np.array_equal(again["images"][5], SAMPLES[5])
        assert sorted(again.array_keys()) == ["images"]
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_group(store, mode="r+").create_array("more", shape=(1,), dtype="u1")

    def test_fault_z3_flipped_byte_in_a_chunk_is_an_error(self, root: Location, second: SecondClient) -> None:
        write_array(root)
        shard = bytearray(second.get("images/c/1/0/0/0"))
        shard[len(shard) // 2] ^= 1
        second.put("images/c/1/0/0/0", bytes(shard))
        images = zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]
        with pytest.raises(ValueError, match="checksum"):
            np.asarray(images)

    def test_commit_and_verify(self, root: Location, second: SecondClient) -> None:
        assert read_commit(root) is None
        write_array(root)
        records = describe(root)
        assert {record.key for record in records} == second.keys()
        commit = write_commit(root, records[::-1], {"epoch": 3, "dice": 0.5, "names": ["ä"]})
        assert read_commit(root) == commit
        assert commit.objects == records
        assert read_commit(root).digest == commit.digest
        verify(root, commit, checksums=True)
        written = second.get(COMMIT_NAME)
        assert write_commit(root, records, {"names": ["ä"], "dice": 0.5, "epoch": 3}) == commit
        assert second.get(COMMIT_NAME) == written

    def test_verify_names_every_bad_object(self, root: Location, second: SecondClient) -> None:
        for name in ("flipped", "gone", "good", "truncated", "zeroed"):
            (root / name).write_bytes(name.encode() * 100)
        commit = write_commit(root, describe(root), {})
        second.put("flipped", b"F" + second.get("flipped")[1:])
        second.put("truncated", second.get("truncated")[:450])
        second.put("zeroed", b"")
        second.remove("gone")
        with pytest.raises(CorruptError) as caught:
            verify(root, commit, checksums=False)
        assert [problem.partition(":")[0] for problem in caught.value.problems] == ["gone", "truncated", "zeroed"]
        with pytest.raises(CorruptError) as caught:
            verify(root, commit, checksums=True)
        assert [problem.partition(":")[0] for problem in caught.value.problems] == [
            "flipped", "gone", "truncated", "zeroed",
        ]  # fmt: skip
        assert root.uri in caught.value.message

    def test_committed_content_is_never_replaced(self, root: Location) -> None:
        (root / "object").write_bytes(b"1")
        commit = write_commit(root, describe(root), {})
        with pytest.raises(CorruptError, match=commit.digest):
            write_commit(root, describe(root), {"other": True})
        assert read_commit(root) == commit

    @pytest.mark.parametrize("damage", ["empty", "half", "digit", "list", "key"])
    def test_broken_commit_is_an_error_until_it_is_written_again(
        self, root: Location, second: SecondClient, damage: str
    ) -> None:
        (root / "object").write_bytes(b"1")
        commit = write_commit(root, describe(root), {"epoch": 3})
        data = second.get(COMMIT_NAME)
        damaged = {
            "empty": b"",
            "half": data[: len(data) // 2],
            "digit": data.replace(b'"epoch":3', b'"epoch":4'),
            "list": b"[1]",
            "key": data.replace(b'"key":"object"', b'"key":"../../object"'),
        }[damage]
        second.put(COMMIT_NAME, damaged)
        with pytest.raises(CorruptError, match=COMMIT_NAME):
            read_commit(root)
        write_commit(root, describe(root), {"epoch": 3})
        assert read_commit(root) == commit

    def test_commit_of_a_later_version(self, root: Location, second: SecondClient) -> None:
        second.put(COMMIT_NAME, json.dumps({"format_version": 99, "info": {}, "objects": []}).encode())
        with pytest.raises(VersionError, match="99"):
            read_commit(root)

    def test_folder_goes_up_and_comes_back(self, root: Location, second: SecondClient, tmp_path: Path) -> None:
        for key in ("model.bin", "ranks/0", "ranks/1"):
            (tmp_path / "up" / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "up" / key).write_bytes(key.encode())
        commit = write_commit(root, upload_folder(tmp_path / "up", root), {})
        assert [record.key for record in commit.objects] == ["model.bin", "ranks/0", "ranks/1"]
        verify(root, commit, checksums=True)
        download_committed(root, commit, tmp_path / "down")
        assert (tmp_path / "down/ranks/1").read_bytes() == b"ranks/1"
        second.put("ranks/0", b"RANKS/0")
        second.remove("model.bin")
        with pytest.raises(CorruptError) as caught:
            download_committed(root, commit, tmp_path / "again")
        assert [problem.partition(":")[0] for problem in caught.value.problems] == ["model.bin", "ranks/0"]
        assert not (tmp_path / "again/ranks/0").exists()

    def test_fault_n4_writers_of_one_version_need_no_lock(self, root: Location, second: SecondClient) -> None:
        def write(_: int) -> str:
            for number in range(3):
                (root / f"shard-{number}").write_bytes(bytes([number]) * 10_000)
            return write_commit(root, describe(root, [f"shard-{number}" for number in range(3)]), {"v": 1}).digest

        with ThreadPoolExecutor(8) as pool:
            digests = set(pool.map(write, range(8)))
        commit = read_commit(root)
        assert commit is not None
        assert digests == {commit.digest}
        verify(root, commit, checksums=True)
        assert second.keys() == {"shard-0", "shard-1", "shard-2", COMMIT_NAME}

    def test_probe_leaves_nothing(self, root: Location, second: SecondClient) -> None:
        probe(root)
        assert second.keys() == set()

    def test_location_goes_to_another_process(self, root: Location) -> None:
        (root / "object").write_bytes(b"content")
        copy = pickle.loads(pickle.dumps(root / "object"))
        assert copy == root / "object"
        assert hash(copy) == hash(root / "object")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pid, data = pool.submit(read_elsewhere, root / "object").result(timeout=60)
        assert pid != os.getpid()
        assert data == b"content"

    def test_fault_p1_a_forked_child_reads_too(self, root: Location) -> None:
        write_array(root)
        total = sum_of_array(root)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
            assert pool.submit(read_elsewhere, root / "zarr.json").result(timeout=60)[1]
            assert pool.submit(sum_of_array, root).result(timeout=60) == total
        assert sum_of_array(root) == total

    def test_keys_of_records_are_checked_before_anything_is_put(self, root: Location, second: SecondClient) -> None:
        record = ObjectRecord("a", 0, hashlib.sha256(b"").hexdigest())
        with pytest.raises(ValueError, match="once"):
            write_commit(root, [record, record], {})
        with pytest.raises(ValueError, match="once"):
            write_commit(root, [replace(record, key=COMMIT_NAME)], {})
        with pytest.raises(ValueError, match="JSON"):
            write_commit(root, [record], {"val_dice": float("nan")})
        assert second.keys() == set()
