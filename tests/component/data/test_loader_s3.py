import pytest
import torch

from tests.factories import make_store
from udt_cluster.data import EvalLoader, Normalization, TrainLoader
from udt_cluster.data.cache import shard_bytes
from udt_cluster.storage import Location

pytestmark = [pytest.mark.component, pytest.mark.s3]


@pytest.mark.parametrize("shards", [100, 4])
def test_training_batches_from_s3_are_those_from_disk_by_two_requests_a_shard(s3_uri, tmp_path, monkeypatch, shards):
    """Several threads read whole shards through one client, into a cache of all data and into one of half."""
    settings = {"slices": (1, 5, 3, 8, 9, 6), "channels": 3, "seed": 4}
    local, remote = make_store(tmp_path, **settings), make_store(Location.parse(s3_uri), **settings)
    scale = Normalization.from_fingerprint("auto", local.info.fingerprint, local.info.dtype)

    def batches(store):
        loader = TrainLoader(
            store, range(6), normalization=scale, global_batch_size=8, micro_batch_size=4, rank=0, world_size=1,
            seed=5, augment="released", device="cpu", threads=4, cache_bytes=shards * shard_bytes(store),
        )  # fmt: skip
        return [batch for epoch in (0, 1) for step in loader.epoch(epoch) for batch in step]

    expected = batches(local)
    requests, read_bytes = [], Location.read_bytes

    def counted(location, **ranges):
        requests.append(location.uri)
        return read_bytes(location, **ranges)

    monkeypatch.setattr(Location, "read_bytes", counted)
    for ours, theirs in zip(batches(remote), expected, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    epochs = 1 if shards > remote.num_shards else 2
    assert 0 < len(requests) <= 2 * remote.num_shards * epochs


def test_evaluation_batches_from_s3(s3_uri):
    store = make_store(Location.parse(s3_uri), slices=(2, 7, 4))
    scale = Normalization.from_fingerprint("auto", store.info.fingerprint, store.info.dtype)
    loader = EvalLoader(store, range(3), normalization=scale, batch_size=3)
    labels = torch.cat([batch.labels for batch in loader])
    assert torch.equal(labels, torch.from_numpy(store.read_samples(0, 13)[1]).long())
