"""From native pixels to a network's input and back: the geometry that preparation, scoring and serving share.

Everything is written with arithmetic that `torch.export` can trace for heights and widths that are not known yet, so
that an exported model contains the very resize that made its training samples. Pixel centres are at half integers
(`align_corners=False`); a side that shrinks is low-pass filtered (triangle filter, as PIL's `BILINEAR`).
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Side: TypeAlias = Any  # int while running, torch.SymInt while exporting
_sym_max: Callable[[Side, Side], Side] = torch.sym_max
ResizeMode: TypeAlias = Literal["stretch", "pad"]


def padded_size(height: Side, width: Side, size: tuple[Side, Side]) -> tuple[Side, Side]:
    """The smallest (H', W') >= (height, width) with the aspect ratio of `size`, to within one pixel."""
    target_height, target_width = size
    return (
        _sym_max(height, -((-width * target_height) // target_width)),
        _sym_max(width, -((-height * target_width) // target_height)),
    )


def resize_image(x: Tensor, size: tuple[int, int], mode: ResizeMode) -> Tensor:
    """Bring an image to the size of a training sample.

    Args:
        x: (..., C, H, W) or (..., H, W), any real dtype.
        size: (h, w) in pixels.
        mode: `stretch` scales each side on its own; `pad` first puts zeros at the bottom and at the right until the
            aspect ratio is that of `size`, so that shapes are kept.

    Returns:
        (..., h, w). Computed in float32; integers come back rounded in their own dtype, floats as float32.
    """
    wide = x.to(torch.float32)
    if mode == "pad":
        wide = _pad(wide, *padded_size(x.shape[-2], x.shape[-1], size))
    resized = _interpolate(wide, size)
    return resized if x.dtype.is_floating_point else resized.round().to(x.dtype)


def resize_label(y: Tensor, size: tuple[int, int], mode: ResizeMode) -> Tensor:
    """Bring class indices (..., H, W) to the size of a training sample: nearest pixel centre, never a new value."""
    if mode == "pad":
        y = _pad(y, *padded_size(y.shape[-2], y.shape[-1], size))
    rows, columns = (_nearest(source, target, y.device) for source, target in zip(y.shape[-2:], size, strict=True))
    return y.index_select(-2, rows).index_select(-1, columns)


def restore(p: Tensor, native_size: tuple[Side, Side], mode: ResizeMode) -> Tensor:
    """Bring predictions back to native pixels: the inverse of :func:`resize_image`, without the padding.

    Args:
        p: (B, K, h, w) logits or probabilities.
        native_size: (H, W) of the image as it was.
        mode: as in :func:`resize_image`.

    Returns:
        (B, K, H, W) float32.
    """
    if mode == "stretch":
        return _interpolate(p.to(torch.float32), native_size)
    whole = _interpolate(p.to(torch.float32), padded_size(*native_size, (p.shape[-2], p.shape[-1])))
    rows, columns = (torch.arange(side, device=p.device) for side in native_size)
    return whole.index_select(-2, rows).index_select(-1, columns)


def with_neighbours(x_DCHW: Tensor, context_slices: int) -> Tensor:
    """Give each slice its neighbours as further channels; the first and the last slice stand in for what is beyond.

    Args:
        x_DCHW: The slices of one volume in their order.
        context_slices: Neighbours on each side, n.

    Returns:
        (D, (2n + 1) * C, H, W): all channels of slice s - n, ..., of s, ..., of s + n.
    """
    if context_slices == 0:
        return x_DCHW
    depth = x_DCHW.shape[0]
    places = torch.arange(depth, device=x_DCHW.device)
    parts = [
        x_DCHW.index_select(0, (places + step).clamp(0, depth - 1))
        for step in range(-context_slices, context_slices + 1)
    ]
    return torch.cat(parts, 1)


def _interpolate(x: Tensor, size: tuple[Side, Side]) -> Tensor:
    """Bilinear over the last two axes, whatever stands before them; the filter is plain bilinear where a side grows."""
    planes = x.reshape(-1, 1, x.shape[-2], x.shape[-1]) if x.dim() != 4 else x
    out = F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
    return out.reshape(*x.shape[:-2], *size) if x.dim() != 4 else out


def _pad(x: Tensor, height: Side, width: Side) -> Tensor:
    """Zeros at the bottom and right; by index, since F.pad exports another graph when there is nothing to pad."""
    for axis, (length, target) in ((-2, (x.shape[-2], height)), (-1, (x.shape[-1], width))):
        index = torch.arange(target, device=x.device)
        inside = (index < length).to(x.dtype)
        x = x.index_select(axis, index.clamp(max=length - 1)) * (inside[:, None] if axis == -2 else inside)
    return x


def _nearest(source: Side, target: int, device: torch.device) -> Tensor:
    """Index of the source pixel whose centre is nearest to each target pixel's (`nearest-exact`), in whole numbers."""
    doubled_centres = 2 * torch.arange(target, device=device) + 1
    return torch.div(doubled_centres * source, 2 * target, rounding_mode="floor")
