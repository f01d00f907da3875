"""The dual attention transformer (DAT) of UDTransNet (arXiv 2312.15182, section 3), whole or in parts.

Letters in shapes: B images, S scales, N tokens of one scale, E token width, M tokens that are selected from.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from udt_cluster.models.attention import (
    TOKEN_NORM_EPS,
    ChannelFusion,
    HeadMerge,
    ScaleMLP,
    ScaleNorm,
    SpatialSelection,
    end_to_end,
    side_by_side,
)
from udt_cluster.models.dropout import Dropout
from udt_cluster.models.layers import PatchConv2d

Attention = Literal["cfa", "ssa"]
BOTH: tuple[Attention, ...] = ("cfa", "ssa")


class DATBlock(nn.Module):
    """One pre-norm block: the attentions in their order with one residual after the last, then an MLP.

    T_i are the tokens of scale i of n, N x E; [a|b] joins channels, [a;b] joins tokens; IN is InstanceNorm of a map.

        CFA(c, m):  F = (softmax(IN((c W_q)^T m W_k)) (m W_v)^T)^T,  N x nE, cut on channels into F_1 .. F_n
        SSA(x, s):  Z_i = merge(softmax(IN(x_i W_i^Q (s W^K)^T)) s W^V) W_i^O,  each head with a map of its own
        c = LN_nE([T_1|..|T_n]),  x_i = LN_i(T_i)

    Queries come from the normalised tokens; keys and values from the attention before, or else from the tokens too:

        cfa, ssa (the paper's):  R = SSA(x, [F_1;..;F_n])  of  F = CFA(c, c)
        cfa:                     R = CFA(c, c)
        ssa:                     R = SSA(x, [x_1;..;x_n])
        ssa, cfa:                R = CFA(c, [Z_1|..|Z_n])  of  Z = SSA(x, [x_1;..;x_n])

        T_i <- T_i + dropout(R_i);  T_i <- T_i + MLP_i(LN(T_i))

    Args:
        scales: The numbers of the scales that come in, from 1.
        updated: Those that go out; what the others would need is not built.
        attention: `cfa`, `ssa` or both, in the order in which they run.
        embed_dim: E.
        num_heads: Heads of SSA.
        head_merge: How SSA puts its heads together.
        mlp_ratio: Hidden width of the MLPs, in E.
        dropout: Rate on attention maps, the residual and in the MLPs.
    """

    def __init__(
        self,
        *,
        scales: Sequence[int],
        updated: Sequence[int],
        attention: Sequence[Attention],
        embed_dim: int,
        num_heads: int,
        head_merge: HeadMerge,
        mlp_ratio: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = tuple(attention)
        self.updated = None if len(updated) == len(scales) else tuple(scales.index(scale) for scale in updated)
        if "cfa" in attention:
            self.fusion_norm = nn.LayerNorm(len(scales) * embed_dim, eps=TOKEN_NORM_EPS)
            self.cfa = ChannelFusion(
                scales=len(scales), embed_dim=embed_dim, own_source=attention[0] == "cfa", dropout=dropout
            )
        if "ssa" in attention:
            self.query_norm = ScaleNorm(len(updated if attention[0] == "cfa" else scales), embed_dim)
            self.ssa = SpatialSelection(
                scales=updated if attention[-1] == "ssa" else scales,
                embed_dim=embed_dim,
                num_heads=num_heads,
                head_merge=head_merge,
                dropout=dropout,
            )
        self.dropout = Dropout(dropout)
        self.mlp_norm = ScaleNorm(len(updated), embed_dim)
        self.mlp = ScaleMLP(len(updated), embed_dim, ratio=mlp_ratio, dropout=dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(S, B, N, E) -> (updated, B, N, E)."""
        before: Tensor | None = None
        for name in self.attention:
            before = self._fused(tokens, before) if name == "cfa" else self._selected(tokens, before)
        assert before is not None
        residual = self._of_updated(before) if self.attention[-1] == "cfa" else before
        tokens = self._of_updated(tokens) + self.dropout(residual)
        out: Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return out

    def _fused(self, tokens: Tensor, before: Tensor | None) -> Tensor:
        """CFA of all scales: (S, B, N, E), and SSA's output where it ran before -> (S, B, N, E)."""
        fused = self.fusion_norm(side_by_side(tokens))
        out: Tensor = self.cfa(fused) if before is None else self.cfa(fused, side_by_side(before))
        return out

    def _selected(self, tokens: Tensor, before: Tensor | None) -> Tensor:
        """SSA: of the updated scales (updated, B, N, E) where it runs last, else of all, which CFA needs."""
        if before is not None:
            out: Tensor = self.ssa(self.query_norm(self._of_updated(tokens)), end_to_end(before))
            return out
        tokens = self.query_norm(tokens)
        asking = self._of_updated(tokens) if self.attention[-1] == "ssa" else tokens
        out = self.ssa(asking, end_to_end(tokens))
        return out

    def _of_updated(self, tokens: Tensor) -> Tensor:
        """(S, B, N, E) -> (updated, B, N, E)."""
        return tokens if self.updated is None else torch.stack([tokens[index] for index in self.updated])


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
    """Dual attention transformer over the tokens of `scales`, read by the scales in `readers` alone.

    Every scale is embedded and gives keys and values in every block. In the last block only the readers are updated,
    and only they have a final norm: what nobody reads has no parameters, so every parameter gets a gradient.

    Args:
        channels: Of the feature map of each scale.
        patches: Pixels per token and side of each scale.
        scales: Their numbers, ascending from 1.
        readers: Those whose tokens are read, ascending.
        grid: Tokens (height, width) for which positions are learned.
        attention, embed_dim, num_heads, head_merge, mlp_ratio, dropout: As of DATBlock.
        num_layers: Blocks.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        patches: Sequence[int],
        scales: Sequence[int],
        readers: Sequence[int],
        attention: Sequence[Attention] = BOTH,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        grid: tuple[int, int],
        head_merge: HeadMerge,
        mlp_ratio: int = 2,
        dropout: float,
    ) -> None:
        super().__init__()
        check_attention(
            attention=attention,
            embed_dim=embed_dim,
            num_heads=num_heads,
            num_layers=num_layers,
            head_merge=head_merge,
            mlp_ratio=mlp_ratio,
        )
        self.embeddings = nn.ModuleList(
            PatchEmbedding(channels=width, patch=patch, embed_dim=embed_dim, grid=grid)
            for width, patch in zip(channels, patches, strict=True)
        )
        self.blocks = nn.Sequential(
            *(
                DATBlock(
                    scales=scales,
                    updated=scales if index < num_layers - 1 else readers,
                    attention=attention,
                    embed_dim=embed_dim,
                    num_heads=num_heads,
                    head_merge=head_merge,
                    mlp_ratio=mlp_ratio,
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


def check_attention(
    *,
    attention: Sequence[str],
    embed_dim: int,
    num_heads: int,
    num_layers: int,
    head_merge: str,
    mlp_ratio: int,
) -> None:
    """Refuse what no transformer can have."""
    if num_heads < 1 or num_layers < 1 or embed_dim < 1 or mlp_ratio < 1 or embed_dim % num_heads:
        raise ValueError(
            f"num_heads={num_heads}, num_layers={num_layers}, embed_dim={embed_dim}, mlp_ratio={mlp_ratio}: "
            "all must be 1 or more, and num_heads must divide embed_dim"
        )
    if head_merge not in get_args(HeadMerge):
        raise ValueError(f"head_merge={head_merge!r}; allowed: {', '.join(get_args(HeadMerge))}")
    if not attention or len(set(attention)) < len(attention) or not set(attention) <= set(BOTH):
        raise ValueError(f"attention={list(attention)}; allowed: cfa, ssa or both, in the order in which they run")
