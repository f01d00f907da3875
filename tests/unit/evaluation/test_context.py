"""Neighbouring slices, windows and stains: one meaning in training, in Python, in scores and in an exported graph."""

import numpy as np
import pytest
import torch

from udt_cluster.config.job import EvaluateConfig, ModelConfig
from udt_cluster.data import Normalization, geometry
from udt_cluster.errors import DataError
from udt_cluster.evaluation import ModelSpec, SegmentationModel, exported_program, score

DEPTHS = (1, 2, 3, 7)


def volume(depth, *, channels=1, size=(41, 57), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (depth, *size, channels), dtype=np.uint8)


class Weighted(torch.nn.Module):
    """Adds its input channels with given weights; the logit is positive where the sum is above one half."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float32)[None, :, None, None])

    def forward(self, x):
        return 100 * ((x * self.weights).sum(1, keepdim=True) - 0.5)


def test_neighbours_come_slice_by_slice_and_the_ends_repeat():
    x = torch.arange(4)[:, None, None, None] * 10 + torch.arange(2)[None, :, None, None].expand(4, 2, 3, 3)
    wide = geometry.with_neighbours(x, 2)
    assert wide.shape == (4, 10, 3, 3)
    assert wide[0, :, 0, 0].tolist() == [0, 1, 0, 1, 0, 1, 10, 11, 20, 21]
    assert wide[3, :, 2, 2].tolist() == [10, 11, 20, 21, 30, 31, 30, 31, 30, 31]
    assert geometry.with_neighbours(x, 0) is x


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_model_sees_the_slice_before_its_own_and_the_one_behind(random_model, weights):
    spec = random_model(context_slices=1).spec
    model = SegmentationModel(spec, [Weighted(weights)])
    levels = np.array([0, 255, 0, 0, 255, 255], np.uint8)
    slices = np.broadcast_to(levels[:, None, None, None], (6, 32, 48, 1))
    step = weights.index(1) - 1
    expected = levels[np.clip(np.arange(6) + step, 0, 5)] > 0
    for batch_size in (1, 2, 4, 8):
        masks = model.predict(slices, batch_size=batch_size)
        assert (masks == expected[:, None, None]).all()
    assert model.predict(slices[1]).all()  # alone it is its own neighbour


@pytest.mark.parametrize("context", [1, 2, 8])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_size_of_batches_changes_nothing(random_model, context, channels):
    model = random_model(channels=channels, num_classes=4, context_slices=context)
    raw = volume(7, channels=channels)
    whole = model.predict(raw, batch_size=7)
    assert len(np.unique(whole)) > 1
    small = geometry.resize_image(torch.from_numpy(raw.transpose(0, 3, 1, 2).copy()), model.spec.size, "stretch")
    for batch_size in (1, 2, 3, 5, 100):
        np.testing.assert_array_equal(model.predict(raw, batch_size=batch_size), whole)
        samples = model.predict_samples(small.numpy(), native_size=(41, 57), batch_size=batch_size)
        np.testing.assert_array_equal(samples, whole)
        p = model.predict_probabilities(raw, batch_size=batch_size)
        np.testing.assert_array_equal(p.argmax(1), whole)


def test_a_volume_is_scored_with_its_neighbours(random_model, memory_store, tmp_path):
    model = random_model(context_slices=2)
    raw = [volume(5, seed=1), volume(3, seed=2)]
    masks = [model.predict(array) for array in raw]
    store = memory_store([array.transpose(0, 3, 1, 2) for array in raw], masks)
    config = EvaluateConfig(worst=0, batch_size=2)
    assert score(model, store, [0, 1], config=config, output=tmp_path / "out").mean["dice"] == 1.0
    # Were neighbours taken from the other case, or the slices' order lost, it would not be.
    store.native[0] = model.predict(raw[0][::-1].copy())[::-1]
    assert score(model, store, [0], config=config, output=tmp_path / "turned").mean["dice"] < 0.99


def test_the_description_counts_channels(random_model, memory_store):
    info = memory_store([volume(3, channels=2).transpose(0, 3, 1, 2)], [np.zeros((3, 41, 57), np.uint8)]).info
    plain = Normalization.from_fingerprint("scale255", info.fingerprint, info.dtype)
    spec = ModelSpec.for_store(ModelConfig(), info, normalization=plain.with_context(2))
    assert (spec.in_channels, spec.image_channels, spec.context_slices) == (10, 2, 2)
    assert len(spec.normalization.scale) == 10
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert ModelSpec.for_store(ModelConfig(), info, normalization=plain).in_channels == 2
    with pytest.raises(DataError, match="the model takes 2"):
        random_model(channels=2, context_slices=1).predict(volume(3, channels=6))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"context_slices": 1},
        {"context_slices": 2, "channels": 2, "num_classes": 4, "resize": "pad"},
        {"channels": 3, "kind": "stain"},
        {"channels": 3, "kind": "stain", "context_slices": 1, "resize": "pad"},
        {"kind": "ct_window", "low": 100.0},
    ],
    ids=["context", "context2", "stain", "stain-context", "ct_window"],
)
def test_the_exported_graph_equals_python(random_model, tmp_path, settings):
    model = random_model(**settings)
    torch.export.save(exported_program(model), tmp_path / "model.pt2")
    graph = torch.export.load(tmp_path / "model.pt2").module()
    mixed = 0.0
    for depth, size in zip(DEPTHS, [(100, 70), (17, 150), (32, 48), (33, 41)], strict=True):
        raw = volume(depth, channels=settings.get("channels", 1), size=size, seed=depth)
        raw[:, : size[0] // 3] = raw[:, : size[0] // 3] // 3
        masks = graph(torch.from_numpy(raw.astype(np.float32))).numpy()
        for batch_size in (1, 3):
            np.testing.assert_array_equal(masks, model.predict(raw, batch_size=batch_size))
        mixed = max(mixed, min((masks == 0).mean(), (masks > 0).mean()))
    assert mixed > 0.02
