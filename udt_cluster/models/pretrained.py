"""ImageNet weights for the ResNet34 encoder, from a file or from torch's hub."""

import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from udt_cluster.errors import RefusedError, UnreachableError
from udt_cluster.models.resnet import ResNet34Encoder

IMAGENET_URL = "https://download.pytorch.org/models/resnet34-b627a593.pth"  # torchvision's IMAGENET1K_V1
PROBE_SECONDS = 8.0


def load_encoder_weights(model: nn.Module, source: str) -> None:
    """Put ResNet34 weights into `layer1` .. `layer4` of the model's encoder, in place; the stem keeps its own.

    Args:
        model: A model whose `encoder` is a ResNet34Encoder.
        source: `imagenet` (torch's hub, or its cache), or the path of a `.pth` or `.safetensors` file with
            torchvision's names. Names that the encoder does not have (`conv1`, `bn1`, `fc`) are passed over.

    Raises:
        RefusedError: No such encoder, or a file that is missing, unreadable or of other shapes; all are listed.
        UnreachableError: The hub did not answer.
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ResNet34Encoder):
        raise RefusedError(
            f"pretrained={source!r}: {type(model).__name__} has no ResNet34 encoder; "
            "set pretrained to none, or take udtransnet or r34_unet"
        )
    weights = _download() if source == "imagenet" else _read(Path(source))
    wanted = {name: tensor for name, tensor in encoder.state_dict().items() if name.startswith("layer")}
    if problems := _misfits(weights, wanted):
        raise RefusedError(f"pretrained={source!r} does not hold the weights of a ResNet34", problems)
    encoder.load_state_dict({name: weights[name] for name in wanted if name in weights}, strict=False)


def _misfits(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What is missing or of another shape. Files from before torch 0.4.1 have no `num_batches_tracked`."""
    missing = [f"{name} is missing" for name in wanted if name not in weights and "num_batches" not in name]
    return missing + [
        f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RefusedError(f"pretrained={str(path)!r}: no such file; allowed: none, imagenet, the path of a file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise RefusedError(f"pretrained={str(path)!r} cannot be read as weights: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise RefusedError(f"pretrained={str(path)!r} holds no state dict (names and tensors); save model.state_dict()")
    return weights


def _download() -> dict[str, Tensor]:
    """The hub's file, probed first: torch's own download has no time-out for a host that never answers."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_URL.rpartition("/")[2]
    try:
        if not cached.is_file():
            probe = urllib.request.Request(IMAGENET_URL, method="HEAD")
            urllib.request.urlopen(probe, timeout=PROBE_SECONDS).close()
        return dict(
            torch.hub.load_state_dict_from_url(IMAGENET_URL, map_location="cpu", progress=False, check_hash=True)
        )
    except (urllib.error.URLError, OSError) as error:
        raise UnreachableError(
            f"pretrained='imagenet': {IMAGENET_URL} did not answer ({error}); download it elsewhere and "
            f"set pretrained to its path, or put it at {cached}"
        ) from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise RefusedError(
            f"pretrained='imagenet': the file of {IMAGENET_URL} is damaged ({error}); delete {cached}"
        ) from error
