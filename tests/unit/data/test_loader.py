import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import torch

from tests.factories import make_store
from tests.memory_store import MemoryDataStore, make_cases
from udt_cluster.data.cache import SampleCache, sample_bytes
from udt_cluster.data.loader import EvalLoader, TrainLoader
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.order import BatchPlan, epoch_order, rank_cases
from udt_cluster.data.prefetch import prefetched
from udt_cluster.errors import CorruptError, DataError

SCALE = Normalization(kind="scale255", low=(0.0,) * 3, high=(255.0,) * 3, shift=(0.0,) * 3, scale=(255.0,) * 3)


def store_of(*counts: int, groups=None, **settings) -> MemoryDataStore:
    ids = [f"case{number}" for number in range(len(counts))]
    return MemoryDataStore(cases=make_cases(ids, groups=groups, num_samples=counts), **settings)


def train_loader(store: MemoryDataStore, cases=None, **settings) -> TrainLoader:
    settings = {
        "normalization": SCALE,
        "global_batch_size": 8,
        "micro_batch_size": 2,
        "rank": 0,
        "world_size": 1,
        "seed": 11,
        "augment": "released",
        "device": "cpu",
        **settings,
    }
    return TrainLoader(store, range(len(store.cases)) if cases is None else cases, **settings)


def eval_loader(store: MemoryDataStore, cases=None, **settings) -> EvalLoader:
    settings = {"normalization": SCALE, "batch_size": 4, "rank": 0, "world_size": 1, "device": "cpu", **settings}
    return EvalLoader(store, range(len(store.cases)) if cases is None else cases, **settings)


def joined(steps) -> list[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """Per step: sample indices, images and labels of all its micro-batches."""
    return [
        (
            np.concatenate([b.samples for b in step]),
            torch.cat([b.images for b in step]),
            torch.cat([b.labels for b in step]),
        )
        for step in steps
    ]


def over_ranks(store: MemoryDataStore, world_size: int, *, epoch: int = 0, **settings):
    """The global batches: the ranks' slices of each step put together."""
    ranks = [
        joined(train_loader(store, rank=rank, world_size=world_size, **settings).epoch(epoch))
        for rank in range(world_size)
    ]
    return [
        (
            np.concatenate([part[0] for part in parts]),
            torch.cat([part[1] for part in parts]),
            torch.cat([part[2] for part in parts]),
        )
        for parts in zip(*ranks, strict=True)
    ]


def assert_same(ours, theirs) -> None:
    assert len(ours) == len(theirs) > 0
    for (samples, images, labels), (other_samples, other_images, other_labels) in zip(ours, theirs, strict=True):
        assert np.array_equal(samples, other_samples)
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("udt-")]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_batches_hold_the_samples_that_they_name(dtype):
    store = store_of(10, 9, dtype=dtype)
    loader = train_loader(store, augment="none")
    assert loader.steps_per_epoch == 2
    steps = list(loader.epoch(0))
    assert [len(step) for step in steps] == [4, 4]
    for batch in (batch for step in steps for batch in step):
        assert batch.images.dtype == torch.float32
        assert batch.labels.dtype == torch.int64
        raw = torch.from_numpy(store.images[batch.samples].astype(np.float32))
        assert torch.equal(batch.images, raw.clamp(0, 255) / 255)
        assert torch.equal(batch.labels, torch.from_numpy(store.labels[batch.samples]).long())


def test_an_epoch_visits_samples_of_its_cases_at_most_once():
    store = store_of(5, 7, 3, 8)
    (first, second) = [
        np.concatenate([s for s, _, _ in joined(train_loader(store, [1, 3]).epoch(0))]) for _ in range(2)
    ]
    assert np.array_equal(first, second)
    assert len(set(first.tolist())) == 8
    assert set(first.tolist()) <= {*range(5, 12), *range(15, 23)}


