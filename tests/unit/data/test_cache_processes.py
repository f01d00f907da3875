"""Real processes that share a cache: what the death of one, or a full shared memory, does to the others."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cache_process import digest
from tests.factories import make_store
from tests.loaders import store_of, train_loader
from udt_cluster.data.cache import SampleCache, shard_bytes

COMMAND = [sys.executable, "-m", "tests.cache_process"]
ROOT = Path(__file__).resolve().parents[3]
STORE = {"slices": (1, 5, 3, 8, 9, 6), "channels": 3, "size": (64, 64)}


def started(folder: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(folder), mode], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def in_small_shared_memory(folder: Path, mode: str, *, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """Run with a /dev/shm of this size, in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs /dev/shm"
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
    if subprocess.run([*namespace, mount], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    command = f'{mount}; exec "$@"'
    return subprocess.run(
        [*namespace, command, "sh", *COMMAND, str(folder), mode], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_fault_f4_a_killed_process_holds_up_nobody(tmp_path):
    store = make_store(tmp_path, **STORE)
    expected = digest(train_loader(store))
    dying = started(store.location.local_path, "hangs")
    survivor = None
    try:
        folder = Path(dying.stdout.readline().strip())
        assert dying.stdout.readline() == "inside\n"
        survivor = started(store.location.local_path, "reads")
        assert survivor.stdout.readline().strip() == str(folder)
        with pytest.raises(subprocess.TimeoutExpired):
            survivor.wait(1)  # it waits for the shard that the other one is decoding
        dying.kill()
        assert survivor.stdout.readline().strip() == expected
        assert survivor.wait(30) == 0
        assert not folder.exists()
    finally:
        for process in (dying, survivor):
            if process is not None:
                process.kill()
                process.communicate()


@pytest.mark.slow
def test_fault_f4_small_shared_memory_is_no_bus_error(tmp_path):
    """The cache goes to the disk when there is no room from the start, and shrinks when the room goes later."""
    store = make_store(tmp_path, **STORE)
    expected = digest(train_loader(store))
    small = in_small_shared_memory(store.location.local_path, "reads", kilobytes=256)
    assert small.returncode == 0, small.stderr
    assert small.stdout.split()[-1] == expected
    assert not small.stdout.startswith("/dev/shm")
    filled = in_small_shared_memory(store.location.local_path, "fills", kilobytes=4096)
    assert filled.returncode == 0, filled.stderr
    assert filled.stdout.startswith("/dev/shm")
    assert filled.stdout.split()[-1] == expected


def _gather_for_ever(cache: SampleCache, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = np.empty_like(cache.store.images[:4])[:, None], np.empty_like(cache.store.labels[:4])
    while True:
        rows = rng.integers(0, cache.store.num_samples, (4, 1))
        cache.gather(rows, images, labels)
        if not np.array_equal(images[:, 0], cache.store.images[rows[:, 0]]):
            os._exit(7)


@pytest.mark.slow
def test_processes_killed_at_any_moment_leave_a_cache_that_works_within_its_bound():
    store = store_of(80, shard_samples=4, size=(64, 64))
    cache = SampleCache(store, capacity_bytes=6 * shard_bytes(store))
    fork, chance = multiprocessing.get_context("fork"), random.Random(0)
    processes = [fork.Process(target=_gather_for_ever, args=(cache, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for number in range(40):
        time.sleep(chance.uniform(0.001, 0.05))
        killed = processes.pop(0)
        assert killed.exitcode is None
        killed.kill()
        processes.append(fork.Process(target=_gather_for_ever, args=(cache, 100 + number)))
        processes[-1].start()
    for process in processes:
        assert process.exitcode is None
        process.kill()
        process.join()
    images, labels = np.empty_like(store.images)[:, None], np.empty_like(store.labels)
    cache.gather(np.arange(80)[:, None], images, labels)
    assert np.array_equal(images[:, 0], store.images)
    stored = sum(path.stat().st_size for path in cache._folder.path.iterdir() if path.name[0].isdigit())
    assert stored <= 6 * shard_bytes(store)
