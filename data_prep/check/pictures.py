"""Thumbnails: a case with the outlines of its mask, or the two files of a case that cannot be prepared."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_prep.case import Case, CaseError
from data_prep.preparation import prepare_case
from data_prep.readers import ReaderError, read_mask, read_nifti, read_picture
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import RefusedError
from udt_cluster.storage import Location

SIDE = 176
"""Longest side of a thumbnail, pixels; two panels are twice as wide."""
_COLORS = 112
_GAP = 4
_DARK = (24, 28, 36)
# Colours that stay apart for colour-blind readers (after Okabe and Ito), those that show on tissue and on grey first.
CLASS_COLORS = ("#00b4ff", "#ff6ec7", "#00d68f", "#ff8c00", "#c0ff33", "#b08968", "#a99cff", "#e0e0e0")

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PictureTask:
    """Cases to draw side by side; small."""

    source: Location
    cases: tuple[Case, ...]
    config: DataConfig


@dataclass(frozen=True)
class Panel:
    """A picture, and what is drawn over it.

    Attributes:
        picture: (H, W, 3) uint8.
        edges: (H, W) int16: the class whose outline it is, -1 for the dark line around it, 0 for none.
    """

    picture: Rgb
    edges: npt.NDArray[np.int16]


def draw(task: PictureTask) -> bytes | None:
    """A PNG of up to two cases, or None where nothing of them can be drawn."""
    panels = [panel for case in task.cases for panel in _panels(task.source, case, task.config)]
    if not panels:
        return None
    height = max(len(panel.picture) for panel in panels)
    room = [(0, height - len(panel.picture)) for panel in panels]
    gaps = [(0, _GAP)] * (len(panels) - 1) + [(0, 0)]
    places = list(zip(panels, room, gaps, strict=True))
    picture = np.concatenate([np.pad(p.picture, (r, g, (0, 0)), constant_values=255) for p, r, g in places], axis=1)
    edges = np.concatenate([np.pad(p.edges, (r, g)) for p, r, g in places], axis=1)
    return _png(picture, edges)


def _png(picture: Rgb, edges: npt.NDArray[np.int16]) -> bytes:
    """A small file: few colours for the picture, and the exact ones for the outlines."""
    few = Image.fromarray(picture).quantize(_COLORS, dither=Image.Dither.NONE)
    palette = (few.getpalette() or [])[: 3 * _COLORS]
    palette += [0] * (3 * _COLORS - len(palette))
    drawn = np.asarray(few).copy()
    outlined = edges > 0
    drawn[outlined] = _COLORS + (edges[outlined] - 1) % len(CLASS_COLORS)
    drawn[edges < 0] = _COLORS + len(CLASS_COLORS)
    whole = Image.fromarray(drawn, "P")
    whole.putpalette(
        [*palette, *(part for index in range(1, len(CLASS_COLORS) + 1) for part in color_of(index)), *_DARK]
    )
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _panels(source: Location, case: Case, config: DataConfig) -> list[Panel]:
    try:
        pixels = prepare_case(source, case, config).pixels
    except (CaseError, RefusedError):
        return _panels_of_files(source, case)
    foreground = np.count_nonzero(pixels.labels, axis=(1, 2))
    chosen = int(np.argmax(foreground)) if foreground.any() else len(foreground) // 2
    shape = pixels.native_label.shape[1:] if config.resize == "stretch" else config.size
    return [_outlined(_as_rgb(pixels.images[chosen]), pixels.labels[chosen], shape)]


def _panels_of_files(source: Location, case: Case) -> list[Panel]:
    """What is wrong keeps them from being one sample, so each is shown for itself."""
    panels = []
    for keys, is_label in ((case.images, False), (case.labels, True)):
        picture = _decoded(source, keys[len(keys) // 2], is_label=is_label) if keys else None
        if picture is not None:
            how = Image.Resampling.NEAREST if is_label else Image.Resampling.BILINEAR
            fitted = _fitted(_as_rgb(picture), how)
            panels.append(Panel(fitted, np.zeros(fitted.shape[:2], np.int16)))
        if case.images == case.labels:
            break
    return panels


def _decoded(source: Location, key: str, *, is_label: bool) -> npt.NDArray[Any] | None:
    """(C, H, W) of a picture or of the middle slice of a volume, whatever its values are."""
    try:
        data = (source / key).read_bytes()
    except (FileNotFoundError, RefusedError):
        return None
    try:
        return read_mask(data)[None] if is_label else read_picture(data)
    except ReaderError:
        pass
    try:
        voxels = read_nifti(data).voxels
    except ReaderError:
        return None
    return voxels[None, len(voxels) // 2] if voxels.ndim == 3 else None


def _as_rgb(image: npt.NDArray[Any]) -> Rgb:
    """(C, H, W) as (H, W, 3): colours as they are, anything else in grey between its 1st and 99th percentile."""
    if len(image) == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image.transpose(1, 2, 0))
    plane = np.nan_to_num(image[0].astype(np.float64), posinf=0, neginf=0)
    low, high = np.percentile(plane, (1, 99))
    if low == high:
        low, high = float(plane.min()), float(plane.max())
    grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _outlined(picture: Rgb, label: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Panel:
    """The picture, as wide and high as it was, with a coloured edge inside of each class and a dark one outside."""
    fitted = _fitted(picture, Image.Resampling.BILINEAR, shape)
    height, width = fitted.shape[:2]
    small = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    around = np.pad(small, 1, mode="edge")
    shifted = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = np.any([other != small for other in shifted], axis=0)
    return Panel(fitted, np.where(edge, np.where(small > 0, small.astype(np.int16), np.int16(-1)), np.int16(0)))


def color_of(index: int) -> tuple[int, int, int]:
    """Red, green and blue of a class."""
    text = CLASS_COLORS[(index - 1) % len(CLASS_COLORS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _fitted(picture: Rgb, how: Image.Resampling, shape: tuple[int, ...] | None = None) -> Rgb:
    height, width = shape or picture.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, how))