def test_over_epochs_every_sample_is_seen_and_the_order_changes():
    loader = train_loader(store_of(5, 6), global_batch_size=4)
    epochs = [np.concatenate([s for s, _, _ in joined(loader.epoch(epoch))]) for epoch in range(12)]
    assert {sample for epoch in epochs for sample in epoch.tolist()} == set(range(11))
    assert len({tuple(epoch) for epoch in epochs}) == 12


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_global_batches_do_not_depend_on_ranks_threads_or_micro_batches(world_size, threads):
    store = store_of(9, 4, 13, 7)
    alone = over_ranks(store, 1, micro_batch_size=8, epoch=3)
    assert_same(over_ranks(store, world_size, micro_batch_size=1, threads=threads, epoch=3), alone)


def test_global_batches_do_not_depend_on_the_cache_or_the_order_of_cases():
    store = store_of(9, 4, 13, 7)
    expected = over_ranks(store, 1)
    assert_same(over_ranks(store, 1, cache_bytes=2 * sample_bytes(store)), expected)
    assert_same(joined(train_loader(store, [3, 0, 2, 1]).epoch(0)), expected)


def test_resuming_gives_the_rest_of_the_same_epoch_and_reads_nothing_before_it():
    store = store_of(20, 20, shard_samples=1)
    loader = train_loader(store)
    whole = joined(loader.epoch(4))
    store.reads.clear()
    rest = joined(train_loader(store).epoch(4, start_step=3))
    assert_same(rest, whole[3:])
    assert sorted(start for start, _ in store.reads) == sorted(np.concatenate([s for s, _, _ in whole[3:]]).tolist())


def test_resuming_at_the_end_of_an_epoch_yields_nothing():
    loader = train_loader(store_of(20))
    assert list(loader.epoch(0, start_step=loader.steps_per_epoch)) == []


@pytest.mark.parametrize("start_step", [-1, 3])
def test_a_step_that_an_epoch_does_not_have_is_refused_at_once(start_step):
    with pytest.raises(ValueError, match=r"not in 0\.\.2"):
        train_loader(store_of(20)).epoch(0, start_step=start_step)


def test_too_few_samples_for_one_batch_are_refused_with_the_remedy():
    with pytest.raises(DataError) as error:
        train_loader(store_of(5, 2), global_batch_size=8)
    assert "global_batch_size=8" in str(error.value)
    assert "only 7 samples (2 cases); set it to at most 7, or add training cases" in str(error.value)


@pytest.mark.parametrize(
    "wrong", [{"rank": 2, "world_size": 2}, {"world_size": 3}, {"micro_batch_size": 3}, {"augment": "elastic"}]
)
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"rank=2|no multiple|allowed"):
        train_loader(store_of(20), **wrong)


def test_what_is_rotated_in_is_a_raw_zero():
    """As what `resize: pad` adds: no sample has a zero of its own here, and a normalised 0 would be a raw 100."""
    centred = Normalization(kind="zscore", low=(-1e9,) * 3, high=(1e9,) * 3, shift=(100.0,) * 3, scale=(50.0,) * 3)
    batches = joined(train_loader(store_of(64), normalization=centred).epoch(0))
    assert min(images.min().item() for _, images, _ in batches) == (0 - 100) / 50


def test_each_shard_is_read_once_whatever_the_threads():
    store = store_of(30, 11, shard_samples=4)
    loader = train_loader(store, threads=4)
    for epoch in range(3):
        list(loader.epoch(epoch))
    assert len(store.reads) == len(set(store.reads)) == 11
    assert (40, 41) in store.reads


def test_more_data_than_cache_is_read_by_sample_and_stays_bounded():
    store = store_of(64, shard_samples=8)
    loader = train_loader(store, cache_bytes=10 * sample_bytes(store), threads=3)
    for epoch in range(2):
        list(loader.epoch(epoch))
        assert len(loader.cache.cached_blocks()) <= 10
    assert {stop - start for start, stop in store.reads} == {1}
    assert len(store.reads) > 64


