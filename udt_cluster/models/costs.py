"""What a network takes, found without building it: parameters, and multiply-accumulates of one image."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from udt_cluster.config.job import ModelConfig
from udt_cluster.models.build import build_model


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network takes.

    Attributes:
        parameters: Trainable numbers.
        macs: Multiply-accumulates of convolutions and matrix products for the prediction of one image. A training step
            takes about three times as many for each image.
    """

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations for the prediction of one image: two for each multiply-accumulate."""
        return 2 * self.macs

    def __str__(self) -> str:
        operations = f"{self.macs / 1e9:.2f} GMAC ({self.flops / 1e9:.1f} GFLOP)"
        return f"{self.parameters / 1e6:.2f} M parameters, {operations} an image"


def cost(config: ModelConfig, *, in_channels: int, num_classes: int, size: tuple[int, int]) -> Cost:
    """What the network of the `model` section takes; a fraction of a second, no memory, and no weights are read.

    Args:
        config: The `model` section.
        in_channels: Channels of the network's input.
        num_classes: Channels of its logits: 1 for binary, else the number of classes, background included.
        size: (height, width) of an image in pixels, multiples of 16.

    Raises:
        ValueError: A size or a network that cannot be built.
    """
    untrained = config.model_copy(update={"pretrained": "none"})
    with torch.device("meta"):
        model = build_model(untrained, in_channels=in_channels, num_classes=num_classes).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, in_channels, *size, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(parameters=parameters, macs=counter.get_total_flops() // 2)
