"""The cache that the processes of a node share; here several caches of one process stand for them."""

import fcntl
import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.loaders import assert_same, eval_loader, joined, over_ranks, store_of, train_loader
from tests.memory_store import MemoryDataStore
from udt_cluster.data import node_folder
from udt_cluster.data.cache import SampleCache, shard_bytes
from udt_cluster.data.node_folder import Place


def cache_of(store: MemoryDataStore, shards: int, **settings) -> SampleCache:
    return SampleCache(store, capacity_bytes=shards * shard_bytes(store), **settings)


def gathered(cache: SampleCache, *samples: int, **settings) -> None:
    """Gather single samples one after another, each compared with the store's."""
    for sample in samples:
        images, labels = np.empty_like(cache.store.images[:1])[:, None], np.empty_like(cache.store.labels[:1])
        cache.gather(np.array([[sample]]), images, labels, **settings)
        assert np.array_equal(images[0, 0], cache.store.images[sample])
        assert np.array_equal(labels[0], cache.store.labels[sample])


def folder_of(cache: SampleCache) -> Path:
    return cache._folder.path


@pytest.fixture
def places(monkeypatch, tmp_path) -> dict[str, Path]:
    """Shared memory and a disk of the test's own."""
    paths = {"memory": tmp_path / "memory", "disk": tmp_path / "disk"}
    for path in paths.values():
        path.mkdir()
    monkeypatch.setattr(node_folder, "SHARED_MEMORY", paths["memory"])
    return paths


def set_room(monkeypatch, **rooms: int) -> None:
    monkeypatch.setattr(node_folder, "free_place", lambda path: Place(path, rooms[path.name]))


def test_shards_leave_least_recently_used_first():
    store = store_of(16, shard_samples=4)
    cache = cache_of(store, 2)
    gathered(cache, 0, 5, 1, 9, 2)
    assert cache.cached_shards() == (2, 0)
    assert store.reads == [(0, 4), (4, 8), (8, 12)]


def test_what_another_process_uses_stays():
    store = store_of(16, shard_samples=4)
    ours, theirs = cache_of(store, 2), cache_of(store, 2)
    gathered(ours, 0, 4)
    gathered(theirs, 0)
    gathered(ours, 8)
    assert theirs.cached_shards() == (0, 2)


def test_what_is_read_in_passing_leaves_first():
    store = store_of(24, shard_samples=4)
    cache = cache_of(store, 3)
    gathered(cache, 0, 4)
    for _ in range(2):
        gathered(cache, 8, 12, 16, 20, 0, passing=True)
    assert set(cache.cached_shards()) == {0, 1, 5}


def test_validation_takes_nothing_from_training():
    store = store_of(40, 40, shard_samples=4)
    train = train_loader(store, [0], cache_bytes=11 * shard_bytes(store))
    list(train.epoch(0))
    list(eval_loader(store, [1], cache=train.cache))
    store.reads.clear()
    list(train.epoch(1))
    assert store.reads == []


def test_two_processes_read_each_shard_once():
    store = store_of(60, shard_samples=4)
    loaders = [train_loader(store, rank=rank, world_size=2, threads=3) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda loader: joined(loader.epoch(0)), loaders))
    assert len(store.reads) == len(set(store.reads)) == 15
    assert {len(part) for part in parts} == {7}


def test_no_more_than_the_capacity_is_ever_stored():
    store = store_of(160, shard_samples=4)
    caches = [cache_of(store, 5) for _ in range(3)]
    sizes, read = [], store.read_samples

    def watched(start, stop):
        with caches[0]._files._exclusive():
            sizes.append(sum(path.stat().st_size for path in folder_of(caches[0]).iterdir() if path.name[0].isdigit()))
        return read(start, stop)

    store.read_samples = watched
    orders = [np.random.default_rng(seed).permutation(160)[:60].tolist() for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: gathered(caches[number], *orders[number]), range(3)))
    assert 4 * shard_bytes(store) < max(sizes) <= 5 * shard_bytes(store)
    assert len(caches[0].cached_shards()) == 5


def test_the_memory_of_evicted_shards_is_given_back():
    store = store_of(32, shard_samples=4, size=(64, 64))
    ours, theirs = cache_of(store, 3), cache_of(store, 3)
    gathered(ours, 0, 4, 8)
    gathered(theirs, 12, 16, 20)
    gathered(ours, 20)
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line for line in maps if folder_of(ours).name in line and "index" not in line]
    assert not [line for line in mapped if "(deleted)" in line]
    assert mapped


