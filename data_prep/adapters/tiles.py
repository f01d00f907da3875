"""`data.tiles`: large pictures as squares, each a case of its own, and all of one picture in one group.

Sizes come from the headers of the pictures, when the source is listed; pixels are cut when a tile is read. A picture
is decoded once for neighbouring tiles: the last one stays in memory, known by its content.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.case import Case
from data_prep.labels import MaskRule
from data_prep.readers import ReaderError, read_picture
from data_prep.readers.pictures import picture_size
from udt_cluster.config.data import TilesConfig
from udt_cluster.errors import AuthError
from udt_cluster.storage import Location

Region = tuple[int, int, int, int]

_UNKNOWN: Region = (0, 0, 0, 0)


def cut_into_tiles(cases: Sequence[Case], source: Location, tiles: TilesConfig | None) -> list[Case]:
    """A case for each tile of each picture; the cases themselves where no tiles are wanted.

    A picture whose size cannot be read is one case with an empty region, which :func:`cropped` refuses: that it is
    broken is found where all other broken cases are.
    """
    if tiles is None:
        return list(cases)
    return [
        replace(case, id=f"{case.id}_y{region[0]}_x{region[1]}", region=region)
        for case in cases
        for region in _regions_of(source, case.images[0], tiles)
    ]


def regions(height: int, width: int, tiles: TilesConfig) -> list[Region]:
    """(top, left, height, width) of the tiles of a picture, row by row; none reaches beyond it."""
    return [
        (top, left, min(tiles.size, height), min(tiles.size, width))
        for top in _starts(height, tiles)
        for left in _starts(width, tiles)
    ]


def picture(case: Case, data: bytes) -> npt.NDArray[Any]:
    """The whole picture of a case, (C, H, W); not to be written to.

    Raises:
        ReaderError: as :func:`data_prep.readers.read_picture`.
    """
    return read_picture(data) if case.region is None else _last_picture(data)


def label(case: Case, data: bytes, rule: MaskRule, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """The class indices of the whole picture of a case, (H, W); not to be written to.

    Raises:
        ReaderError: as `rule.read`.
    """
    return rule.read(data, size) if case.region is None else _last_label(data, rule, size)


def cropped(pixels: npt.NDArray[Any], region: Region | None) -> npt.NDArray[Any]:
    """The region of an array (..., H, W), as an array of its own; the array itself where there is no region.

    Raises:
        ReaderError: the picture has no such region.
    """
    if region is None:
        return pixels
    top, left, height, width = region
    if region == _UNKNOWN or top + height > pixels.shape[-2] or left + width > pixels.shape[-1]:
        raise ReaderError("the file has changed since the source was listed; start the preparation again")
    return pixels[..., top : top + height, left : left + width].copy()


def _starts(length: int, tiles: TilesConfig) -> list[int]:
    """First pixels along one axis; the last tile lies flush with the edge."""
    last = max(0, length - tiles.size)
    return [*range(0, last, tiles.size - tiles.overlap), last]


def _regions_of(source: Location, key: str, tiles: TilesConfig) -> list[Region]:
    try:
        with (source / key).open() as file:
            return regions(*picture_size(file), tiles)
    except (ReaderError, FileNotFoundError, AuthError):
        return [_UNKNOWN]


@lru_cache(maxsize=1)
def _last_picture(data: bytes) -> npt.NDArray[Any]:
    pixels = read_picture(data)
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=1)
def _last_label(data: bytes, rule: MaskRule, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    indices = rule.read(data, size)
    indices.setflags(write=False)
    return indices
