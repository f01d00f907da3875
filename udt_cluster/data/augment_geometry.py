"""The part of augmentation that moves pixels: rotations, flips, zoom and elastic deformation of whole batches.

Positions are whole numbers (fixed point), so that no rounding mode decides which pixel is nearest: every device, and
every company that a sample may have in its batch, gives the same bits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udt_cluster.data.augment_random import Uniforms

_SHIFT = 16  # fixed-point bits of sine and cosine: 0.03 pixel at the corner of 4096 x 4096, and no int32 overflow
_PIXEL = 1 << (_SHIFT + 1)  # a pixel in fixed point; coordinates are doubled
_SPLINE = 12  # fixed-point bits of the weights of a spline
_INTERVALS = 4  # of the elastic grid, along each axis
CONTROL_POINTS = _INTERVALS + 3
ELASTIC_DRAWS = 2 * CONTROL_POINTS**2
_FREE_DRAWS = 4  # of the released recipe
STRONG_DRAWS = _FREE_DRAWS + 2 + ELASTIC_DRAWS
_ZOOM_SHARE, _ZOOM = 0.4, (0.7, 1.4)
_ELASTIC_SHARE, _ELASTIC = 0.4, (0.1, 0.3)  # largest shift of a control point, in distances between two of them


@dataclass(frozen=True)
class Geometry:
    """What happens to each sample of a batch: a rotation about the centre, a zoom, a flip, then a deformation.

    Attributes:
        angle: Degrees, counter-clockwise as the picture is looked at; int64, shape (B,).
        flip: -1 nothing, 0 upside down (axis y), 1 mirrored (axis x); int64, shape (B,).
        zoom: Above 1 things grow; float64, shape (B,). None: no zoom in the recipe.
        elastic: Shift of each control point along y and x as a share of the picture's sides; float64,
            shape (B, 2, CONTROL_POINTS, CONTROL_POINTS). None: no deformation in the recipe.
    """

    angle: NDArray[np.int64]
    flip: NDArray[np.int64]
    zoom: NDArray[np.float64] | None = None
    elastic: NDArray[np.float64] | None = None

    def describe(self, sample: int) -> list[str]:
        """A few words for each thing that happens to one sample of the batch, for captions."""
        angle, flip = int(self.angle[sample]), int(self.flip[sample])
        zoom = 1.0 if self.zoom is None else float(self.zoom[sample])
        words = [
            f"rotated {angle:+d}°" if angle else "",
            {-1: "", 0: "flipped", 1: "mirrored"}[flip],
            f"zoom {zoom:.2f}" if zoom != 1 else "",
            "elastic" if self.elastic is not None and self.elastic[sample].any() else "",
        ]
        return [word for word in words if word]


def released_geometry(draws: Uniforms, *, square: bool) -> Geometry:
    """The released recipe: half quarter-turns and a flip; a quarter rotated by -20..19 degrees; the rest unchanged.

    A quarter turn changes the shape of a sample that is not square: there only 0 and 2 turns are drawn.

    Source: specification of the released code, section 3.
    """
    kind, turn, axis, degrees = draws[:, :_FREE_DRAWS].T
    turned = np.floor(turn * 4).astype(np.int64) if square else 2 * np.floor(turn * 2).astype(np.int64)
    angle = np.where(kind < 0.5, 90 * turned, np.where(kind < 0.75, np.floor(degrees * 40).astype(np.int64) - 20, 0))
    return Geometry(angle=angle, flip=np.where(kind < 0.5, np.floor(axis * 2).astype(np.int64), -1))


def no_geometry(draws: Uniforms, *, square: bool) -> Geometry:
    """Every sample as it is."""
    return Geometry(angle=np.zeros(len(draws), np.int64), flip=np.full(len(draws), -1, np.int64))


def strong_geometry(draws: Uniforms, *, square: bool) -> Geometry:
    """The very rotations and flips of the released recipe, then a zoom for some samples and a deformation for some.

    Control points are shifted by less than 0.48 of their distance, also where a zoom magnifies it: the deformation
    never folds (Choi and Lee, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions", 2000).

    Args:
        draws: (B, at least STRONG_DRAWS).
        square: Whether samples are as high as wide.
    """
    released = released_geometry(draws, square=square)
    zoomed, bent = draws[:, _FREE_DRAWS], draws[:, _FREE_DRAWS + 1]
    shifts = 2 * draws[:, _FREE_DRAWS + 2 : STRONG_DRAWS] - 1
    strength = sometimes(bent, _ELASTIC_SHARE, _ELASTIC, neutral=0.0) / _INTERVALS
    return Geometry(
        angle=released.angle,
        flip=released.flip,
        zoom=sometimes(zoomed, _ZOOM_SHARE, _ZOOM, neutral=1.0),
        elastic=(strength[:, None] * shifts).reshape(-1, 2, CONTROL_POINTS, CONTROL_POINTS),
    )


def sometimes(draw: Uniforms, share: float, bounds: tuple[float, float], *, neutral: float) -> Uniforms:
    """For `share` of the draws a number that is uniform between the bounds; for the others the neutral one."""
    low, high = bounds
    return np.where(draw < share, low + (high - low) * (draw / share), neutral)


def apply_geometry(x_BCHW: Tensor, y_BHW: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Move pixels: for each output pixel the nearest input pixel, zero where that lies outside. Image and label alike.

    Args:
        x_BCHW: Images, any dtype.
        y_BHW: Labels, any dtype.
        geometry: For each of the B samples.

    Returns:
        New tensors (the same ones where nothing moves).
    """
    if not geometry.angle.any() and (geometry.flip < 0).all() and geometry.zoom is None and geometry.elastic is None:
        return x_BCHW, y_BHW
    size = (y_BHW.shape[-2], y_BHW.shape[-1])
    source_BN, outside_BN = _nearest(_positions(geometry, size, y_BHW.device), size)
    x_BCN = _gathered(x_BCHW, source_BN).masked_fill_(outside_BN[:, None], 0)
    y_BN = y_BHW.flatten(1).gather(1, source_BN).masked_fill_(outside_BN, 0)
    return x_BCN.view(x_BCHW.shape), y_BN.view(y_BHW.shape)


def warp(x_BCHW: Tensor, y_BHW: Tensor, padding_BHW: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """Move pixels as :func:`apply_geometry` does, but interpolate the image between its four nearest pixels.

    Args:
        x_BCHW: Images, float32.
        y_BHW: Labels, any dtype.
        padding_BHW: Which input pixels show nothing; bool.
        geometry: For each of the B samples.

    Returns:
        Images, in which the outermost pixels go on outside; labels of the nearest pixel, 0 outside; and which output
        pixels show nothing, bool (B, H, W): what lies outside, and what the padding went to.
    """
    size = (y_BHW.shape[-2], y_BHW.shape[-1])
    positions = _positions(geometry, size, y_BHW.device)
    source_BN, outside_BN = _nearest(positions, size)
    y_BN = y_BHW.flatten(1).gather(1, source_BN).masked_fill_(outside_BN, 0)
    nothing_BN = padding_BHW.flatten(1).gather(1, source_BN) | outside_BN
    return _interpolated(x_BCHW, positions), y_BN.view(y_BHW.shape), nothing_BN.view(y_BHW.shape)


def _interpolated(x_BCHW: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    (top, bottom, down), (left, right, along) = (
        _neighbours(position, side) for position, side in zip(positions, x_BCHW.shape[-2:], strict=True)
    )
    width = x_BCHW.shape[-1]
    rows = []
    for row in (top, bottom):
        first, second = (_gathered(x_BCHW, (row * width + column).flatten(1)) for column in (left, right))
        rows.append(first + (second - first) * along.flatten(1)[:, None])
    return (rows[0] + (rows[1] - rows[0]) * down.flatten(1)[:, None]).view(x_BCHW.shape)


def _neighbours(position_BHW: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and behind a position (int64), and how far behind the first it lies (float32 in 0..1)."""
    from_centre = position_BHW - _PIXEL // 2
    before = from_centre >> (_SHIFT + 1)
    share = (from_centre & (_PIXEL - 1)).to(torch.float32) * (1 / _PIXEL)
    return before.clamp(0, side - 1).long(), (before + 1).clamp(0, side - 1).long(), share


def _gathered(x_BCHW: Tensor, source_BN: Tensor) -> Tensor:
    return x_BCHW.flatten(2).gather(2, source_BN[:, None].expand(-1, x_BCHW.shape[1], -1))


def _nearest(positions: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Flat index of the input pixel of each output pixel, int64 (B, H*W), and where there is none, bool (B, H*W)."""
    height, width = size
    y_BHW, x_BHW = (position >> (_SHIFT + 1) for position in positions)
    outside_BHW = (y_BHW < 0) | (y_BHW >= height) | (x_BHW < 0) | (x_BHW >= width)
    source_BHW = (y_BHW * width + x_BHW).masked_fill_(outside_BHW, 0)
    return source_BHW.flatten(1).long(), outside_BHW.flatten(1)


def _positions(geometry: Geometry, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where in the input each output pixel comes from, along y and along x: fixed point, (B, H, W).

    Pixel i is what lies between i and i + 1 `_PIXEL`. Coordinates are doubled and centred, so that the centre of the
    picture is a whole number for even and odd sides.
    """
    height, width = size
    y_H = (2 * torch.arange(height, dtype=torch.int32, device=device) - (height - 1))[None, :, None]
    x_W = (2 * torch.arange(width, dtype=torch.int32, device=device) - (width - 1))[None, None, :]
    matrix_4B = torch.from_numpy(_matrices(geometry)).to(device, non_blocking=True)[:, :, None, None]
    y_BHW = matrix_4B[0] * y_H + matrix_4B[1] * x_W + (height << _SHIFT)
    x_BHW = matrix_4B[2] * y_H + matrix_4B[3] * x_W + (width << _SHIFT)
    if geometry.elastic is None or not geometry.elastic.any():
        return y_BHW, x_BHW
    shift_B2HW = _deformation(geometry.elastic, size, device)
    return y_BHW + shift_B2HW[:, 0], x_BHW + shift_B2HW[:, 1]


def _matrices(geometry: Geometry) -> NDArray[np.int32]:
    """Output to input coordinates in fixed point: rows (yy, yx, xy, xx), int32, shape (4, B)."""
    radians = np.deg2rad(geometry.angle.astype(np.float64))
    one = (1 << _SHIFT) / (1.0 if geometry.zoom is None else geometry.zoom)
    cosine = np.rint(np.cos(radians) * one).astype(np.int32)
    sine = np.rint(np.sin(radians) * one).astype(np.int32)
    flip_y = np.where(geometry.flip == 0, -1, 1).astype(np.int32)
    flip_x = np.where(geometry.flip == 1, -1, 1).astype(np.int32)
    # The flip comes last on the way out, so first on the way back: input = R(-angle) * F * output.
    return np.stack([cosine * flip_y, sine * flip_x, -sine * flip_y, cosine * flip_x])


def _deformation(elastic: NDArray[np.float64], size: tuple[int, int], device: torch.device) -> Tensor:
    """A uniform cubic B-spline through the control points: shift of every pixel in fixed point, int64 (B, 2, H, W)."""
    sides = np.array(size, np.float64)[:, None, None]
    shift = torch.from_numpy(np.rint(elastic * sides * _PIXEL).astype(np.int64)).to(device, non_blocking=True)
    for axis, side in ((2, size[0]), (3, size[1])):
        first, weights_4N = _spline(side)
        start = torch.from_numpy(first).to(device, non_blocking=True)
        shape = (-1, 1) if axis == 2 else (-1,)
        parts = [
            shift.index_select(axis, start + tap) * torch.from_numpy(weights).to(device, non_blocking=True).view(shape)
            for tap, weights in enumerate(weights_4N)
        ]
        shift = (parts[0] + parts[1] + parts[2] + parts[3]) >> _SPLINE
    return shift


def _spline(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel of a side the first of its four control points, and their weights in fixed point, (4, side)."""
    place = (np.arange(side) + 0.5) * (_INTERVALS / side)
    first = np.floor(place)
    u = place - first
    weights = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6
    return first.astype(np.int64), np.rint(weights * (1 << _SPLINE)).astype(np.int64)