def test_a_cached_shard_holds_no_file_open():
    store = store_of(80, shard_samples=4)
    cache = cache_of(store, 20)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    gathered(cache, *range(0, 80, 4))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_cached_sample_cannot_be_changed():
    cache = cache_of(store_of(8), 2)
    gathered(cache, 0, 4)
    other = SampleCache(cache.store, capacity_bytes=2 * shard_bytes(cache.store))
    gathered(other, 0)
    for future in [*cache._shards.values(), *other._shards.values()]:
        assert not future.result().images.flags.writeable


def test_a_shard_that_a_dead_process_left_half_made_is_made_anew():
    store = store_of(16, shard_samples=4)
    cache = cache_of(store, 4)
    cache._files._reserve(1, passing=False)
    (folder_of(cache) / "1.part").write_bytes(b"half of it")
    gathered(cache, 4, 0)
    assert sorted(path.name for path in folder_of(cache).iterdir()) == ["0", "1", "index", "users"]


def test_a_shard_that_another_process_is_making_is_skipped_by_prefetching_and_awaited_by_a_batch():
    store = store_of(16, shard_samples=4)
    cache = cache_of(store, 4)
    with (folder_of(cache) / "1.part").open("wb") as part, ThreadPoolExecutor(1) as pool:
        fcntl.flock(part, fcntl.LOCK_EX)
        cache.prefetch(1)
        cache.prefetch(2)
        waiting = pool.submit(gathered, cache, 4)
        assert store.reads == [(8, 12)]
        assert not waiting.done()
        part.close()  # it died
        waiting.result(timeout=10)
    assert store.reads == [(8, 12), (4, 8)]


def test_a_failed_prefetch_is_told_once_to_who_needs_the_shard_and_then_tried_again():
    store = store_of(16, shard_samples=4)
    cache = cache_of(store, 4)
    store.fail_at = 5
    with pytest.raises(OSError, match="sample 5"):
        cache.prefetch(1)
    store.fail_at = None
    with pytest.raises(OSError, match="sample 5"):
        gathered(cache, 4)
    gathered(cache, 4)
    assert not list(folder_of(cache).glob("*.part"))


def test_the_folder_goes_with_its_last_user():
    store = store_of(16)
    caches = [cache_of(store, 4) for _ in range(3)]
    folder = folder_of(caches[0])
    assert {folder_of(cache) for cache in caches} == {folder}
    gathered(caches[0], 0, 4)
    caches[0].close()
    del caches[1]  # without a close
    assert folder.is_dir()
    gathered(caches[1], 0)
    caches[1].close()
    caches[1].close()
    assert not folder.exists()


def test_nothing_stays_where_nobody_uses_a_cache(places):
    store = store_of(16)
    cache = cache_of(store, 4, folder=places["disk"])
    gathered(cache, 0)
    assert list(places["memory"].iterdir())
    cache.close()
    assert not list(places["memory"].iterdir())
    assert not list(places["disk"].iterdir())


def test_what_dead_processes_left_is_removed_and_what_lives_is_not(places):
    living = cache_of(store_of(16), 4, folder=places["disk"])
    for place in places.values():
        dead = place / f"udt-cluster-{os.getuid()}" / "dead"
        dead.mkdir(parents=True, mode=0o700)
        dead.parent.chmod(0o700)
        (dead / "users").touch()
        (dead / "7.part").write_bytes(b"x")
    cache_of(store_of(16), 4, folder=places["disk"]).close()
    assert not list(places["disk"].rglob("dead"))
    assert not list(places["memory"].rglob("dead"))
    gathered(living, 3)


