"""What both phantoms are drawn with: smooth fields, wobbly outlines, object scales, and the note on what they are."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

SCALES: Final = {"small": (0.5, 0.6), "large": (1.3, 1.5), "mixed": (0.5, 1.5)}
Scale = str | float

_NOTE = """\
SYNTHETIC DATA: {what}, drawn by `python -m data_prep.phantom` (seed {seed}).
No patient, animal or tissue was involved. The layout is that of {layout}; the pictures only look remotely like it.
Good for trying the software. Scores on it say nothing about any real data.
"""


def draw_scale(rng: np.random.Generator, scale: Scale) -> float:
    """The factor on the size of one patient's or image's objects.

    Args:
        rng: Source of chance.
        scale: `small` (0.5 to 0.6), `large` (1.3 to 1.5), `mixed` (0.5 to 1.5), or the factor itself, 0.2 to 2.

    Raises:
        ValueError: anything else.
    """
    if scale in SCALES:
        low, high = SCALES[str(scale)]
        return float(rng.uniform(low, high))
    try:
        factor = float(scale)
    except ValueError:
        factor = 0.0
    if not 0.2 <= factor <= 2:
        raise ValueError(f"scale {scale}; allowed: {', '.join(SCALES)}, or a factor from 0.2 to 2")
    return factor


def write_note(folder: Path, *, what: str, layout: str, seed: int) -> None:
    """Put a README.txt beside the data that says what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_NOTE.format(what=what, layout=layout, seed=seed), encoding="utf-8")


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], *, waves: int) -> Array:
    """A smooth random picture (H, W) with mean 0 and largest value 1: a few plane waves of low frequency."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    field = np.zeros(shape)
    for _ in range(8):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        field += np.cos(2 * np.pi * rng.uniform(0.3, waves) * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    field -= field.mean()
    field /= np.abs(field).max()
    return field


class Outline:
    """A wobbly closed curve around the origin: how much larger than 1 its radius is in each direction."""

    def __init__(self, rng: np.random.Generator, *, wobble: float) -> None:
        self._strength = rng.normal(0, wobble, 3) / np.array([1, 1.5, 2])
        self._phase = rng.uniform(0, 2 * np.pi, 3)

    def radius(self, angle: Array) -> Array:
        """Relative radius at each angle (radians)."""
        waves = (s * np.cos(k * angle + p) for k, s, p in zip((2, 3, 4), self._strength, self._phase, strict=True))
        return np.maximum(1 + sum(waves, np.zeros_like(angle)), 0.3)
