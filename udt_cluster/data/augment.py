"""Augmentation of whole batches on the training device, before normalisation, in the source's own numbers.

What is done to a sample follows from (seed, epoch, sample index) alone: neither the number of ranks nor of threads, nor
who else is in the batch, changes a bit of it. Two decisions make that hold on every device: the random numbers come
from an integer hash, not from a generator's state; and the geometry is computed in integers, so that no rounding mode
decides which pixel is nearest.

Geometry happens on raw values: what is rotated in from outside is a raw zero, which then means the same to the network
as the zeros of `resize: pad`, and the background class in the label.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Uniforms = NDArray[np.float64]
_SHIFT = 16  # fixed-point bits of sine and cosine: 0.03 pixel at the corner of 4096 x 4096, and no int32 overflow
_DRAWS = 4


@dataclass(frozen=True)
class Geometry:
    """What happens to each sample of a batch: first a rotation about the centre, then a flip.

    Attributes:
        angle: Degrees, counter-clockwise as the picture is looked at; int64, shape (B,).
        flip: -1 nothing, 0 upside down (axis y), 1 mirrored (axis x); int64, shape (B,).
    """

    angle: NDArray[np.int64]
    flip: NDArray[np.int64]

    def describe(self, sample: int) -> str:
        """A few words about one sample of the batch, for captions."""
        angle, flip = int(self.angle[sample]), int(self.flip[sample])
        turned = f"rotated {angle:+d}°" if angle else ""
        flipped = {-1: "", 0: "flipped", 1: "mirrored"}[flip]
        return ", ".join(part for part in (turned, flipped) if part) or "unchanged"


def uniforms(seed: int, epoch: int, samples: NDArray[np.int64], draws: int = _DRAWS) -> Uniforms:
    """Numbers in [0, 1) for each sample, a pure function of the arguments: chained rounds of the splitmix64 finaliser.

    Source of the mixing constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).

    Returns:
        float64, shape (B, draws).
    """
    state = np.zeros((len(samples), draws), np.uint64)
    seed_64, epoch_64 = np.uint64(seed % 2**64), np.uint64(epoch)
    for part in (seed_64, epoch_64, samples.astype(np.uint64)[:, None], np.arange(draws, dtype=np.uint64)):
        state = _mixed(state + part)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def released_geometry(draws: Uniforms, *, square: bool) -> Geometry:
    """The released recipe: half quarter-turns and a flip; a quarter rotated by -20..19 degrees; the rest unchanged.

    A quarter turn changes the shape of a sample that is not square: there only 0 and 2 turns are drawn.

    Source: specification of the released code, section 3.
    """
    kind, turn, axis, degrees = draws.T
    turned = np.floor(turn * 4).astype(np.int64) if square else 2 * np.floor(turn * 2).astype(np.int64)
    angle = np.where(kind < 0.5, 90 * turned, np.where(kind < 0.75, np.floor(degrees * 40).astype(np.int64) - 20, 0))
    return Geometry(angle=angle, flip=np.where(kind < 0.5, np.floor(axis * 2).astype(np.int64), -1))


def no_geometry(draws: Uniforms, *, square: bool) -> Geometry:
    """Every sample as it is."""
    return Geometry(angle=np.zeros(len(draws), np.int64), flip=np.full(len(draws), -1, np.int64))


RECIPES: dict[str, Callable[..., Geometry]] = {"none": no_geometry, "released": released_geometry}


def augment(
    x_BCHW: Tensor, y_BHW: Tensor, *, recipe: str, seed: int, epoch: int, samples: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Apply a recipe to a batch: :func:`draw_geometry`, then :func:`apply_geometry`.

    Args:
        x_BCHW: Raw images, before normalisation.
        y_BHW: Their labels.
        recipe: A key of `RECIPES`.
        seed: Seed of the run.
        epoch: Counted from 0.
        samples: Sample indices in the store, shape (B,).
    """
    size = (y_BHW.shape[-2], y_BHW.shape[-1])
    return apply_geometry(x_BCHW, y_BHW, draw_geometry(recipe, seed=seed, epoch=epoch, samples=samples, size=size))


