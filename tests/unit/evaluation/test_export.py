"""The exported graph does what the Python class does, at sizes it has not seen, without this package."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from udt_cluster.config.job import ModelConfig
from udt_cluster.evaluation import SegmentationModel, export_example, export_module, exported_program
from udt_cluster.models import build_model, output_channels

SHAPES = [(1, 100, 70), (3, 17, 150), (2, 32, 48), (5, 1, 1), (1, 33, 640)]


def raw(shape, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, channels)).astype(np.float32)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize(("num_classes", "channels", "members"), [(2, 3, 1), (4, 1, 2)])
def test_the_graph_equals_predict_at_any_size(random_model, resize, num_classes, channels, members):
    model = random_model(channels=channels, num_classes=num_classes, resize=resize, members=members)
    graph = exported_program(model).module()
    for shape in SHAPES:
        images = raw(shape, channels)
        masks = graph(torch.from_numpy(images)).numpy()
        assert masks.dtype == np.uint8
        np.testing.assert_array_equal(masks, model.predict(images))
    assert 0.05 < (masks > 0).mean() < 0.99


@pytest.mark.parametrize("architecture", ["unet", "r34_unet", "udtransnet"])
def test_every_network_keeps_its_dimensions_dynamic(random_model, architecture):
    spec = random_model(channels=3, num_classes=3).spec
    torch.manual_seed(0)
    config = ModelConfig(architecture=architecture, num_layers=1, num_heads=2, embed_dim=16)
    network = build_model(config, in_channels=3, num_classes=output_channels(3))
    with torch.no_grad():  # freshly made, its classes are all but equal
        list(network.parameters())[-2].mul_(30)
        logits = network.eval()(torch.rand(2, 3, *spec.size))
        list(network.parameters())[-1].sub_(logits.mean((0, 2, 3)))
    model = SegmentationModel(spec, [network])
    graph = exported_program(model).module()
    for shape in SHAPES[:3]:
        images = raw(shape, 3)
        masks = graph(torch.from_numpy(images)).numpy()
        assert len(np.unique(masks)) > 1
        np.testing.assert_array_equal(masks, model.predict(images))


def test_a_frozen_dimension_is_an_error_not_a_surprise(random_model):
    class Frozen(torch.nn.Module):
        def forward(self, x):
            return x[:, :1] if x.shape[0] == 2 else x[:, :1] * 2

    with pytest.raises((RuntimeError, torch._dynamo.exc.UserError), match=r"(?i)speciali[sz]ed|dynamic|constraint"):
        exported_program(SegmentationModel(random_model().spec, [Frozen()]))


def test_the_example_is_unlike_any_constant_of_the_model(random_model):
    model = random_model(channels=3)
    count, height, width, channels = export_example(model).shape
    assert count == 2
    assert channels == 3
    assert len({0, 1, count, height, width, *model.spec.size}) == 7
    assert export_module(model) is model.pipeline


def test_loads_where_there_is_only_torch(random_model, tmp_path):
    model = random_model(channels=3, num_classes=4, resize="pad")
    torch.export.save(exported_program(model), tmp_path / "model.pt2")
    images = raw((1, 61, 83), 3)
    np.savez(tmp_path / "case.npz", images=images, masks=model.predict(images))
    code = """
    import sys

    class OnlyTorch:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("udt_cluster", "data_prep", "safetensors", "pydantic", "monai", "zarr"):
                raise ImportError(f"{name} is not installed here")

    sys.meta_path.insert(0, OnlyTorch())
    import numpy, torch

    graph = torch.export.load("model.pt2").module()
    case = numpy.load("case.npz")
    assert (graph(torch.from_numpy(case["images"])).numpy() == case["masks"]).all()
    try:
        import udt_cluster
    except ImportError:
        print("equal")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr
