"""Windows, empty slices and neighbouring slices, as they come out of the loaders."""

import numpy as np
import pytest
import torch

from tests.loaders import SCALE, assert_same, eval_loader, joined, over_ranks, store_of, train_loader
from udt_cluster.data.cache import shard_bytes
from udt_cluster.errors import DataError


def windowed(store, shards: int = 6) -> dict[str, int]:
    return {"cache_bytes": shards * shard_bytes(store)}


@pytest.mark.parametrize("context_slices", [0, 1])
@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_windowed_global_batches_do_not_depend_on_ranks_or_threads(threads, context_slices):
    store = store_of(50, 3, 1, 42, shard_samples=4)
    settings = {**windowed(store), "context_slices": context_slices, "global_batch_size": 12, "epoch": 1}
    expected = over_ranks(store, 1, **settings)
    for world_size in (1, 2, 3):
        ours = over_ranks(store, world_size, **settings, threads=threads, micro_batch_size=1)
        assert_same(ours, expected)


def test_data_larger_than_the_cache_is_read_once_an_epoch_within_its_bound():
    store = store_of(160, shard_samples=4)
    loader = train_loader(store, **windowed(store, 10), threads=3)
    for epoch in range(3):
        store.reads.clear()
        for _ in loader.epoch(epoch):
            assert len(loader.cache.cached_shards()) <= 10
        assert len(store.reads) <= 40
        assert len(set(store.reads)) == len(store.reads)


def test_ranks_that_share_a_node_read_each_shard_once_an_epoch():
    store = store_of(160, shard_samples=4)
    loaders = [train_loader(store, rank=rank, world_size=2, **windowed(store, 12)) for rank in range(2)]
    for _ in zip(*(loader.epoch(0) for loader in loaders), strict=True):
        pass
    assert len(set(store.reads)) == len(store.reads) == 40


def test_resuming_a_windowed_epoch_gives_the_rest_and_reads_nothing_before_it():
    store = store_of(100, shard_samples=2)
    loader = train_loader(store, **windowed(store))
    whole = joined(loader.epoch(2))
    loader.close()
    store.reads.clear()
    assert_same(joined(train_loader(store, **windowed(store)).epoch(2, start_step=8)), whole[8:])
    wanted = {sample // 2 for samples, _, _ in whole[8:] for sample in samples.tolist()}
    assert {start // 2 for start, _ in store.reads} == wanted


def test_empty_slices_are_left_out_as_the_job_says():
    store = store_of(60)
    store.sample_foreground[20:] = 0
    counts = {}
    for policy in ("keep", "drop", 0.5):
        loader = train_loader(store, empty_slices=policy, global_batch_size=2)
        epochs = [np.sort(np.concatenate([s for s, _, _ in joined(loader.epoch(epoch))])) for epoch in (0, 1)]
        assert np.array_equal(*epochs)  # the same ones in every epoch
        assert set(range(20)) <= set(epochs[0].tolist())
        counts[policy] = len(epochs[0])
    assert counts == {"keep": 60, "drop": 20, 0.5: 40}


def test_which_empty_slices_stay_does_not_depend_on_ranks():
    store = store_of(60)
    store.sample_foreground[::3] = 0
    expected = over_ranks(store, 1, empty_slices=0.3)
    assert_same(over_ranks(store, 2, empty_slices=0.3, micro_batch_size=1), expected)


def test_too_few_samples_with_foreground_are_refused_with_the_cause():
    store = store_of(20)
    store.sample_foreground[4:] = 0
    with pytest.raises(
        DataError, match=r"only 4 samples \(1 cases, 16 more without foreground are left out by data.emp"
    ):
        train_loader(store, empty_slices="drop")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_neighbouring_slices_are_channels_in_order_and_ends_repeat(dtype):
    store = store_of(5, 1, 3, channels=2, dtype=dtype)
    scale = SCALE.__class__(
        kind="scale255", low=(0.0,) * 2, high=(255.0,) * 2, shift=(0.0,) * 2, scale=(255.0,) * 2
    )  # fmt: skip
    raw = torch.from_numpy(store.images).float() / 255
    first, last = np.array([0] * 5 + [5] + [6] * 3), np.array([4] * 5 + [5] + [8] * 3)
    loader = train_loader(store, normalization=scale, augment="none", context_slices=2, global_batch_size=4)
    batches = [batch for step in loader.epoch(0) for batch in step]
    assert batches
    for batch in batches:
        assert batch.images.shape[1] == 2 * 5
        for image, label, sample in zip(batch.images, batch.labels, batch.samples.tolist(), strict=True):
            rows = np.clip(np.arange(sample - 2, sample + 3), first[sample], last[sample])
            assert torch.equal(image, torch.cat([raw[row] for row in rows]))
            assert torch.equal(label, torch.from_numpy(store.labels[sample]).long())
    batches = list(eval_loader(store, normalization=scale, context_slices=1))
    assert torch.equal(torch.cat([batch.shown for batch in batches]), raw), "people see the slice itself"
    images = torch.cat([batch.images for batch in batches])
    rows = np.clip(np.arange(9)[:, None] + [-1, 0, 1], first[:, None], last[:, None])
    assert torch.equal(images, raw[rows].flatten(1, 2))


def test_slices_that_are_left_out_stay_neighbours():
    store = store_of(12)
    store.sample_foreground[1::2] = 0
    loader = train_loader(store, augment="none", context_slices=1, empty_slices="drop", global_batch_size=2)
    (batch, *_) = next(loader.epoch(0))
    sample = int(batch.samples[0])
    assert sample % 2 == 0
    assert torch.equal(batch.images[0, 6:], torch.from_numpy(store.images[sample + 1]).float() / 255)
