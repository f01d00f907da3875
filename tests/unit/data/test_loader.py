import numpy as np
import pytest
import torch

from tests.factories import make_store
from tests.loaders import assert_same, eval_loader, joined, over_ranks, store_of, train_loader
from udt_cluster.data.cache import SampleCache, shard_bytes
from udt_cluster.data.normalization import Normalization
from udt_cluster.errors import DataError


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


def test_global_batches_do_not_depend_on_the_room_of_a_node_or_the_order_of_cases():
    store = store_of(9, 4, 13, 7)
    expected = over_ranks(store, 1)
    tight = SampleCache(store, capacity_bytes=2 * shard_bytes(store))
    assert_same(joined(train_loader(store, cache=tight, micro_batch_size=2).epoch(0)), expected)
    assert tight.capacity_shards == 2
    assert_same(joined(train_loader(store, [3, 0, 2, 1]).epoch(0)), expected)


def test_resuming_gives_the_rest_of_the_same_epoch_and_reads_nothing_before_it():
    store = store_of(20, 20, shard_samples=1)
    loader = train_loader(store)
    whole = joined(loader.epoch(4))
    loader.close()
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


@pytest.mark.parametrize("augment", ["released", "strong"])
def test_global_batches_from_a_store_on_disk_do_not_depend_on_ranks_or_threads(tmp_path, augment):
    store = make_store(tmp_path, slices=(1, 5, 3, 8, 9, 10), channels=3)
    settings = {"global_batch_size": 12, "micro_batch_size": 2, "augment": augment}
    alone = over_ranks(store, 1, threads=0, **settings)
    for world_size, threads in ((1, 1), (1, 4), (2, 1), (2, 2), (3, 2), (3, 4)):
        assert_same(over_ranks(store, world_size, threads=threads, **settings), alone)


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
