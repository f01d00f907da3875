"""What threads of a loader do, when, and that none stays behind."""

import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest

from tests.loaders import eval_loader, loader_threads, store_of, train_loader
from tests.memory_store import MemoryDataStore, make_cases
from udt_cluster.data.cache import SampleCache, shard_bytes
from udt_cluster.data.prefetch import prefetched


def test_each_shard_is_read_once_whatever_the_threads():
    store = store_of(30, 11, shard_samples=4)
    loader = train_loader(store, threads=4)
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert len(store.reads) == len(set(store.reads)) == 11
    assert (40, 41) in store.reads


def test_two_threads_that_want_the_same_shards_share_the_reading():
    """The second one reads what the first has not begun, instead of waiting; else nobody passes the barrier."""
    together = threading.Barrier(2, timeout=10)

    class MeetingStore(MemoryDataStore):
        def read_samples(self, start, stop):
            together.wait()
            return super().read_samples(start, stop)

    store = MeetingStore(cases=make_cases(["a"], num_samples=[8]))
    cache = SampleCache(store, capacity_bytes=2**30)
    outputs = [(np.empty_like(store.images)[:, None], np.empty_like(store.labels)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for gathering in [pool.submit(cache.gather, np.arange(8)[:, None], *output) for output in outputs]:
            gathering.result()
    assert sorted(store.reads) == [(0, 4), (4, 8)]
    assert all(np.array_equal(images[:, 0], store.images) for images, _ in outputs)


def test_a_cache_can_be_shared_by_training_and_validation():
    store = store_of(16, 8, shard_samples=4)
    train = train_loader(store, [0])
    list(train.epoch(0))
    read = len(store.reads)
    list(eval_loader(store, [0], cache=train.cache))
    assert len(store.reads) == read


def test_an_error_in_a_thread_surfaces_with_its_traceback():
    store = store_of(40)
    store.fail_at = 17
    with pytest.raises(OSError, match="sample 17 cannot be read") as error:
        list(train_loader(store, threads=2).epoch(0))
    frames = [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert "read_samples" in frames
    assert loader_threads() == []


def test_a_failed_read_is_tried_again_when_asked_again():
    store = store_of(16)
    store.fail_at = 2
    loader = train_loader(store)
    with pytest.raises(OSError, match="sample 2"):
        list(loader.epoch(0))
    store.fail_at = None
    assert len(list(loader.epoch(0))) == 2


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_closing_early_leaves_no_thread(steps):
    store = store_of(400)
    epoch = train_loader(store, threads=3).epoch(0)
    assert len(list(islice(epoch, steps))) == steps
    assert bool(loader_threads()) == bool(steps)
    epoch.close()
    assert loader_threads() == []


def test_an_error_of_the_consumer_leaves_no_thread():
    def consume() -> None:
        for _ in train_loader(store_of(400)).epoch(0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert loader_threads() == []


def test_an_epoch_that_ran_to_its_end_leaves_no_thread():
    list(train_loader(store_of(40)).epoch(0))
    assert loader_threads() == []


def test_threads_read_ahead_of_the_consumer():
    store = store_of(400, shard_samples=1)
    epoch = train_loader(store, threads=2, cache_bytes=400 * shard_bytes(store)).epoch(0)
    next(epoch)
    deadline = time.monotonic() + 10
    while len(store.reads) < 400 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(store.reads) == 400  # all that the cache has room for, though one batch was taken
    epoch.close()


def test_waiting_is_measured():
    class SlowStore(MemoryDataStore):
        def read_samples(self, start, stop):
            time.sleep(0.05)
            return super().read_samples(start, stop)

    store = SlowStore(cases=make_cases(["a"], num_samples=[16]), shard_samples=16)
    loader = train_loader(store)
    assert loader.wait_seconds == 0
    list(loader.epoch(0))
    assert loader.wait_seconds >= 0.05
    for _ in loader.epoch(1):  # from the cache; the consumer's own time is not waiting
        time.sleep(0.05)
    assert loader.wait_seconds < 0.05


def test_prefetched_keeps_the_order_and_takes_items_lazily():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = prefetched(lambda item: item * item, items(), threads=3, ahead=4)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) == 9
    results.close()


def test_closing_drops_what_has_not_begun():
    begun = []

    def load(item):
        begun.append(item)
        time.sleep(0.2)

    results = prefetched(load, range(100), threads=1, ahead=10)
    next(results)
    results.close()
    assert len(begun) <= 4
