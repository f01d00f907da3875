"""From the job's `model` section to a network, and encoder weights from files and from the hub."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import udt_cluster.models
from udt_cluster.config.job import ModelConfig
from udt_cluster.errors import RefusedError, UnreachableError
from udt_cluster.models import R34UNet, UDTransNet, UNet, build_model, from_released, load_encoder_weights, to_released
from udt_cluster.models import pretrained as pretrained_module


def test_public_names() -> None:
    names = [
        "Cost",
        "R34UNet",
        "UDTransNet",
        "UNet",
        "build_model",
        "cost",
        "from_released",
        "load_encoder_weights",
        "output_channels",
        "to_released",
    ]
    assert udt_cluster.models.__all__ == names
    assert all(callable(getattr(udt_cluster.models, name)) for name in names)


@pytest.mark.parametrize(("architecture", "kind"), [("udtransnet", UDTransNet), ("unet", UNet), ("r34_unet", R34UNet)])
def test_each_architecture_is_built_with_its_default_skips(architecture: str, kind: type) -> None:
    config = ModelConfig(architecture=architecture, num_heads=2, num_layers=1, embed_dim=16)  # type: ignore[arg-type]
    model = build_model(config, in_channels=1, num_classes=4).eval()
    assert type(model) is kind
    assert model.skips == config.skip_kinds
    assert model(torch.rand(1, 1, 32, 32)).shape == (1, 4, 32, 32)


def test_every_field_of_the_config_reaches_the_network() -> None:
    skips = ("none", "dra_channel", "identity", "dra_spatial")
    config = ModelConfig(
        skips=skips,
        scales=(1, 2, 4),
        attention=("ssa", "cfa"),
        num_heads=4,
        num_layers=3,
        embed_dim=24,
        mlp_ratio=3,
        head_merge="released",
        dropout=0.25,
    )
    same = [name for name, field in ModelConfig.model_fields.items() if getattr(config, name) == field.default]
    assert same == ["architecture", "num_heads", "pretrained"]
    model = build_model(config, in_channels=2, num_classes=1)
    assert isinstance(model, UDTransNet)
    assert model.dat is not None
    block = model.dat.blocks[0]
    assert len(model.dat.blocks) == 3
    assert (model.scales, block.attention, block.mlp.hidden.weight.shape) == ((1, 2, 4), ("ssa", "cfa"), (3, 72, 24))  # type: ignore[union-attr]
    assert model.skips == skips
    assert model.dat.norm.weight.shape == (2, 24)
    assert (block.ssa.num_heads, block.ssa.well_merged, block.dropout.p) == (4, 1, 0.25)  # type: ignore[union-attr]


def test_unknown_architecture_names_what_there_is() -> None:
    config = ModelConfig.model_construct(architecture="vnet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"architecture='vnet'; available: udtransnet, unet, r34_unet"):
        build_model(config, in_channels=1, num_classes=1)


@pytest.fixture(scope="module")
def imagenet_like() -> dict[str, Tensor]:
    """A state dict as torchvision writes it: stem and classifier beside the layers."""
    torch.manual_seed(7)
    encoder = R34UNet(in_channels=3, num_classes=1).encoder.state_dict()
    layers = {name: tensor.clone() for name, tensor in encoder.items() if name.startswith("layer")}
    layers["layer4.2.bn2.running_var"].fill_(2.5)
    return layers | {"conv1.weight": torch.rand(64, 3, 7, 7), "fc.bias": torch.rand(1000)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("architecture", ["udtransnet", "r34_unet"])
def test_pretrained_from_a_file(
    suffix: str, architecture: str, imagenet_like: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(imagenet_like, path) if suffix == ".pth" else save_file(imagenet_like, path)
    config = ModelConfig(architecture=architecture, pretrained=str(path), num_layers=1)  # type: ignore[arg-type]
    state = build_model(config, in_channels=1, num_classes=1).state_dict()
    loaded = {name: tensor for name, tensor in imagenet_like.items() if name.startswith("layer")}
    assert len(loaded) == 35 * 6  # 35 convolutions, each with a batch norm of five tensors
    for name, tensor in loaded.items():
        assert torch.equal(state[f"encoder.{name}"], tensor)


def test_pretrained_files_that_do_not_fit_are_refused(imagenet_like: dict[str, Tensor], tmp_path: Path) -> None:
    model = R34UNet(in_channels=1, num_classes=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = dict(imagenet_like)
    del wrong["layer1.0.conv1.weight"]
    wrong["layer2.0.bn1.bias"] = torch.rand(7)
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(RefusedError) as caught:
        load_encoder_weights(model, str(tmp_path / "wrong.pth"))
    assert caught.value.problems == (
        "layer1.0.conv1.weight is missing",
        "layer2.0.bn1.bias has shape (7,), expected (128,)",
    )
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, message in (
        ("list.pth", "holds no state dict"),
        ("text.pth", "cannot be read"),
        ("text.safetensors", "cannot be read"),
        ("absent.pth", "no such file"),
    ):
        with pytest.raises(RefusedError, match=message):
            load_encoder_weights(model, str(tmp_path / name))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_unet_has_no_encoder_for_pretrained_weights() -> None:
    with pytest.raises(RefusedError, match="UNet has no ResNet34 encoder"):
        load_encoder_weights(UNet(in_channels=1, num_classes=1), "imagenet")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty hub cache, and a web server on loopback for the folder that is returned."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()
    folder = functools.partial(_Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(pretrained_module, "IMAGENET_URL", f"http://127.0.0.1:{server.server_port}/resnet34.pth")
        yield served
        server.shutdown()
        thread.join()


def _serve(served: Path, content: bytes, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (served / f"resnet34-{digest}.pth").write_bytes(content)
    url = pretrained_module.IMAGENET_URL.replace("resnet34", f"resnet34-{digest}")
    monkeypatch.setattr(pretrained_module, "IMAGENET_URL", url)


def test_imagenet_comes_from_the_hub_once(
    hub: Path, imagenet_like: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(imagenet_like, tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    _serve(hub, content, hashlib.sha256(content).hexdigest()[:8], monkeypatch)
    for _ in range(2):
        model = R34UNet(in_channels=1, num_classes=1)
        load_encoder_weights(model, "imagenet")
        assert model.state_dict()["encoder.layer4.2.bn2.running_var"][0] == 2.5
        for file in hub.iterdir():
            file.unlink()  # the second time it comes from the cache


def test_a_damaged_download_is_refused(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(hub, b"half a file", "0123abcd", monkeypatch)
    with pytest.raises(RefusedError, match="is damaged"):
        load_encoder_weights(R34UNet(in_channels=1, num_classes=1), "imagenet")


def test_a_hub_that_is_not_there_says_what_to_do(hub: Path) -> None:
    with pytest.raises(UnreachableError, match="set pretrained to its path"):
        load_encoder_weights(R34UNet(in_channels=1, num_classes=1), "imagenet")


def test_released_weights_that_do_not_fit_are_refused() -> None:
    weights = to_released(UNet(in_channels=1, num_classes=1))
    del weights["Up5.up.1.bias"]
    weights["Conv3.conv.0.bias"] = torch.rand(3)
    weights["extra.weight"] = torch.rand(1)
    with pytest.raises(RefusedError) as caught:
        from_released(weights, architecture="unet")
    assert caught.value.problems == (
        "Up5.up.1.bias is missing",
        "extra.weight is not of this architecture",
        "Conv3.conv.0.bias has shape (3,), expected (128,)",
    )
    with pytest.raises(RefusedError, match=r"Conv1.0.weight is missing"):
        from_released(weights, architecture="r34_unet")


def test_from_released_arguments() -> None:
    weights = to_released(UDTransNet(in_channels=1, num_classes=1, num_layers=1, embed_dim=32))
    with pytest.raises(ValueError, match="udtransnet needs num_heads"):
        from_released(weights, architecture="udtransnet")
    with pytest.raises(ValueError, match="dra='both'"):
        from_released(weights, architecture="udtransnet", num_heads=1, dra="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="available: udtransnet, unet, r34_unet"):
        from_released(weights, architecture="vnet")


def test_to_released_refuses_what_was_never_released() -> None:
    with pytest.raises(ValueError, match="four equal ones"):
        to_released(UNet(in_channels=1, num_classes=1, skips=("none",) * 4))
    for settings in ({"attention": ("ssa", "cfa")}, {"mlp_ratio": 1}):
        model = UDTransNet(in_channels=1, num_classes=1, num_layers=1, embed_dim=16, **settings)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"the released code has .*cfa.*ssa.*1, 2, 3, 4.* and 2"):
            to_released(model)
    with pytest.raises(ValueError, match="a Linear was never released"):
        to_released(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"not parameters of this model: head\.weight"):
        to_released(UNet(in_channels=1, num_classes=1), {"head.weight": torch.rand(1)})
