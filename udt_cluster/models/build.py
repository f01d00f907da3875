"""From the job's `model` section to a network: the only place of this package that reads the configuration."""

from collections.abc import Callable, Mapping

from torch import nn

from udt_cluster.config.job import ModelConfig
from udt_cluster.models.pretrained import load_encoder_weights
from udt_cluster.models.udtransnet import UDTransNet
from udt_cluster.models.unet import R34UNet, UNet


def _udtransnet(config: ModelConfig, *, in_channels: int, num_classes: int) -> nn.Module:
    return UDTransNet(
        in_channels=in_channels,
        num_classes=num_classes,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        embed_dim=config.embed_dim,
        skips=config.skip_kinds,
        scales=config.scales,
        attention=config.attention,
        mlp_ratio=config.mlp_ratio,
        head_merge=config.head_merge,
        dropout=config.dropout,
    )


def _unet(config: ModelConfig, *, in_channels: int, num_classes: int) -> nn.Module:
    return UNet(in_channels=in_channels, num_classes=num_classes, skips=config.skip_kinds)


def _r34_unet(config: ModelConfig, *, in_channels: int, num_classes: int) -> nn.Module:
    return R34UNet(in_channels=in_channels, num_classes=num_classes, skips=config.skip_kinds)


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "udtransnet": _udtransnet,
    "unet": _unet,
    "r34_unet": _r34_unet,
}


def build_model(config: ModelConfig, *, in_channels: int, num_classes: int) -> nn.Module:
    """The network that the `model` section of a job describes: (B, in_channels, H, W) -> logits (B, num_classes, H, W).

    Args:
        config: The `model` section.
        in_channels: Channels of the data set's samples.
        num_classes: 1 for binary (one logit map), else the number of classes, background included.

    Raises:
        ValueError: An unknown architecture or a size that cannot be built, naming what is allowed.
        RefusedError: Pretrained weights that do not fit.
        UnreachableError: Pretrained weights that cannot be fetched.
    """
    if config.architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={config.architecture!r}; available: {', '.join(ARCHITECTURES)}")
    model = ARCHITECTURES[config.architecture](config, in_channels=in_channels, num_classes=num_classes)
    if config.pretrained != "none":
        load_encoder_weights(model, config.pretrained)
    return model


def output_channels(num_classes: int) -> int:
    """Channels of the logits for `num_classes` classes, the background counted: one sigmoid for two, else a softmax."""
    return 1 if num_classes == 2 else num_classes
