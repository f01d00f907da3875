"""Attention under InstanceNorm, and the dual attention transformer (DAT) of UDTransNet (arXiv 2312.15182, section 3).

Letters in shapes: B images, S scales (4), N tokens of one scale, E token width, H heads, d = E / H.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udt_cluster.models.dropout import Dropout
from udt_cluster.models.layers import PatchConv2d
from udt_cluster.models.tiled import tiled_attention

HeadMerge = Literal["standard", "released"]
MAP_NORM_EPS = 1e-5
TOKEN_NORM_EPS = 1e-6
MLP_BIAS_STD = 1e-6


def _logit_factors(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys whose product is IN(q k^T) up to a constant per row: q (B, H, G, n, d), k (B, H, m, d).

    The scale of InstanceNorm comes without the map: the map's variance is the mean square of q (k - mean k)^T, which is
    a product of two d x d Gram matrices, plus the variance of q (mean k)^T over its rows. Both are sums of squares, so
    nothing cancels. Computed in float32 at least, under autocast too -> (B, H, G*n, d), (B, H, m, d).
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.to(wide), k.unsqueeze(2).to(wide)
        k_mean = k.mean(-2, keepdim=True)
        k = k - k_mean
        within = ((q.mT @ q) * (k.mT @ k)).sum((-2, -1), keepdim=True) / (q.shape[-2] * k.shape[-2])
        between = (q @ k_mean.mT).var(-2, keepdim=True, correction=0)
        q = q * torch.rsqrt(within + between + MAP_NORM_EPS)
        return q.flatten(2, 3), k.squeeze(2)


def normalised_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0) -> Tensor:
    """dropout(softmax(IN(q k^T))) v, exactly, without keeping the map.

    q (B, H, G, n, d): G groups of queries, each with a map of its own; k (B, H, m, d) and v (B, H, m, d) are shared by
    the groups -> (B, H, G, n, d). Softmax drops whatever is constant along a row, so of InstanceNorm (eps 1e-5, no
    affine, per sample, head and group) only the scale is left, and keys may be centred. Torch's kernel keeps the map
    where there is dropout on the CPU; TiledAttention does not.
    """
    queries, keys = _logit_factors(q, k)
    if dropout > 0.0 and q.device.type == "cpu" and torch.is_grad_enabled():
        attended = tiled_attention(queries, keys, v.to(keys.dtype), dropout=dropout).to(v.dtype)
    else:
        queries, keys = queries.to(v.dtype), keys.to(v.dtype)
        attended = F.scaled_dot_product_attention(queries, keys, v, dropout_p=dropout, scale=1.0)
    return torch.unflatten(attended, 2, q.shape[2:4])


class ScaleNorm(nn.Module):
    """A LayerNorm for each scale: (S, B, N, E) -> the same."""

    def __init__(self, scales: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(scales, width))
        self.bias = nn.Parameter(torch.zeros(scales, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise over E, then the affine map of each scale."""
        normalised = F.layer_norm(tokens, tokens.shape[-1:], eps=TOKEN_NORM_EPS)
        return torch.addcmul(self.bias[:, None, None], normalised, self.weight[:, None, None])


class ScaleLinear(nn.Module):
    """A linear map for each scale, as one batched product: (S, B, N, in) -> (S, B, N, out). Xavier-uniform."""

    def __init__(self, scales: int, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(scales, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(scales, out_features)) if bias else None
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)
        if self.bias is not None:
            nn.init.normal_(self.bias, std=MLP_BIAS_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        """Each scale's tokens through its own weights."""
        flat, weight = tokens.flatten(1, 2), self.weight.mT
        out = torch.bmm(flat, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], flat, weight)
        return torch.unflatten(out, 1, tokens.shape[1:3])


