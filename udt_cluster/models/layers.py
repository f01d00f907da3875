"""What all three architectures share: conv block, up stage, decoder, head, and the check of an input's size."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LEVELS = (1, 2, 3, 4)  # level 1 is full resolution; each further level halves it
STRIDE = 16  # of the deepest feature map, and so what both sides of an image must be a multiple of
HEAD_WIDTH = 16


class ConvBlock(nn.Sequential):
    """Twice (3x3 convolution with bias, batch norm, ReLU): (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UpStage(nn.Module):
    """One decoder level: upsample twofold, set the skip beside it, convolve.

    `skip` is a module called with (upsampled map, encoder feature, tokens) that returns `skip_channels` maps,
    or None for a level without a skip, whose conv block is then narrower by `skip_channels`.
    """

    def __init__(
        self, *, in_channels: int, up_channels: int, skip: nn.Module | None, skip_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(in_channels, up_channels, 2, stride=2),
            nn.BatchNorm2d(up_channels),
            nn.ReLU(inplace=True),
        )
        self.skip = skip
        self.conv = ConvBlock(up_channels + (0 if skip is None else skip_channels), out_channels)

    def forward(self, deeper: Tensor, feature: Tensor, tokens: Tensor | None = None) -> Tensor:
        """`deeper` (B, in, S/2, S/2), `feature` (B, C_e, S, S), `tokens` (B, N, E) -> (B, out, S, S)."""
        up = self.up(deeper)
        if self.skip is not None:
            up = torch.cat([self.skip(up, feature, tokens), up], dim=1)
        conv: Tensor = self.conv(up)
        return conv


class Decoder(nn.ModuleDict):
    """Up stages named `level4` .. `level1`, run from the deepest."""

    def __init__(self, stages: Mapping[int, UpStage]) -> None:
        super().__init__({f"level{level}": stages[level] for level in sorted(stages, reverse=True)})

    def forward(self, features: Sequence[Tensor], tokens: Sequence[Tensor | None] = (None,) * len(LEVELS)) -> Tensor:
        """`features` e1..e5, `tokens` of levels 1..4 -> the last map, at full resolution."""
        decoded = features[-1]
        for level in reversed(LEVELS):
            decoded = self[f"level{level}"](decoded, features[level - 1], tokens[level - 1])
        return decoded


def segmentation_head(in_channels: int, num_classes: int) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU, 1x1 convolution: (B, in, H, W) -> logits (B, num_classes, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, HEAD_WIDTH, 1),
        nn.BatchNorm2d(HEAD_WIDTH),
        nn.ReLU(inplace=True),
        nn.Conv2d(HEAD_WIDTH, num_classes, 1),
    )


def check_counts(*, in_channels: int, num_classes: int) -> None:
    """Refuse a network without input or output maps."""
    if in_channels < 1 or num_classes < 1:
        raise ValueError(f"in_channels={in_channels}, num_classes={num_classes}: both must be 1 or more")


def check_input(images: Tensor, *, in_channels: int) -> None:
    """Refuse anything but (B, in_channels, H, W) with H and W multiples of 16."""
    if images.dim() != 4 or images.shape[1] != in_channels:
        raise ValueError(f"input has shape {tuple(images.shape)}; allowed: (batch, {in_channels}, height, width)")
    height, width = images.shape[2:]
    if height % STRIDE or width % STRIDE:
        raise ValueError(
            f"input is {height}x{width}; both sides must be multiples of {STRIDE}: "
            f"resize or pad it to {-(-height // STRIDE) * STRIDE}x{-(-width // STRIDE) * STRIDE}"
        )


class PatchConv2d(nn.Conv2d):
    """Convolution with kernel = stride, a linear map of patches: (B, in, h*patch, w*patch) -> (B, out, h, w).

    Large patches in training on the CPU go through a matrix product, 1.6 times as fast there as the convolution and its
    gradients; the rearranged input is made again in the backward pass instead of kept.
    """

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__(in_channels, out_channels, patch, stride=patch)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """The patches' vectors, on their grid."""
        if self.patch < 16 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        vectors: Tensor = checkpoint(self._product, x, use_reentrant=False, preserve_rng_state=False)
        return vectors.permute(0, 3, 1, 2)

    def _product(self, x: Tensor) -> Tensor:
        rows = torch.unflatten(torch.unflatten(x, 3, (-1, self.patch)), 2, (-1, self.patch))  # (B, C, h, p, w, p)
        return F.linear(rows.permute(0, 2, 4, 1, 3, 5).flatten(3), self.weight.flatten(1), self.bias)
