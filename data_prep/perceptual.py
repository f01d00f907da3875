"""A hash of what an image looks like, by which near duplicates are found.

The difference hash: grey, shrunk to 8 x 9 by the mean of what each pixel covers, and a bit for each pair of neighbours
in a row that says whether it gets brighter. Scaling, brightness, contrast and mild compression keep nearly all bits.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_ROWS, _COLUMNS = 8, 9
_LEAST_STEP = 1 / 256
"""Of the image's range; less is noise, and would make random bits of a flat background."""
_ROUNDING = 1e-6
"""Of the image's largest value; less is no step in any image."""
_BITS = np.left_shift(np.uint64(1), np.arange(_ROWS * (_COLUMNS - 1), dtype=np.uint64))


def perceptual_hashes(images: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """64-bit difference hashes of images (n, C, h, w), (n,); 0 for a constant image."""
    return symmetry_hashes(images)[:, 0]


def symmetry_hashes(images: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Hashes of each image as it is, mirrored left to right, transposed, and transposed and then mirrored.

    The bytes of a hash are the rows of the image: turned round, they are the hash of the image upside down. So these
    four tell those of all eight turned and mirrored images.

    Args:
        images: (n, C, h, w).

    Returns:
        (n, 4) uint64; the first column is that of :func:`perceptual_hashes`.
    """
    return np.array([_views(image) for image in images], dtype=np.uint64).reshape(-1, 4)


def _views(image: npt.NDArray[Any]) -> list[np.uint64]:
    grey = image.mean(axis=0, dtype=np.float64)
    small, turned = _shrunk(grey), _shrunk(grey.T)
    return [_hash(view) for view in (small, small[:, ::-1], turned, turned[:, ::-1])]


def _shrunk(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shrunk: npt.NDArray[np.float64] = _shares(grey.shape[0], _ROWS) @ grey @ _shares(grey.shape[1], _COLUMNS).T
    return shrunk


def _hash(small: npt.NDArray[np.float64]) -> np.uint64:
    least = max(_LEAST_STEP * np.ptp(small), _ROUNDING * np.abs(small).max())
    brighter = np.diff(small, axis=1) > least
    return np.uint64(_BITS[brighter.ravel()].sum(dtype=np.uint64))


@lru_cache(maxsize=16)
def _shares(size: int, parts: int) -> npt.NDArray[np.float64]:
    """(parts, size): which share of each of `parts` equal stretches every pixel covers."""
    edges = np.linspace(0, size, parts + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(covered, 0, None) / (size / parts), dtype=np.float64)