def test_other_users_cannot_look_into_it_and_their_folder_is_refused(places):
    cache = cache_of(store_of(16), 4, folder=places["disk"])
    assert folder_of(cache).stat().st_mode & 0o077 == 0
    cache.close()
    (places["memory"] / f"udt-cluster-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(node_folder.UdtError, match="other users could read or change"):
        cache_of(store_of(16), 4, folder=places["disk"])


def test_shared_memory_is_taken_where_it_has_room(places, monkeypatch, caplog):
    store = store_of(16)
    set_room(monkeypatch, memory=4 * shard_bytes(store), disk=0)
    cache = cache_of(store, 100, folder=places["disk"])  # more than the whole store is never wanted
    assert folder_of(cache).is_relative_to(places["memory"])
    assert cache.capacity_shards == 4
    assert caplog.records == []


def test_fault_f4_small_shared_memory_the_cache_lies_on_disk_and_says_so(places, monkeypatch, caplog):
    store = store_of(16)
    set_room(monkeypatch, memory=4 * shard_bytes(store) - 1, disk=4 * shard_bytes(store))
    first = cache_of(store, 4, folder=places["disk"])
    set_room(monkeypatch, memory=10**9, disk=0)  # who comes later joins, whatever is free by then
    second = cache_of(store, 4, folder=places["disk"])
    assert folder_of(first) == folder_of(second)
    assert folder_of(first).is_relative_to(places["disk"])
    gathered(first, 0, 15)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"lies on disk, in {folder_of(first)}" in record.getMessage()
    assert "--shm-size" in record.getMessage()


def test_fault_f6_little_room_everywhere_fewer_shards_are_kept_and_it_says_so(places, monkeypatch, caplog):
    store = store_of(64, shard_samples=4)
    expected = over_ranks(store, 1)
    set_room(monkeypatch, memory=3 * shard_bytes(store), disk=2 * shard_bytes(store))
    loader = train_loader(store, cache_dir=places["disk"], cache_bytes=20 * shard_bytes(store))
    assert loader.cache.capacity_shards == 3
    assert_same(joined(loader.epoch(0)), expected)
    (record,) = caplog.records
    assert "batches are the same, but shards are read again and again" in record.getMessage()
    assert "set data.cache lower" in record.getMessage()


def test_fault_f6_a_disk_that_fills_up_makes_the_cache_smaller(monkeypatch, caplog):
    store = store_of(64, shard_samples=4)
    expected = over_ranks(store, 1)
    loader = train_loader(store, cache=cache_of(store, 12), threads=0)
    allocate = os.posix_fallocate

    def full(descriptor, start, size):
        if sum(path.stat().st_size for path in folder_of(loader.cache).glob("[0-9]*")) > 6 * size:
            raise OSError(28, "No space left on device")
        allocate(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert_same(joined(loader.epoch(0)), expected)
    assert loader.cache.capacity_shards == 7
    assert caplog.text.count("no room left for the cache of decoded samples; it goes on with 7 shards") == 1


def test_fault_f6_without_any_room_every_batch_decodes_what_it_needs(monkeypatch, caplog):
    store = store_of(64, shard_samples=4)
    expected = over_ranks(store, 1)
    loader = train_loader(store, cache=cache_of(store, 12))

    def full(descriptor, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert_same(joined(loader.epoch(0)), expected)
    assert loader.cache.capacity_shards == 0
    assert loader.cache.cached_shards() == ()
    assert "every shard is decoded anew for each batch that needs it" in caplog.text


def test_without_any_place_it_is_refused_with_the_remedy(places, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(node_folder.UdtError, match="set TMPDIR to a folder on a local disk"):
        cache_of(store_of(16), 4, folder=places["disk"])


def test_a_folder_that_was_cleaned_away_is_named():
    store = store_of(16)
    cache = cache_of(store, 4)
    folder_of(cache).rename(folder_of(cache).with_name("elsewhere"))
    with pytest.raises(node_folder.UdtError, match="was removed while it was in use"):
        gathered(cache, 0)
    folder_of(cache).with_name("elsewhere").rename(folder_of(cache))


def test_a_forked_child_does_not_end_its_parents_membership():
    cache = cache_of(store_of(16), 4)
    child = os.fork()
    if child == 0:
        cache.close()
        os._exit(0)
    os.waitpid(child, 0)
    gathered(cache, 0)
    assert folder_of(cache).is_dir()


def test_memory_of_the_machine_and_the_container_limit_the_room(monkeypatch, tmp_path):
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    group.mkdir()
    meminfo.write_text("MemTotal: 99999 kB\nMemAvailable:       2000 kB\n")
    monkeypatch.setattr(node_folder, "_MEMINFO", meminfo)
    monkeypatch.setattr(node_folder, "_CGROUP", group)
    monkeypatch.setattr(node_folder, "SHARED_MEMORY", tmp_path)
    assert node_folder.free_place(tmp_path).room == 1_024_000
    (group / "memory.max").write_text("900000\n")
    (group / "memory.current").write_text("500000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert node_folder.free_place(tmp_path).room == 250_000
    (group / "memory.max").write_text("max\n")
    assert node_folder.free_place(tmp_path).room == 1_024_000
    assert node_folder.free_place(group).room > 10**6  # a disk has nothing to do with memory
