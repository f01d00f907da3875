"""Where the tokens of an object look: rows of SSA's and DRA-S's maps, on the grid of tokens.

Letters in shapes: H heads, N tokens on a grid of h x w, S scales whose tokens are asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from udt_cluster.evaluation.explain.network import Attention, Network
from udt_cluster.models import UDTransNet

Grid = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PlaceMap:
    """What the tokens of one place take from each token, mean over them.

    Attributes:
        kind: `ssa` or `dra_spatial`.
        block: Of the transformer, from 1; 0 for a DRA.
        level: Whose tokens ask: of the encoder's scale in SSA, of the decoder's level in DRA-S.
        head: From 1; None for the mean over heads, and for DRA-S, which has none.
        grid: (h, w), times the number of tokens: 1 is what each would get if attention made no choice.
        on_object: Share of the attention that falls on the place itself.
        object_share: Share of the tokens that are the place: what `on_object` would be without a choice.
        scales: Share of the attention for the tokens of each scale, by level; empty for DRA-S, which asks one.
    """

    kind: str
    block: int
    level: int
    head: int | None
    grid: Grid
    on_object: float
    object_share: float
    scales: dict[int, float]


def place_maps(
    network: Network, attentions: Sequence[Attention], place: Tensor, grid: tuple[int, int]
) -> list[PlaceMap]:
    """The maps of every SSA (the mean over heads first, then each) and every DRA-S.

    Args:
        network: That was asked.
        attentions: Of a pass of one image.
        place: (N,) bool, the tokens whose attention is wanted, at least one.
        grid: (h, w).
    """
    found: list[PlaceMap] = []
    for attention in attentions:
        if attention.kind == "ssa":
            found += _of_ssa(network, attention, place, grid)
        elif attention.kind == "dra_spatial":
            rows = attention.weights()[0, place].mean(0)
            found.append(_place_map(rows[None], place, grid, kind="dra_spatial", level=attention.place))
    return found


def _of_ssa(network: Network, attention: Attention, place: Tensor, grid: tuple[int, int]) -> Iterator[PlaceMap]:
    assert isinstance(network, UDTransNet)
    weights = attention.weights()[0][:, :, place].mean(2)  # (H, S, M)
    heads, asking, _ = weights.shape
    levels = network.scales if asking == len(network.scales) else network.readers
    rows = torch.unflatten(weights, 2, (len(network.scales), -1))  # (H, S, scales, N)
    for index, level in enumerate(levels):
        for head in (None, *range(heads)) if heads > 1 else (None,):
            chosen = rows[:, index].mean(0) if head is None else rows[head, index]
            yield _place_map(
                chosen,
                place,
                grid,
                kind="ssa",
                block=attention.place,
                level=level,
                head=None if head is None else head + 1,
                scales=network.scales,
            )


def _place_map(
    rows: Tensor,
    place: Tensor,
    grid: tuple[int, int],
    *,
    kind: str,
    level: int,
    block: int = 0,
    head: int | None = None,
    scales: Sequence[int] = (),
) -> PlaceMap:
    """A map of rows (scales asked, N) that sum to 1 altogether."""
    tokens = rows.sum(0)
    return PlaceMap(
        kind=kind,
        block=block,
        level=level,
        head=head,
        grid=(tokens * len(tokens)).reshape(grid).to(torch.float32).cpu().numpy(),
        on_object=float(tokens[place].sum()),
        object_share=float(place.to(torch.float32).mean()),
        scales=dict(zip(scales, rows.sum(1).tolist(), strict=True)) if scales else {},
    )


def sharpest(maps: Sequence[PlaceMap]) -> PlaceMap | None:
    """The head with the least even map, which is not the mean; None where there are no heads to choose from."""
    heads = [found for found in maps if found.head is not None]
    return min(heads, key=lambda found: _entropy(found.grid), default=None)


def _entropy(grid: Grid) -> float:
    shares = (grid / grid.sum()).ravel().astype(np.float64)
    return float(-(shares * np.log(np.maximum(shares, 1e-30))).sum())


def object_tokens(object_hw: Tensor, probability_hw: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens most of whose pixels are of the object, (N,) bool; else the one where it is most probable.

    Args:
        object_hw: (h * p, w * p) bool, the predicted object.
        probability_hw: The same shape.
        grid: (h, w).
    """
    inside = _patch_means(object_hw.to(torch.float32), grid) >= 0.5
    if not inside.any():
        inside = torch.zeros_like(inside)
        inside[_patch_means(probability_hw.to(torch.float32), grid).argmax()] = True
    return inside


def token_at(at: tuple[float, float], grid: tuple[int, int], *, device: torch.device) -> Tensor:
    """The token at a row and a column, as shares of the network's image -> (N,) bool."""
    row, column = (min(int(share * side), side - 1) for share, side in zip(at, grid, strict=True))
    place = torch.zeros(grid, dtype=torch.bool, device=device)
    place[row, column] = True
    return place.flatten()


def _patch_means(values_hw: Tensor, grid: tuple[int, int]) -> Tensor:
    height, width = grid
    rows = values_hw.reshape(height, values_hw.shape[0] // height, width, values_hw.shape[1] // width)
    return rows.mean((1, 3)).flatten()