def draw_geometry(recipe: str, *, seed: int, epoch: int, samples: NDArray[np.int64], size: tuple[int, int]) -> Geometry:
    """What a recipe does to these samples in this epoch.

    Args:
        recipe: A key of `RECIPES`.
        seed: Seed of the run.
        epoch: Counted from 0.
        samples: Sample indices in the store, shape (B,).
        size: Height and width of a sample.

    Raises:
        ValueError: there is no such recipe.
    """
    if recipe not in RECIPES:
        raise ValueError(f"augment={recipe!r}; allowed: {', '.join(sorted(RECIPES))}")
    return RECIPES[recipe](uniforms(seed, epoch, samples), square=size[0] == size[1])


def apply_geometry(x_BCHW: Tensor, y_BHW: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Move pixels: for each output pixel the nearest input pixel, zero where that lies outside. Image and label alike.

    Args:
        x_BCHW: Images, any dtype.
        y_BHW: Labels, any dtype.
        geometry: For each of the B samples.

    Returns:
        New tensors (the same ones where nothing moves).
    """
    if not geometry.angle.any() and (geometry.flip < 0).all():
        return x_BCHW, y_BHW
    source_BN, outside_BN = _sources(geometry, (y_BHW.shape[-2], y_BHW.shape[-1]), y_BHW.device)
    channels = x_BCHW.shape[1]
    source_BCN = source_BN[:, None].expand(-1, channels, -1)
    x_BCN = x_BCHW.flatten(2).gather(2, source_BCN).masked_fill_(outside_BN[:, None], 0)
    y_BN = y_BHW.flatten(1).gather(1, source_BN).masked_fill_(outside_BN, 0)
    return x_BCN.view(x_BCHW.shape), y_BN.view(y_BHW.shape)


def _sources(geometry: Geometry, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat index of the input pixel of each output pixel, int64 (B, H*W), and where there is none, bool (B, H*W).

    Coordinates are doubled and centred, so that the centre of the picture is an integer for even and odd sides.
    """
    height, width = size
    y_H = (2 * torch.arange(height, dtype=torch.int32, device=device) - (height - 1))[None, :, None]
    x_W = (2 * torch.arange(width, dtype=torch.int32, device=device) - (width - 1))[None, None, :]
    matrix_4B = torch.from_numpy(_matrices(geometry)).to(device, non_blocking=True)[:, :, None, None]
    y_BHW = (matrix_4B[0] * y_H + matrix_4B[1] * x_W + (height << _SHIFT)) >> (_SHIFT + 1)
    x_BHW = (matrix_4B[2] * y_H + matrix_4B[3] * x_W + (width << _SHIFT)) >> (_SHIFT + 1)
    outside_BHW = (y_BHW < 0) | (y_BHW >= height) | (x_BHW < 0) | (x_BHW >= width)
    source_BHW = (y_BHW * width + x_BHW).masked_fill_(outside_BHW, 0)
    return source_BHW.flatten(1).long(), outside_BHW.flatten(1)


def _matrices(geometry: Geometry) -> NDArray[np.int32]:
    """Output to input coordinates in fixed point: rows (yy, yx, xy, xx), int32, shape (4, B)."""
    radians = np.deg2rad(geometry.angle.astype(np.float64))
    cosine = np.rint(np.cos(radians) * (1 << _SHIFT)).astype(np.int32)
    sine = np.rint(np.sin(radians) * (1 << _SHIFT)).astype(np.int32)
    flip_y = np.where(geometry.flip == 0, -1, 1).astype(np.int32)
    flip_x = np.where(geometry.flip == 1, -1, 1).astype(np.int32)
    # The flip comes last on the way out, so first on the way back: input = R(-angle) * F * output.
    return np.stack([cosine * flip_y, sine * flip_x, -sine * flip_y, cosine * flip_x])
