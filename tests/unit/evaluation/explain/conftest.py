"""Small networks with random weights that say something, and stores to look at them with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.factories import make_store
from udt_cluster.config.job import ModelConfig
from udt_cluster.data import DataStore, Normalization
from udt_cluster.data.geometry import with_neighbours
from udt_cluster.evaluation import ModelSpec, SegmentationModel
from udt_cluster.models import build_model, output_channels

SMALL: dict[str, Any] = {"embed_dim": 16, "num_layers": 2, "num_heads": 2}


def make_network(
    config: ModelConfig, *, channels: int = 1, num_classes: int = 2, seed: int = 0, images: Tensor | None = None
) -> nn.Module:
    """With batch norms that have seen the images, so that signals reach the end, and masks that have every class."""
    torch.manual_seed(seed)
    network = build_model(config, in_channels=channels, num_classes=output_channels(num_classes))
    images = torch.rand(4, channels, 32, 32) if images is None else images
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # one pass is enough
    with torch.no_grad():
        network(images)
        network.eval()
        network.head[-1].bias.sub_(network(images).movedim(1, 0).flatten(1).median(1).values)
    return network


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """A small network of an architecture; UDTransNet's transformer is small, too."""

    def make(architecture: str = "udtransnet", *, seed: int = 0, num_classes: int = 2, **settings: Any) -> nn.Module:
        small = SMALL if architecture == "udtransnet" else {}
        config = ModelConfig(architecture=architecture, **{**small, **settings})
        return make_network(config, num_classes=num_classes, seed=seed)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., DataStore]:
    """A store of tiny cases."""

    def make(**settings: Any) -> DataStore:
        return make_store(tmp_path / "store", **{"slices": (1, 1, 1, 1, 1, 1, 1), **settings})

    return make


@pytest.fixture
def model() -> Callable[..., SegmentationModel]:
    """A model for a store."""

    def make(
        store: DataStore,
        architecture: str = "udtransnet",
        *,
        seeds: tuple[int, ...] = (0,),
        context_slices: int = 0,
        **settings: Any,
    ) -> SegmentationModel:
        small = SMALL if architecture == "udtransnet" else {}
        config = ModelConfig(architecture=architecture, **{**small, **settings})
        info = store.info
        normalization = Normalization.from_fingerprint("auto", info.fingerprint, info.dtype)
        normalization = normalization.with_context(context_slices)
        spec = ModelSpec.for_store(config, info, normalization=normalization)
        classes = len(info.class_names)
        samples = torch.from_numpy(store.read_samples(0, store.num_samples)[0].astype("float32"))
        images = normalization(with_neighbours(samples, context_slices))
        sizes = {"channels": spec.in_channels, "num_classes": classes}
        networks = [make_network(config, **sizes, seed=seed, images=images) for seed in seeds]
        return SegmentationModel(spec, networks)

    return make
