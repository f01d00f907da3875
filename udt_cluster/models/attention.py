"""Attention under InstanceNorm, and the parts of UDTransNet's transformer made of it (arXiv 2312.15182, section 3).

Letters in shapes: B images, S scales, N tokens of one scale, E token width, H heads, d = E / H. How the parts are put
together is written in :mod:`udt_cluster.models.dat`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udt_cluster.models.dropout import Dropout
from udt_cluster.models.tiled import tiled_attention

HeadMerge = Literal["standard", "released"]
MAP_NORM_EPS = 1e-5
TOKEN_NORM_EPS = 1e-6
MLP_BIAS_STD = 1e-6


def _unrounded(device: str) -> AbstractContextManager[object]:
    """Without autocast, which the meta device, where costs are counted, does not have at all."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def _logit_factors(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys whose product is IN(q k^T) up to a constant per row: q (B, H, G, n, d), k (B, H, m, d).

    The scale of InstanceNorm comes without the map: the map's variance is the mean square of q (k - mean k)^T, which is
    a product of two d x d Gram matrices, plus the variance of q (mean k)^T over its rows. Both are sums of squares, so
    nothing cancels. Computed in float32 at least, under autocast too -> (B, H, G*n, d), (B, H, m, d).
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    with _unrounded(q.device.type):
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


def attention_map(q: Tensor, k: Tensor) -> Tensor:
    """softmax(IN(q k^T)), the map that `normalised_attention` multiplies with v and never makes; for looking at.

    q (B, H, G, n, d), k (B, H, m, d) -> (B, H, G, n, m), whose rows sum to 1.
    """
    queries, keys = _logit_factors(q, k)
    return torch.unflatten((queries @ keys.mT).softmax(-1), 2, q.shape[2:4])


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


def side_by_side(tokens: Tensor) -> Tensor:
    """[T_1 | .. | T_S], the scales' tokens joined on channels: (S, B, N, E) -> (B, N, S*E)."""
    return tokens.permute(1, 2, 0, 3).flatten(2)


def end_to_end(tokens: Tensor) -> Tensor:
    """[T_1 ; .. ; T_S], the scales' tokens joined on the token axis: (S, B, N, E) -> (B, S*N, E)."""
    return tokens.transpose(0, 1).flatten(1, 2)


class ChannelFusion(nn.Module):
    """CFA: the channels of all scales attend to each other, under one head and without an output projection.

    With `own_source` keys and values come from what asks, by one fused product; else they are asked of `source`.
    """

    def __init__(self, *, scales: int, embed_dim: int, own_source: bool, dropout: float) -> None:
        super().__init__()
        width = scales * embed_dim
        self.scales = scales
        self.qkv = fused_linear(width, width, products=3) if own_source else None
        self.query = None if own_source else fused_linear(width, width, products=1)
        self.key_value = None if own_source else fused_linear(width, width, products=2)
        self.dropout = Dropout(dropout)

    def forward(self, fused: Tensor, source: Tensor | None = None) -> Tensor:
        """`fused` and `source`, if it has one, (B, N, S*E) -> what each scale's channels became, (S, B, N, E)."""
        q, k, v = self._query_key_value(fused, source)
        channels = normalised_attention(q.unsqueeze(2), k, v, dropout=self.dropout.active_rate).flatten(0, 2)
        return torch.unflatten(channels, 1, (self.scales, -1)).permute(1, 0, 3, 2)

    def attention(self, fused: Tensor, source: Tensor | None = None) -> Tensor:
        """Which channel (rows) takes how much of which (columns): `forward`'s arguments -> (B, S*E, S*E)."""
        q, k, _ = self._query_key_value(fused, source)
        return attention_map(q.unsqueeze(2), k).flatten(0, 2)

    def _query_key_value(self, fused: Tensor, source: Tensor | None) -> tuple[Tensor, ...]:
        """Each (B, 1, S*E, N)."""
        return tuple(part.mT.unsqueeze(1) for part in self._products(fused, source))

    def _products(self, fused: Tensor, source: Tensor | None) -> tuple[Tensor, ...]:
        if self.qkv is not None:
            return torch.chunk(self.qkv(fused), 3, dim=-1)
        assert self.query is not None
        assert self.key_value is not None
        return self.query(fused), *torch.chunk(self.key_value(source), 2, dim=-1)


class SpatialSelection(nn.Module):
    """SSA: the tokens of each of `scales` select from tokens of all scales.

    `scales` are numbers from 1. `head_merge="released"` repeats what the published weights were trained with: for every
    scale but the first, the memory of (B, H, N, d) is read as (B, N, E), so tokens get mixed. With one head both merges
    agree.
    """

    def __init__(
        self, *, scales: Sequence[int], embed_dim: int, num_heads: int, head_merge: HeadMerge, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.well_merged = len(scales) if head_merge == "standard" else scales.count(1)
        self.query = ScaleLinear(len(scales), embed_dim, embed_dim, bias=False)
        self.key_value = fused_linear(embed_dim, embed_dim, products=2)
        self.output = ScaleLinear(len(scales), embed_dim, embed_dim, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """`tokens` (S, B, N, E), `source` (B, M, E) -> (S, B, N, E)."""
        q, k, v = self._query_key_value(tokens, source)
        selected = normalised_attention(q, k, v, dropout=self.dropout.active_rate)
        out: Tensor = self.output(self._merge(selected.permute(2, 0, 1, 3, 4)))
        return out

    def attention(self, tokens: Tensor, source: Tensor) -> Tensor:
        """How much each token takes of each of the source: `forward`'s arguments -> (B, H, S, N, M)."""
        q, k, _ = self._query_key_value(tokens, source)
        return attention_map(q, k)

    def _query_key_value(self, tokens: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, S, N, d), (B, H, M, d), (B, H, M, d)."""
        heads = (self.num_heads, -1)
        q = torch.unflatten(self.query(tokens), -1, heads).permute(1, 3, 0, 2, 4).contiguous()
        k, v = (torch.unflatten(part, -1, heads).transpose(1, 2) for part in self.key_value(source).chunk(2, dim=-1))
        return q, k, v

    def _merge(self, selected: Tensor) -> Tensor:
        """(S, B, H, N, d) -> (S, B, N, E)."""
        good, scrambled = selected[: self.well_merged], selected[self.well_merged :]
        merged = good.transpose(2, 3).flatten(3)
        if len(scrambled) == 0:
            return merged
        return torch.cat([merged, scrambled.reshape(len(scrambled), *merged.shape[1:])])


class ScaleMLP(nn.Sequential):
    """E -> ratio * E, GELU, -> E for each scale, dropout after each linear map."""

    def __init__(self, scales: int, width: int, *, ratio: int, dropout: float) -> None:
        super().__init__()
        self.hidden = ScaleLinear(scales, width, ratio * width, bias=True)
        self.activation = nn.GELU()
        self.hidden_dropout = Dropout(dropout)
        self.output = ScaleLinear(scales, ratio * width, width, bias=True)
        self.output_dropout = Dropout(dropout)