def test_blocks_leave_the_cache_least_recently_used_first():
    store = store_of(16, shard_samples=4)
    cache = SampleCache(store, capacity_bytes=8 * sample_bytes(store), block_samples=4)
    images, labels = np.empty_like(store.images[:1]), np.empty_like(store.labels[:1])
    for sample in (0, 5, 1, 9, 2):
        cache.gather(np.array([sample]), images, labels)
        assert np.array_equal(images[0], store.images[sample])
        assert np.array_equal(labels[0], store.labels[sample])
    assert cache.cached_blocks() == (2, 0)
    assert store.reads == [(0, 4), (4, 8), (8, 12)]


def test_two_threads_that_want_the_same_blocks_share_the_reading():
    """The second one reads what the first has not begun, instead of waiting; else nobody passes the barrier."""
    together = threading.Barrier(2, timeout=10)

    class MeetingStore(MemoryDataStore):
        def read_samples(self, start, stop):
            together.wait()
            return super().read_samples(start, stop)

    store = MeetingStore(cases=make_cases(["a"], num_samples=[8]))
    cache = SampleCache(store, capacity_bytes=2**30, block_samples=4)
    outputs = [(np.empty_like(store.images), np.empty_like(store.labels)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for gathering in [pool.submit(cache.gather, np.arange(8), *output) for output in outputs]:
            gathering.result()
    assert sorted(store.reads) == [(0, 4), (4, 8)]
    assert all(np.array_equal(images, store.images) for images, _ in outputs)


def test_a_cached_sample_does_not_keep_its_shard_alive():
    store = store_of(16, shard_samples=4)
    cache = SampleCache(store, capacity_bytes=2 * sample_bytes(store), block_samples=1)
    cache.gather(np.array([3]), np.empty_like(store.images[:1]), np.empty_like(store.labels[:1]))
    assert all(future.result()[0].base is None for future in cache._blocks.values())


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
    assert len(loader_threads()) == (3 if steps else 0)
    epoch.close()
    assert loader_threads() == []
    assert len(store.reads) < 100


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
    epoch = train_loader(store, threads=2).epoch(0)
    next(epoch)
    deadline = time.monotonic() + 10
    while len(store.reads) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(store.reads) == 40  # the batch that was taken and 2 per thread
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


def test_evaluation_sees_every_sample_once_over_all_ranks():
    groups = ["p1", "p1", "p2", "p3", "p3", "p4"]
    store = store_of(7, 2, 5, 4, 4, 1, groups=groups)
    for world_size in (1, 2, 3, 7):
        loaders = [eval_loader(store, rank=rank, world_size=world_size) for rank in range(world_size)]
        seen, home = [], {}
        for rank, loader in enumerate(loaders):
            batches = list(loader)
            assert len(batches) == len(loader) == loader.num_batches
            assert sum(len(batch.case) for batch in batches) == loader.num_samples
            for batch in batches:
                seen += zip(batch.case.tolist(), batch.slice.tolist(), strict=True)
                assert {home.setdefault(groups[case], rank) for case in batch.case.tolist()} == {rank}
        assert sorted(seen) == [(case, s) for case, n in enumerate([7, 2, 5, 4, 4, 1]) for s in range(n)]
        assert {loader.num_batches_max for loader in loaders} == {max(loader.num_batches for loader in loaders)}


def test_evaluation_batches_are_normalised_ordered_and_not_augmented():
    store = store_of(3, 6, 4)
    batches = list(eval_loader(store, [2, 1], batch_size=4))
    assert [len(batch.case) for batch in batches] == [4, 4, 2]
    assert np.concatenate([batch.case for batch in batches]).tolist() == [1] * 6 + [2] * 4
    assert np.concatenate([batch.slice for batch in batches]).tolist() == [*range(6), *range(4)]
    images, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "labels"))
    assert torch.equal(images, torch.from_numpy(store.images[3:]).float() / 255)
    assert torch.equal(labels, torch.from_numpy(store.labels[3:]).long())


