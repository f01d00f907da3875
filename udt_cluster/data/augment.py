"""Augmentation of whole batches on the training device, before normalisation, in the source's own numbers.

What is done to a sample follows from (seed, epoch, sample index) alone: neither the number of ranks nor of threads, nor
who else is in the batch, changes a bit of it. Random numbers come from an integer hash, not from a generator's state
(:mod:`~udt_cluster.data.augment_random`); positions are whole numbers (:mod:`~udt_cluster.data.augment_geometry`); and
numbers go through tables, sums and products alone (:mod:`~udt_cluster.data.augment_intensity`).

What is moved in from outside is a raw zero, which then means the same to the network as the zeros of `resize: pad`, and
the background class in the label. Those zeros stay what they are whatever happens to the numbers of the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udt_cluster.data.augment_geometry import (
    STRONG_DRAWS,
    Geometry,
    apply_geometry,
    no_geometry,
    released_geometry,
    strong_geometry,
    warp,
)
from udt_cluster.data.augment_intensity import INTENSITY_DRAWS, Intensity, retouched, stained, strong_intensity
from udt_cluster.data.augment_random import Keys, Uniforms, as_fractions, hashes
from udt_cluster.data.normalization import Normalization


@dataclass(frozen=True)
class Recipe:
    """What may happen to samples.

    Attributes:
        draws: Random numbers that a sample needs.
        geometry: Makes movements of them.
        intensity: Makes changes of the numbers; None: the numbers stay as they are, and so do their dtypes.
    """

    draws: int
    geometry: Callable[..., Geometry]
    intensity: Callable[[Uniforms, Keys], Intensity] | None = None


RECIPES: dict[str, Recipe] = {
    "none": Recipe(0, no_geometry),
    "released": Recipe(4, released_geometry),
    "strong": Recipe(STRONG_DRAWS + INTENSITY_DRAWS + 1, strong_geometry, strong_intensity),
}


@dataclass(frozen=True)
class Augmentation:
    """What a recipe does to the samples of one batch.

    Attributes:
        geometry: How their pixels move.
        intensity: How their numbers change; None: not at all.
    """

    geometry: Geometry
    intensity: Intensity | None = None

    def describe(self, sample: int, *, colour: bool = False) -> str:
        """A few words about one sample of the batch, for captions; `colour`: it is an 8-bit colour picture."""
        words = self.geometry.describe(sample)
        if self.intensity is not None:
            words += self.intensity.describe(sample, colour=colour)
        return ", ".join(words) or "unchanged"


def augment(
    x_BCHW: Tensor,
    y_BHW: Tensor,
    *,
    recipe: str,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
    normalization: Normalization | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply a recipe to a batch: :func:`draw`, then :func:`apply`.

    Args:
        x_BCHW: Raw images, before normalisation.
        y_BHW: Their labels.
        recipe: A key of `RECIPES`.
        seed: Seed of the run.
        epoch: Counted from 0.
        samples: Sample indices in the store, shape (B,).
        normalization: As for :func:`apply`.
    """
    size = (y_BHW.shape[-2], y_BHW.shape[-1])
    drawn = draw(recipe, seed=seed, epoch=epoch, samples=samples, size=size)
    return apply(x_BCHW, y_BHW, drawn, normalization=normalization)


def draw(recipe: str, *, seed: int, epoch: int, samples: NDArray[np.int64], size: tuple[int, int]) -> Augmentation:
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
    made = RECIPES[recipe]
    keys = hashes(seed, epoch, samples, made.draws)
    draws = as_fractions(keys)
    geometry = made.geometry(draws, square=size[0] == size[1])
    if made.intensity is None:
        return Augmentation(geometry)
    return Augmentation(geometry, made.intensity(draws[:, STRONG_DRAWS:-1], keys[:, -1]))


def apply(
    x_BCHW: Tensor, y_BHW: Tensor, drawn: Augmentation, *, normalization: Normalization | None = None
) -> tuple[Tensor, Tensor]:
    """Do what was drawn. Images keep their dtype, and whole numbers stay within it; labels get no new value.

    Args:
        x_BCHW: Raw images, before normalisation.
        y_BHW: Their labels.
        drawn: For each of the B samples.
        normalization: Says which numbers matter (changes are relative to that range), and how many of the channels
            are neighbouring slices. Needed where numbers change and images are not 8-bit; None: 0..255, no slices.

    Returns:
        New tensors (the same ones where nothing happens).
    """
    if drawn.intensity is None:
        return apply_geometry(x_BCHW, y_BHW, drawn.geometry)
    low, high = normalization.value_range if normalization else ((0.0,), (255.0,))
    slices = 2 * normalization.context_slices + 1 if normalization else 1
    is_colour = x_BCHW.dtype == torch.uint8 and x_BCHW.shape[1] == 3 * slices
    x = _stained_slices(x_BCHW, drawn.intensity) if is_colour else x_BCHW.to(torch.float32)
    x, y, nothing_BHW = warp(x, y_BHW, _padding(x_BCHW), drawn.geometry)
    x = retouched(x, drawn.intensity, low=low, high=high).masked_fill_(nothing_BHW[:, None], 0)
    if x_BCHW.dtype.is_floating_point:
        return x, y
    limits = torch.iinfo(x_BCHW.dtype)
    return x.round_().clamp_(limits.min, limits.max).to(x_BCHW.dtype), y


def _stained_slices(x_BCHW: Tensor, intensity: Intensity) -> Tensor:
    """Colour pictures; neighbouring ones that are channels of a sample are stained alike."""
    pictures = [stained(x_BCHW[:, first : first + 3], intensity) for first in range(0, x_BCHW.shape[1], 3)]
    return torch.cat(pictures, 1)


def _padding(x_BCHW: Tensor) -> Tensor:
    """What `resize: pad` has added: the rows at the bottom and columns at the right that are all zeros; (B, H, W)."""
    is_zero_BHW = (x_BCHW == 0).all(1)
    rows, columns = (is_zero_BHW.all(axis).flip(1).to(torch.uint8).cummin(1).values.flip(1) for axis in (2, 1))
    return (rows[:, :, None] | columns[:, None, :]).bool()
