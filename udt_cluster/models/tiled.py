"""Softmax attention with dropout on the CPU, tile by tile: no map is kept, and a tile's passes stay in the cache."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from udt_cluster.models.dropout import dropout_mask

TILE = 2**18  # elements of the map at a time: 1 MiB in float32


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout: float) -> Tensor:
    """dropout(softmax(q k^T)) v: q (B, H, n, d), k (B, H, m, d), v (B, H, m, d) -> (B, H, n, d).

    The backward pass computes the map again under the mask of the forward pass: a byte an element is kept of it.
    """
    keep, kept = dropout_mask((q.shape[0] * q.shape[1], q.shape[2], k.shape[2]), dropout)
    with torch.autocast(q.device.type, enabled=False):
        flat = (q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1) / kept, keep)
        out: Tensor = TiledAttention.apply(*flat)  # type: ignore[no-untyped-call]
        return torch.unflatten(out, 0, q.shape[:2])


class TiledAttention(torch.autograd.Function):
    """(softmax(q k^T) * keep) v: q (P, n, d), k (P, m, d), v (P, m, d), keep (P, n, m) -> (P, n, d)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:  # noqa: D102
        ctx.save_for_backward(q, k, v, keep)
        out = torch.empty_like(q)
        for maps, rows in _tiles(keep):
            attention = torch.softmax(q[maps, rows] @ k[maps].mT, dim=-1)
            out[maps, rows] = attention.mul_(keep[maps, rows]) @ v[maps]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: D102
        q, k, v, keep = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for maps, rows in _tiles(keep):
            attention = torch.softmax(q[maps, rows] @ k[maps].mT, dim=-1)
            dropped = attention * keep[maps, rows]
            dv[maps] += dropped.mT @ grad[maps, rows]
            dlogits = (grad[maps, rows] @ v[maps].mT).mul_(dropped)
            dlogits.addcmul_(attention, dlogits.sum(-1, keepdim=True), value=-1)
            dq[maps, rows] = dlogits @ k[maps]
            dk[maps] += dlogits.mT @ q[maps, rows]
        return dq, dk, dv, None


def _tiles(keep: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of maps and of rows that cut the maps (P, n, m) into pieces of about TILE elements."""
    count, height, width = keep.shape
    maps, rows = max(1, TILE // (height * width)), max(1, TILE // width)
    for first in range(0, count, maps):
        for top in range(0, height, rows):
            yield slice(first, first + maps), slice(top, top + rows)