def test_evaluation_without_cases_is_empty():
    loader = eval_loader(store_of(3), [])
    assert (list(loader), loader.num_batches_max) == ([], 0)


def test_a_second_pass_over_the_validation_cases_reads_nothing():
    store = store_of(10, 10)
    loader = eval_loader(store)
    first = len(list(loader))
    read = len(store.reads)
    assert len(list(loader)) == first
    assert len(store.reads) == read


def test_ranks_are_balanced_by_samples():
    cases = make_cases([f"c{n}" for n in range(40)], num_samples=[1 + n % 7 for n in range(40)])
    loads = [sum(cases.num_samples[members]) for members in rank_cases(cases, range(40), world_size=4)]
    assert max(loads) - min(loads) <= 1


def test_the_order_of_an_epoch_is_frozen():
    """Seeded runs of different versions must see the same batches; a change here breaks every resumed run."""
    assert epoch_order(np.arange(8), seed=1, epoch=2).tolist() == [6, 0, 7, 5, 1, 4, 3, 2]


def test_a_plan_cuts_a_step_over_ranks():
    order = np.arange(100, 200)
    plans = [BatchPlan(global_batch_size=12, micro_batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    assert [plan.local_samples(order, 2).tolist() for plan in plans] == [
        [124, 125, 126, 127],
        [128, 129, 130, 131],
        [132, 133, 134, 135],
    ]
    assert plans[0].steps(100) == 8


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


def test_batches_from_a_store_on_disk(tmp_path):
    store = make_store(tmp_path, slices=(1, 5, 3, 8), channels=3, dtype="int16", num_classes=3)
    images, labels = store.read_samples(0, store.num_samples)
    scale = Normalization.from_fingerprint("percentile", store.info.fingerprint, store.info.dtype)
    seen = []
    for step in train_loader(store, normalization=scale, augment="none", threads=3).epoch(0):
        for batch in step:
            seen += batch.samples.tolist()
            assert torch.equal(batch.images, scale(torch.from_numpy(images[batch.samples])))
            assert torch.equal(batch.labels, torch.from_numpy(labels[batch.samples]).long())
    assert len(set(seen)) == 16
    (only,) = eval_loader(store, [2], normalization=scale)
    assert only.slice.tolist() == [0, 1, 2]
    assert torch.equal(only.labels, torch.from_numpy(labels[6:9]).long())


def test_global_batches_from_a_store_on_disk_do_not_depend_on_ranks_or_threads(tmp_path):
    store = make_store(tmp_path, slices=(1, 5, 3, 8, 9, 6), channels=3)
    alone = over_ranks(store, 1, threads=0)
    for world_size, threads in ((2, 1), (4, 3)):
        assert_same(over_ranks(store, world_size, micro_batch_size=1, threads=threads), alone)


def test_a_flipped_byte_in_a_shard_ends_the_epoch_with_its_name(tmp_path):
    store = make_store(tmp_path, slices=(8, 8), channels=3)
    shard = tmp_path / "data" / "tiny" / "v0" / "images" / "c" / "2" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptError, match="images/c/2/0/0/0"):
        list(train_loader(store).epoch(0))
    assert loader_threads() == []


def test_closing_drops_what_has_not_begun():
    begun = []

    def load(item):
        begun.append(item)
        time.sleep(0.2)

    results = prefetched(load, range(100), threads=1, ahead=10)
    next(results)
    results.close()
    assert len(begun) <= 4


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_a_gpu_gets_the_same_batches(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    store = store_of(40, dtype=dtype)
    here, there = (joined(train_loader(store, device=device).epoch(2)) for device in ("cpu", "cuda"))
    for (samples, images, labels), (gpu_samples, gpu_images, gpu_labels) in zip(here, there, strict=True):
        assert np.array_equal(samples, gpu_samples)
        assert torch.equal(labels, gpu_labels.cpu())
        torch.testing.assert_close(images, gpu_images.cpu(), rtol=0, atol=1e-6)