def fused_linear(in_features: int, out_features: int, *, products: int) -> nn.Linear:
    """`products` xavier-uniform linear maps of one input, without bias, as one: the outputs lie side by side."""
    linear = nn.Linear(in_features, products * out_features, bias=False)
    for weight in linear.weight.chunk(products):
        nn.init.xavier_uniform_(weight)
    return linear


class ChannelFusion(nn.Module):
    """CFA: channels of all scales attend to each other; the result feeds keys and values of SpatialSelection."""

    def __init__(self, *, scales: int, embed_dim: int, dropout: float) -> None:
        super().__init__()
        self.scales = scales
        self.qkv = fused_linear(scales * embed_dim, scales * embed_dim, products=3)
        self.dropout = Dropout(dropout)

    def forward(self, fused: Tensor) -> Tensor:
        """(B, N, S*E) -> (B, S*N, E): the scales' channel chunks stacked on the token axis."""
        q, k, v = self.qkv(fused).mT.unsqueeze(1).chunk(3, dim=2)  # each (B, 1, S*E, N)
        channels = normalised_attention(q.unsqueeze(2), k, v, dropout=self.dropout.active_rate).flatten(0, 2)
        return torch.unflatten(channels, 1, (self.scales, -1)).mT.flatten(1, 2)


class SpatialSelection(nn.Module):
    """SSA: the tokens of each scale in `scales` select from the tokens that ChannelFusion made of all scales.

    `head_merge="released"` repeats what the published weights were trained with: for every scale but the first, the
    memory of (B, H, N, d) is read as (B, N, E), so tokens get mixed. With one head both merges agree.
    """

    def __init__(
        self, *, scales: Sequence[int], embed_dim: int, num_heads: int, head_merge: HeadMerge, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.well_merged = len(scales) if head_merge == "standard" else sum(scale == 0 for scale in scales)
        self.query = ScaleLinear(len(scales), embed_dim, embed_dim, bias=False)
        self.key_value = fused_linear(embed_dim, embed_dim, products=2)
        self.output = ScaleLinear(len(scales), embed_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """`tokens` (S, B, N, E), `source` (B, 4N, E) -> (S, B, N, E)."""
        heads = (self.num_heads, -1)
        q = torch.unflatten(self.query(tokens), -1, heads).permute(1, 3, 0, 2, 4).contiguous()  # (B, H, S, N, d)
        k, v = (torch.unflatten(part, -1, heads).transpose(1, 2) for part in self.key_value(source).chunk(2, dim=-1))
        selected = normalised_attention(q, k, v, dropout=self.dropout.active_rate)
        out: Tensor = self.output(self._merge(selected.permute(2, 0, 1, 3, 4)))
        return out

    def _merge(self, selected: Tensor) -> Tensor:
        """(S, B, H, N, d) -> (S, B, N, E)."""
        good, scrambled = selected[: self.well_merged], selected[self.well_merged :]
        merged = good.transpose(2, 3).flatten(3)
        if len(scrambled) == 0:
            return merged
        return torch.cat([merged, scrambled.reshape(len(scrambled), *merged.shape[1:])])


class ScaleMLP(nn.Sequential):
    """E -> 2E, GELU, -> E for each scale, dropout after each linear map."""

    def __init__(self, scales: int, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = ScaleLinear(scales, width, 2 * width, bias=True)
        self.activation = nn.GELU()
        self.hidden_dropout = Dropout(dropout)
        self.output = ScaleLinear(scales, 2 * width, width, bias=True)
        self.output_dropout = Dropout(dropout)


class DATBlock(nn.Module):
    """One pre-norm block: CFA over all scales, then SSA and an MLP for the scales in `updated`."""

    def __init__(
        self,
        *,
        scales: int,
        updated: Sequence[int],
        embed_dim: int,
        num_heads: int,
        head_merge: HeadMerge,
        dropout: float,
    ) -> None:
        super().__init__()
        self.updated = None if len(updated) == scales else tuple(updated)
        self.fusion_norm = nn.LayerNorm(scales * embed_dim, eps=TOKEN_NORM_EPS)
        self.cfa = ChannelFusion(scales=scales, embed_dim=embed_dim, dropout=dropout)
        self.query_norm = ScaleNorm(len(updated), embed_dim)
        self.ssa = SpatialSelection(
            scales=updated, embed_dim=embed_dim, num_heads=num_heads, head_merge=head_merge, dropout=dropout
        )
        self.dropout = Dropout(dropout)
        self.mlp_norm = ScaleNorm(len(updated), embed_dim)
        self.mlp = ScaleMLP(len(updated), embed_dim, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(S, B, N, E) -> (updated, B, N, E)."""
        source = self.cfa(self.fusion_norm(tokens.permute(1, 2, 0, 3).flatten(2)))
        if self.updated is not None:
            tokens = torch.stack([tokens[scale] for scale in self.updated])
        tokens = tokens + self.dropout(self.ssa(self.query_norm(tokens), source))
        out: Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return out


class PatchEmbedding(nn.Module):
    """Patches of one feature map as tokens, plus a position learned on `grid` and interpolated to any other."""

    def __init__(self, *, channels: int, patch: int, embed_dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.patch = PatchConv2d(channels, embed_dim, patch)
        self.position = nn.Parameter(torch.zeros(1, grid[0] * grid[1], embed_dim))

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h*patch, w*patch) -> (B, h*w, E)."""
        patches = self.patch(feature)
        position = torch.unflatten(self.position.mT, 2, self.grid)
        position = F.interpolate(position, size=patches.shape[2:], mode="bilinear", align_corners=False)
        tokens: Tensor = (patches + position).flatten(2).mT
        return tokens


class DAT(nn.Module):
    """Dual attention transformer over the tokens of all encoder scales, read by the scales in `readers` alone.

    Every scale is embedded and gives keys and values in every block. In the last block only the readers are updated,
    and only they have a final norm: what nobody reads has no parameters, so every parameter gets a gradient.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        patches: Sequence[int],
        readers: Sequence[int],
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        grid: tuple[int, int],
        head_merge: HeadMerge,
        dropout: float,
    ) -> None:
        super().__init__()
        check_attention(embed_dim=embed_dim, num_heads=num_heads, num_layers=num_layers, head_merge=head_merge)
        everyone = tuple(range(len(channels)))
        self.embeddings = nn.ModuleList(
            PatchEmbedding(channels=width, patch=patch, embed_dim=embed_dim, grid=grid)
            for width, patch in zip(channels, patches, strict=True)
        )
        self.blocks = nn.Sequential(
            *(
                DATBlock(
                    scales=len(everyone),
                    updated=everyone if index < num_layers - 1 else readers,
                    embed_dim=embed_dim,
                    num_heads=num_heads,
                    head_merge=head_merge,
                    dropout=dropout,
                )
                for index in range(num_layers)
            )
        )
        self.norm = ScaleNorm(len(readers), embed_dim)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The encoder's features, one per scale -> the tokens (B, N, E) of each reader."""
        tokens = torch.stack([embed(feature) for embed, feature in zip(self.embeddings, features, strict=True)])
        out: tuple[Tensor, ...] = self.norm(self.blocks(tokens)).unbind()
        return out


def check_attention(*, embed_dim: int, num_heads: int, num_layers: int, head_merge: str) -> None:
    """Refuse sizes that no transformer can have."""
    if num_heads < 1 or num_layers < 1 or embed_dim < 1 or embed_dim % num_heads:
        raise ValueError(
            f"num_heads={num_heads}, num_layers={num_layers}, embed_dim={embed_dim}: "
            "all must be 1 or more, and num_heads must divide embed_dim"
        )
    if head_merge not in get_args(HeadMerge):
        raise ValueError(f"head_merge={head_merge!r}; allowed: {', '.join(get_args(HeadMerge))}")
