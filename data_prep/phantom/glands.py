"""Gland-like pictures in the colours of haematoxylin and eosin, in the released layout of GlaS."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_prep.phantom.drawing import Array, Outline, Scale, draw_scale, smooth_field, write_note

_STROMA = np.array([226.0, 150.0, 196.0])
_CYTOPLASM = np.array([196.0, 128.0, 190.0])
_LUMEN = np.array([243.0, 236.0, 242.0])
_NUCLEUS = np.array([98.0, 52.0, 138.0])
_TRIES = 60


@dataclass(frozen=True, kw_only=True)
class Gland:
    """Centre and radius in pixels, outline, and how long it is."""

    y: float
    x: float
    radius: float
    stretch: float
    turn: float
    outline: Outline

    def distance(self, y: Array, x: Array) -> tuple[Array, Array]:
        """How far out each pixel is (1 = on the edge), and in which direction."""
        dy, dx = y - self.y, x - self.x
        along = (dx * np.cos(self.turn) + dy * np.sin(self.turn)) / self.stretch
        across = (dy * np.cos(self.turn) - dx * np.sin(self.turn)) * self.stretch
        angle = np.arctan2(across, along)
        return np.hypot(along, across) / (self.radius * self.outline.radius(angle)), angle


def glas(
    folder: Path,
    *,
    train: int,
    test: int,
    seed: int = 0,
    scale: Scale = "mixed",
    size: tuple[int, int] = (174, 258),
) -> None:
    """Write `Train_Folder/{img,labelcol}` and `Test_Folder/{img,labelcol}`: RGB PNG, and PNG of gland numbers.

    Args:
        folder: Made if need be.
        train: Training images.
        test: Test images.
        seed: The same seed gives the same bytes.
        scale: Of the glands, see `data_prep.phantom.drawing.draw_scale`.
        size: (H, W); GlaS itself has 522 x 775 for most images.
    """
    for part, (name, count) in enumerate((("Train_Folder", train), ("Test_Folder", test))):
        for kind in ("img", "labelcol"):
            (folder / name / kind).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            rng = np.random.default_rng([seed, part, number])
            image, label = _picture(rng, size, draw_scale(rng, scale))
            Image.fromarray(image).save(folder / name / "img" / f"{number}.png")
            Image.fromarray(label).save(folder / name / "labelcol" / f"{number}.png")
    write_note(folder, what="gland-like pictures", layout="GlaS as released with UCTransNet", seed=seed)


def _picture(
    rng: np.random.Generator, size: tuple[int, int], scale: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """RGB (H, W, 3) and gland numbers (H, W)."""
    y, x = (axis.astype(np.float64) for axis in np.mgrid[: size[0], : size[1]])
    stain = 1 + 0.08 * rng.normal(size=3)
    fibres = smooth_field(rng, size, waves=14)[..., None]
    image = _STROMA * stain + 14 * fibres
    label = np.zeros(size, dtype=np.uint8)
    _dots(rng, image, np.ones(size, dtype=bool), spacing=0.13 * size[0], radius=0.011 * size[0])
    for number, gland in enumerate(_glands(rng, size, scale), start=1):
        out, _ = gland.distance(y, x)
        inside, lumen = out < 1, out < float(rng.uniform(0.35, 0.6))
        label[inside] = number
        image[inside] = _CYTOPLASM * stain + 10 * fibres[inside]
        _dots(rng, image, (out > 0.72) & (out < 0.97), spacing=0.028 * size[0], radius=0.012 * size[0])
        image[lumen] = _LUMEN + 4 * fibres[lumen]
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _glands(rng: np.random.Generator, size: tuple[int, int], scale: float) -> list[Gland]:
    """Glands that do not touch, also across the border of the picture; small ones are many."""
    placed: list[Gland] = []
    for _ in range(int(_TRIES / scale)):
        radius = float(rng.uniform(0.12, 0.2)) * scale * size[0]
        y, x = rng.uniform(-0.05, 1.05, 2) * size
        if all(np.hypot(y - g.y, x - g.x) > 1.25 * (radius + g.radius) for g in placed) and len(placed) < 250:
            placed.append(
                Gland(
                    y=float(y),
                    x=float(x),
                    radius=radius,
                    stretch=float(rng.uniform(1.0, 1.2)),
                    turn=float(rng.uniform(0, np.pi)),
                    outline=Outline(rng, wobble=0.05),
                )
            )
    return placed


def _dots(
    rng: np.random.Generator, image: Array, where: npt.NDArray[np.bool_], *, spacing: float, radius: float
) -> None:
    """Put nuclei into a region, on average one per square of `spacing` pixels."""
    rows, columns = np.nonzero(where)
    count = int(len(rows) / spacing**2)
    reach = int(np.ceil(radius * 1.6)) + 1
    for index in rng.integers(0, max(1, len(rows)), count):
        y, x = int(rows[index]), int(columns[index])
        top, left = max(0, y - reach), max(0, x - reach)
        patch = image[top : y + reach + 1, left : x + reach + 1]
        dy, dx = np.mgrid[top - y : top - y + patch.shape[0], left - x : left - x + patch.shape[1]]
        inside = np.hypot(dy, dx * rng.uniform(0.7, 1.4)) < radius * rng.uniform(0.8, 1.3)
        inside &= where[top : y + reach + 1, left : x + reach + 1]
        patch[inside] = _NUCLEUS * rng.uniform(0.85, 1.15)
