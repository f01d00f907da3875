"""Loaders over small stores, and what tests compare of them."""

import threading

import numpy as np
import torch

from tests.memory_store import MemoryDataStore, make_cases
from udt_cluster.data.loader import EvalLoader, TrainLoader
from udt_cluster.data.normalization import Normalization

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
