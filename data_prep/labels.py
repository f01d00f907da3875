"""From a mask file to class indices, before anything is resized: by value, by colour, or by outline."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.distinct import distinct, replaced
from data_prep.readers import ReaderError, read_mask
from data_prep.readers.annotations import MAX_ANNOTATION_BYTES, read_outlines
from data_prep.readers.pictures import read_colors

Rgb = tuple[int, int, int]

_SHOWN = 8
_FULL_SCALES = (2**8 - 1, 2**16 - 1)
_NEAR = 0.02
"""How far from black and white compression moves them, as a part of full scale."""
_RARE = 0.05
_REMEDY = "Export the mask without interpolation or loss; where the adapter takes data.{field}, name every class there"


class MaskRule(Protocol):
    """How a file becomes a mask of class indices. Rules are values: equal ones are interchangeable."""

    @property
    def max_bytes(self) -> int | None:
        """How much of a file is worth reading: one that is larger is refused."""

    def read(self, data: bytes, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
        """Class indices, (H, W).

        Args:
            data: The content of the file.
            size: H and W of the image, for files that have none of their own; None where it could not be read.

        Raises:
            ReaderError: the file is broken, or holds what is no class.
        """

    def __hash__(self) -> int:
        """As of equal rules."""


@dataclass(frozen=True)
class LabelRule:
    """Which value is which class.

    Attributes:
        values: The mask's value of each foreground class, class 1 first; None: a single class, every value above 0
            (instance ids).
    """

    max_bytes: ClassVar[int | None] = None
    values: tuple[int, ...] | None

    def read(self, data: bytes, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """Class indices of a picture file; it has its own size."""
        return self.apply(read_mask(data))

    def apply(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Class indices of a mask of any shape.

        Raises:
            ReaderError: values that are no class, each with its number of pixels; values between whole numbers; for a
                single class, values that look like black and white after smoothing or compression.
        """
        found, counts = distinct(mask)
        index_of = {0: 0} if self.values is None else {0: 0, **{v: i for i, v in enumerate(self.values, start=1)}}
        indices = np.zeros(len(found), dtype=np.uint8)
        unexpected = []
        for position, (value, count) in enumerate(zip(found.tolist(), counts.tolist(), strict=True)):
            if value in index_of:
                indices[position] = index_of[value]
            elif self.values is None and value > 0 and float(value).is_integer():
                indices[position] = 1
            else:
                unexpected.append(f"{value:g} ({count} pixels)")
        if unexpected:
            allowed = "0 and whole numbers above"
            if self.values is not None:
                allowed = ", ".join(map(str, sorted({0, *self.values})))
            raise ReaderError(_complaint("label values", unexpected, allowed=allowed, field="label_values"))
        if self.values is None and _is_smoothed(found, counts):
            raise ReaderError(_smoothed(found, counts))
        return replaced(mask, found, indices)


@dataclass(frozen=True)
class ColorRule:
    """Which colour is which class.

    Attributes:
        colors: Red, green, blue of each foreground class, class 1 first; black is background.
    """

    max_bytes: ClassVar[int | None] = None
    colors: tuple[Rgb, ...]

    def read(self, data: bytes, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """Class indices of a picture file; it has its own size."""
        return self.apply(read_colors(data))

    def apply(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Class indices (H, W) of a coloured mask (H, W, 3).

        Raises:
            ReaderError: colours that are no class, the most frequent first, each with its number of pixels.
        """
        codes = _coded(mask)
        indices = np.zeros(codes.shape, dtype=np.uint8)
        known = codes == 0
        for index, color in enumerate(self.colors, start=1):
            of_class = codes == _coded(np.array(color, np.uint8))
            indices[of_class] = index
            known |= of_class
        if not known.all():
            found, counts = np.unique(codes[~known], return_counts=True)
            order = np.argsort(-counts, kind="stable")
            unexpected = [f"{_named(int(found[i]))} ({counts[i]} pixels)" for i in order]
            allowed = ", ".join(str(list(color)) for color in ((0, 0, 0), *self.colors))
            raise ReaderError(_complaint("colours", unexpected, allowed=allowed, field="label_colors"))
        return indices


@dataclass(frozen=True)
class OutlineRule:
    """Outlines drawn in Aperio ImageScope: whatever they enclose is class 1."""

    max_bytes: ClassVar[int | None] = MAX_ANNOTATION_BYTES

    def read(self, data: bytes, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
        """Class indices at the size of the image."""
        outlines = read_outlines(data)
        return outlines.mask(*size) if size else np.zeros((0, 0), np.uint8)


def _coded(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """One number for each colour along the last axis."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray(red << 16 | green << 8 | blue, np.uint32)


def _named(code: int) -> str:
    return str([code >> 16, code >> 8 & 255, code & 255])


def _is_smoothed(found: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> bool:
    """Whether nearly everything is black or white of full scale, and what is between them is rare.

    Numbers of instances look otherwise: they do not reach full scale, or the last of them are few among many.
    """
    high = float(found[-1]) if len(found) else 0.0
    scale = next((scale for scale in _FULL_SCALES if scale * (1 - _NEAR) <= high <= scale), None)
    further = counts[(found > 0) & (found < high)]
    if scale is None or not further.size:
        return False
    bright = int(counts[found >= high - scale * _NEAR].sum())
    between = int(counts[(found > scale * _NEAR) & (found < high - scale * _NEAR)].sum())
    near_black = counts[(found > 0) & (found < high - scale * _NEAR)]
    rarest_instance = max(bright / 2, _RARE * float(counts.sum()))
    return bright >= between and bool(np.all(near_black <= rarest_instance))


def _smoothed(found: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> str:
    order = np.argsort(-counts, kind="stable")
    shown = ", ".join(f"{found[i]:g} ({counts[i]} pixels)" for i in order[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"values that look smoothed or compressed: {shown}{more}; allowed: 0 and one value, or 0 and the numbers of "
        "instances. Export it again as PNG without smoothing"
    )


def _complaint(what: str, unexpected: list[str], *, allowed: str, field: str) -> str:
    more = f" and {len(unexpected) - _SHOWN} more" if len(unexpected) > _SHOWN else ""
    shown = ", ".join(unexpected[:_SHOWN])
    return f"unexpected {what} {shown}{more}; allowed: {allowed}. {_REMEDY.format(field=field)}"
