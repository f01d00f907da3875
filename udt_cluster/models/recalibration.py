"""The skips built from tokens: decoder-guided recalibration attention (DRA) of UDTransNet, and what is left without it.

arXiv 2312.15182, section 3.

Letters in shapes: B images, N tokens on a grid of h x w, E token width, p pixels of this level per token and side.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udt_cluster.models.attention import attention_map, normalised_attention
from udt_cluster.models.layers import PatchConv2d

DRAKind = Literal["channel", "spatial"]


class DRA(nn.Module):
    """A skip of `skip_channels` maps: the tokens, recalibrated by the decoder's map and gated by it.

    `kind="channel"` attends between skip channels (DRA-C), `"spatial"` between tokens (DRA-S); the parameters are
    the same. The 1x1 convolution, batch norm and ReLU run on the patch grid instead of on its nearest upsampling, and
    the gate is applied by a broadcast product: the same numbers and gradients from 1/p^2 of the pixels.
    """

    def __init__(self, *, kind: DRAKind, decoder_channels: int, skip_channels: int, embed_dim: int, patch: int) -> None:
        super().__init__()
        self.kind = kind
        self.pixels_per_side = patch
        self.gate = nn.Sequential(
            nn.Conv2d(decoder_channels, skip_channels, 1), nn.BatchNorm2d(skip_channels), nn.ReLU(inplace=True)
        )
        self.patch = PatchConv2d(decoder_channels, decoder_channels, patch)
        self.query = nn.Linear(decoder_channels, skip_channels, bias=False)
        self.key_value = nn.Linear(embed_dim, 2 * skip_channels, bias=False)
        self.output = nn.Linear(skip_channels, skip_channels, bias=False)
        self.reconstruct = nn.Conv2d(skip_channels, skip_channels, 1)
        self.reconstruct_norm = nn.BatchNorm2d(skip_channels)

    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor) -> Tensor:
        """`up` (B, C_u, h*p, w*p), `tokens` (B, h*w, E) -> (B, C_s, h*p, w*p). The encoder's `feature` is not used."""
        patches = self.patch(up)
        recalibrated = self._attend(patches.flatten(2).mT, tokens)
        grid = torch.unflatten(recalibrated.mT, 2, patches.shape[2:])
        grid = repeated_batch_norm(self.reconstruct_norm, self.reconstruct(grid), repeats=self.pixels_per_side**2)
        return gate_by_patch(self.gate(up), grid.relu(), pixels_per_side=self.pixels_per_side)

    def _attend(self, decoder: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, C_u), (B, N, E) -> (B, N, C_s)."""
        q, k, v = self._query_key_value(decoder, tokens)
        attended = normalised_attention(q.unsqueeze(2), k, v).flatten(0, 2)
        out: Tensor = self.output(attended.mT if self.kind == "channel" else attended)
        return out

    def attention(self, up: Tensor, feature: Tensor, tokens: Tensor) -> Tensor:
        """How much each skip channel (DRA-C) or place (DRA-S) takes of each: `forward`'s arguments -> (B, n, n)."""
        q, k, _ = self._query_key_value(self.patch(up).flatten(2).mT, tokens)
        return attention_map(q.unsqueeze(2), k).flatten(0, 2)

    def _query_key_value(self, decoder: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Each (B, 1, C_s, N) for channels, (B, 1, N, C_s) for places."""
        parts = (self.query(decoder), *self.key_value(tokens).chunk(2, dim=-1))
        return tuple((part.mT if self.kind == "channel" else part).unsqueeze(1) for part in parts)


class TokenSkip(nn.Module):
    """A skip of `skip_channels` maps: the tokens o (N, E) of this level's scale as they are, whatever the decoder has.

    skip = up_p(ReLU(BN(grid(o) W + b))): a 1x1 convolution E -> C_s on the patch grid, batch norm as over the pixels of
    the nearest upsampling up_p, which comes last. It is DRA without its attention, which would have asked the tokens
    with the decoder's map, and without its gate.
    """

    def __init__(self, *, skip_channels: int, embed_dim: int, patch: int) -> None:
        super().__init__()
        self.pixels_per_side = patch
        self.reconstruct = nn.Conv2d(embed_dim, skip_channels, 1)
        self.reconstruct_norm = nn.BatchNorm2d(skip_channels)

    def forward(self, up: Tensor, feature: Tensor, tokens: Tensor) -> Tensor:
        """`tokens` (B, h*w, E) -> (B, C_s, h*p, w*p), the size of `up`. The encoder's `feature` is not used."""
        sides = [side // self.pixels_per_side for side in up.shape[2:]]
        grid = self.reconstruct(torch.unflatten(tokens.mT, 2, sides))
        grid = repeated_batch_norm(self.reconstruct_norm, grid, repeats=self.pixels_per_side**2)
        return F.interpolate(grid.relu(), scale_factor=self.pixels_per_side, mode="nearest")


def gate_by_patch(gate: Tensor, grid: Tensor, *, pixels_per_side: int) -> Tensor:
    """`gate` (B, C, h*p, w*p) times the nearest upsampling of `grid` (B, C, h, w), which is never made."""
    columns = torch.unflatten(gate, 3, (-1, pixels_per_side))
    patches = torch.unflatten(columns, 2, (-1, pixels_per_side))  # (B, C, h, p, w, p)
    return (patches * grid[:, :, :, None, :, None]).flatten(4, 5).flatten(2, 3)


def repeated_batch_norm(norm: nn.Module, grid: Tensor, *, repeats: int) -> Tensor:
    """Batch norm of `grid` as if every pixel of it stood there `repeats` times.

    Repetition leaves batch mean and variance alone; only the unbiased variance that goes into `running_var` has another
    Bessel factor. It is corrected here (with the local batch: under SyncBatchNorm the factor differs by order 1/n^2).
    """
    if not norm.training:
        return norm(grid)  # type: ignore[no-any-return]
    assert isinstance(norm.running_var, Tensor)
    assert isinstance(norm.momentum, float)
    kept = (1 - norm.momentum) * norm.running_var
    out: Tensor = norm(grid)
    count = grid.numel() // grid.shape[1]
    bessel = (count - 1) * repeats / (count * repeats - 1)
    # Through `.data`: the backward pass holds running_var, without reading it in train mode.
    norm.running_var.data.copy_(torch.lerp(kept, norm.running_var, bessel))
    return out
