import pytest
import torch

from tests.factories import make_store
from udt_cluster.data import EvalLoader, Normalization, TrainLoader
from udt_cluster.storage import Location

pytestmark = [pytest.mark.component, pytest.mark.s3]


def test_training_batches_from_s3_are_those_from_disk(s3_uri, tmp_path):
    """Several threads read whole shards through one client, a cold cache and then single samples."""
    settings = {"slices": (1, 5, 3, 8, 9, 6), "channels": 3, "seed": 4}
    stores = [make_store(tmp_path, **settings), make_store(Location.parse(s3_uri), **settings)]
    scale = Normalization.from_fingerprint("auto", stores[0].info.fingerprint, stores[0].info.dtype)

    def batches(store, cache_bytes):
        loader = TrainLoader(
            store, range(6), normalization=scale, global_batch_size=8, micro_batch_size=4, rank=0, world_size=1,
            seed=5, augment="released", device="cpu", threads=4, cache_bytes=cache_bytes,
        )  # fmt: skip
        return [batch for epoch in (0, 1) for step in loader.epoch(epoch) for batch in step]

    expected = batches(stores[0], 2**30)
    for cache_bytes in (2**30, 2**14):
        for ours, theirs in zip(batches(stores[1], cache_bytes), expected, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)


def test_evaluation_batches_from_s3(s3_uri):
    store = make_store(Location.parse(s3_uri), slices=(2, 7, 4))
    scale = Normalization.from_fingerprint("auto", store.info.fingerprint, store.info.dtype)
    loader = EvalLoader(store, range(3), normalization=scale, batch_size=3)
    labels = torch.cat([batch.labels for batch in loader])
    assert torch.equal(labels, torch.from_numpy(store.read_samples(0, 13)[1]).long())
