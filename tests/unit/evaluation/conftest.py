"""Small models and stores: networks of one convolution, and a store in memory with the reader's interface."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from udt_cluster.config.job import ModelConfig
from udt_cluster.data import CaseTable, Fingerprint, Normalization, StoreInfo, geometry
from udt_cluster.evaluation import ModelSpec, SegmentationModel

SIZE = (32, 48)
NAMES = ("background", "right ventricle", "myocardium", "left ventricle")


def make_spec(
    *, channels=1, num_classes=2, resize="stretch", dtype="uint8", architecture="unet", size=SIZE, kind="scale255",
    low=0.0, context_slices=0,
):  # fmt: skip
    top = 255.0 if dtype == "uint8" else 1.0
    return ModelSpec(
        model=ModelConfig(architecture=architecture),
        in_channels=channels * (2 * context_slices + 1),
        context_slices=context_slices,
        class_names=NAMES[:num_classes],
        size=size,
        resize=resize,
        dtype=dtype,
        normalization=Normalization(
            kind=kind, low=(low,) * channels, high=(top,) * channels, shift=(low,) * channels,
            scale=(top - low,) * channels,
        ).with_context(context_slices),
        lineage={"run": "r1", "fold": 0},
    )  # fmt: skip


def random_network(*, channels, num_classes, seed):
    """A convolution whose logits are far from 0 on both sides, so that masks are mixed and equality means something."""
    torch.manual_seed(seed)
    network = nn.Conv2d(channels, 1 if num_classes == 2 else num_classes, 5, padding=2)
    with torch.no_grad():
        logits = network(torch.rand(4, channels, 32, 48))
        spread, middle = logits.std((0, 2, 3)), logits.mean((0, 2, 3))
        network.bias.sub_(middle)
        network.weight.mul_(3 / spread[:, None, None, None])
        network.bias.mul_(3 / spread)
    return network


def reading_network(num_classes):
    """Reads the class off the grey value: 0 is background, 255 the last class."""
    outputs = 1 if num_classes == 2 else num_classes
    network = nn.Conv2d(1, outputs, 1)
    centres = torch.arange(num_classes) / (num_classes - 1)
    with torch.no_grad():
        # -(x - c)^2 without the x^2 that all classes share; for two classes the difference of both
        weight, bias = 2 * centres, -(centres**2)
        if outputs == 1:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        network.weight.copy_(100 * weight[:, None, None, None])
        network.bias.copy_(100 * bias)
    return network


@dataclass
class MemoryStore:
    """The part of DataStore that scoring uses."""

    info: StoreInfo
    cases: CaseTable
    images: Any
    native: list[np.ndarray]
    sample_slice: np.ndarray
    location: str = "/nowhere/store"
    reads: int = 0

    def read_samples(self, start, stop):
        self.reads += 1
        return self.images[start:stop], None

    def native_label(self, case):
        return self.native[case]


def make_store(raw, labels, *, resize="stretch", spacing=(np.nan,) * 3, num_classes=2, affine=np.nan, size=SIZE):
    """A store of raw images (D, C, H, W) with labels (D, H, W), prepared as the real one is."""
    samples = [geometry.resize_image(torch.from_numpy(image), size, resize).numpy() for image in raw]
    counts = [len(label) for label in labels]
    first = np.cumsum([0, *counts[:-1]])
    one = (1.0,) * raw[0].shape[1]
    fingerprint = Fingerprint(
        mean=one, std=one, minimum=one, maximum=one, percentile_00_5=one, percentile_99_5=one,
        class_fractions=(1.0,) * num_classes, num_samples=sum(counts), num_cases=len(raw),
    )  # fmt: skip
    info = StoreInfo(
        dataset="toy", adapter="image_folder", version="v", size=size, resize=resize, channels=raw[0].shape[1],
        dtype=str(raw[0].dtype), class_names=NAMES[:num_classes], shard_samples=4, fingerprint=fingerprint,
        provenance={},
    )  # fmt: skip
    cases = CaseTable(
        ids=tuple(f"case{index}" for index in range(len(raw))),
        groups=tuple(f"patient{index}" for index in range(len(raw))),
        splits=("unknown",) * len(raw),
        native_offset=np.zeros(len(raw), np.int64),
        native_shape=np.array([label.shape for label in labels]),
        spacing=np.array([spacing] * len(raw)),
        affine=np.full((len(raw), 4, 4), affine),
        first_sample=first,
        num_samples=np.array(counts),
    )
    order = np.concatenate([np.arange(count) for count in counts])
    return MemoryStore(info, cases, np.concatenate(samples), list(labels), order)


@pytest.fixture
def random_model():
    def make(*, members=1, device="cpu", **settings):
        spec = make_spec(**settings)
        networks = [
            random_network(channels=spec.in_channels, num_classes=spec.num_classes, seed=seed)
            for seed in range(members)
        ]
        return SegmentationModel(spec, networks, device=device)

    return make


@pytest.fixture
def reading_model():
    def make(num_classes=2, **settings):
        return SegmentationModel(make_spec(num_classes=num_classes, **settings), [reading_network(num_classes)])

    return make


@pytest.fixture
def memory_store():
    return make_store
