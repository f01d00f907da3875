"""Outlines that were drawn in Aperio ImageScope (XML), and the pixels that they enclose.

Coordinates are those of ImageScope: x to the right and y down in pixels, from the upper left corner of the picture; the
pixel in that corner covers 0..1 and has its centre at 0.5. A pixel belongs to an outline when its centre lies within
(non-zero winding, so that a loop in a freehand line leaves no hole). Regions drawn with the negative pen are holes.

The file comes from outside: it is read as a stream of elements, a document type or entity is refused, and so is what
would take more memory or time than any real annotation of the picture.
"""

from array import array
from dataclasses import dataclass
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from data_prep.readers.base import ReaderError

Outline = npt.NDArray[np.float64]

MAX_ANNOTATION_BYTES = 64 * 2**20
_ALLOWED_TYPES = ("0", "1")
_COVERAGE = 16
_CROSSINGS = 2**22
_STRAY = 0.05
_FARTHEST = 1e7


@dataclass(frozen=True, eq=False)
class Outlines:
    """What an annotator drew.

    Attributes:
        objects: (n, 2) x and y of each object's corners.
        holes: As objects, drawn with the negative pen.
    """

    objects: tuple[Outline, ...]
    holes: tuple[Outline, ...]

    def mask(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """(height, width): 1 within the objects and outside of the holes.

        Raises:
            ReaderError: the outlines are not of a picture of this size.
        """
        self._refuse_foreign(height, width)
        filled = np.zeros((height, width), dtype=bool)
        for outline in self.objects:
            _fill(filled, outline, value=True)
        for outline in self.holes:
            _fill(filled, outline, value=False)
        return filled.astype(np.uint8)

    def _refuse_foreign(self, height: int, width: int) -> None:
        corners = [(outline.min(axis=0), outline.max(axis=0)) for outline in (*self.objects, *self.holes)]
        limit = np.array([width, height])
        outside = sum(bool(np.any(high < 0) or np.any(low > limit)) for low, high in corners)
        if outside > _STRAY * len(corners):
            raise ReaderError(
                f"{outside} of {len(corners)} outlines lie outside of the picture, which has {width} x {height} "
                "pixels; it must be the annotation of this picture, at its resolution"
            )
        boxes = [np.clip(high, 0, limit) - np.clip(low, 0, limit) for low, high in corners]
        if sum(float(box.prod()) for box in boxes) > _COVERAGE * height * width:
            raise ReaderError(
                f"the outlines cover the picture, which has {width} x {height} pixels, more than {_COVERAGE} times "
                "over; it must be the annotation of this picture, at its resolution"
            )


def read_outlines(data: bytes) -> Outlines:
    """The outlines of all regions of all layers.

    Raises:
        ReaderError: no annotation of ImageScope, broken, too large, or with regions that enclose nothing by themselves
            (ellipses, arrows, rulers).
    """
    collector = _Collector()
    parser = expat.ParserCreate()
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except ReaderError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        place = f"{type(error).__name__}, line {parser.ErrorLineNumber}"
        raise ReaderError(f"broken XML ({place}); export the annotation from ImageScope again") from None
    return Outlines(tuple(collector.objects), tuple(collector.holes))


class _Collector:
    """Gathers the corners of each region while the elements pass by."""

    def __init__(self) -> None:
        self.objects: list[Outline] = []
        self.holes: list[Outline] = []
        self._corners: array[float] | None = None
        self._negative = False
        self._regions = 0
        self._root_seen = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if not self._root_seen and name != "Annotations":
            raise ReaderError("its root is not <Annotations>: no annotation of Aperio ImageScope")
        self._root_seen = True
        if name == "Region":
            self._regions += 1
            if attributes.get("Type", "0") not in _ALLOWED_TYPES:
                raise ReaderError(
                    f"region {self._regions} of the file has another Type than 0 (freehand) or 1 (rectangle). Draw "
                    "the outline of this ellipse, arrow or ruler, or remove it"
                )
            self._corners, self._negative = array("d"), attributes.get("NegativeROA", "0") == "1"
        elif name == "Vertex" and self._corners is not None:
            self._corners.extend((_coordinate(attributes, "X"), _coordinate(attributes, "Y")))

    def end(self, name: str) -> None:
        """An element ends; a region of one or two corners encloses no pixel."""
        if name != "Region" or self._corners is None:
            return
        outline = np.frombuffer(self._corners, dtype=np.float64).reshape(-1, 2)
        if len(outline) > 2:
            (self.holes if self._negative else self.objects).append(outline)
        self._corners = None


def _coordinate(attributes: dict[str, str], axis: str) -> float:
    text = attributes.get(axis, "")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < _FARTHEST:
        raise ReaderError(f"a vertex has no {axis} that is a position in the picture; export it again")
    return value


def _refuse_doctype(*_: object) -> None:
    raise ReaderError("it has a document type (DTD), which an annotation of ImageScope has not; remove <!DOCTYPE ...>")


def _fill(filled: npt.NDArray[np.bool_], outline: Outline, *, value: bool) -> None:
    """Set the pixels of a picture whose centres an outline winds around."""
    row, column, direction = _crossings(outline, *filled.shape)
    if not len(row):
        return
    top, left = int(row.min()), int(column.min())
    turns = np.zeros((int(row.max()) - top + 1, int(column.max()) - left + 1), dtype=np.int32)
    np.add.at(turns, (row - top, column - left), direction)
    inside = np.cumsum(turns, axis=1)[:, :-1] != 0
    filled[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = value


def _crossings(
    outline: Outline, height: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Where edges cross the lines through the pixel centres of a row.

    Returns: row, column of the first centre to the right of the crossing, and whether the edge goes down (1) or up
    (-1); summed along a row, the directions are the winding number.
    """
    x, y = outline.T - 0.5
    step_x, step_y = np.roll(x, -1) - x, np.roll(y, -1) - y
    first = np.clip(np.ceil(np.minimum(y, y + step_y)), 0, height).astype(np.int64)
    counts = np.clip(np.ceil(np.maximum(y, y + step_y)), 0, height).astype(np.int64) - first
    total = int(counts.sum())
    if total > _CROSSINGS:
        raise ReaderError(f"an outline of {len(x)} corners crosses {total} rows of pixels; no object looks like it")
    edge = np.repeat(np.arange(len(x)), counts)
    row = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossing = x[edge] + (row - y[edge]) * step_x[edge] / step_y[edge]
    column = np.clip(np.ceil(crossing), 0, width).astype(np.int64)
    return row, column, np.sign(step_y)[edge].astype(np.int32)
