"""The slices of a DICOM series as a volume: sorted by where they lie, refused where one is missing or unlike others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.readers.base import ReaderError, store_precision
from data_prep.readers.dicom import Frame
from data_prep.readers.volume import Volume, canonical

Vector = npt.NDArray[np.float64]

_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3
_EVEN = 0.1
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A frame and the file that it comes from."""

    key: str
    frame: Frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A volume with its slices in order.

    Attributes:
        pixels: (D, H, W) or (D, H, W, 3) as they lie in the files, in a type that the store has, slope applied.
        slices: The frame of each slice, without its pixels.
        affine: (4, 4), voxel (column, row, slice) to mm, to the right, to the front, to the head; NaN where unknown.
    """

    pixels: npt.NDArray[Any]
    slices: tuple[Placed, ...]
    affine: Vector

    @cached_property
    def positions(self) -> Vector | None:
        """(D, 3), mm of the middle of each slice's first pixel, as in the files; None where unknown."""
        found = [placed.frame.position for placed in self.slices if placed.frame.position is not None]
        return np.stack(found) if len(found) == len(self.slices) else None

    def turned(self, values: npt.NDArray[Any]) -> Volume:
        """Values (D, H, W) or (D, H, W, C), as they lie in the files, in canonical orientation: a view."""
        if np.isnan(self.affine).any():
            planes = values if values.ndim == 3 else np.moveaxis(values, -1, 1)
            return Volume(voxels=planes, affine=self.affine, spacing=np.array([np.nan, *self.slices[0].frame.spacing]))
        volume = canonical(values.transpose(2, 1, 0, *range(3, values.ndim)), self.affine)
        if len(self.slices) == 1 and np.isnan(self.slices[0].frame.thickness):
            volume.spacing[0] = np.nan
        return volume


def stack(frames: Sequence[Placed]) -> Series:
    """Put the frames of a series in order.

    Args:
        frames: Of one series, at least one; in any order.

    Raises:
        ReaderError: their sizes, spacings or directions differ, some lie in one place, one is missing between others,
            or they are tilted against each other.
    """
    _refuse_mixed(frames)
    if frames[0].frame.position is None or frames[0].frame.directions is None:
        return Series(pixels=_values([p.frame for p in frames]), slices=_bare(frames), affine=np.full((4, 4), np.nan))
    normal = np.cross(*frames[0].frame.directions)
    ordered = sorted(frames, key=lambda placed: float(normal @ _position(placed)))
    affine = _affine(ordered, _step(ordered, normal))
    return Series(pixels=_values([placed.frame for placed in ordered]), slices=_bare(ordered), affine=affine)


def _bare(frames: Sequence[Placed]) -> tuple[Placed, ...]:
    nothing = np.empty(0)
    return tuple(replace(placed, frame=replace(placed.frame, pixels=nothing)) for placed in frames)


def _position(placed: Placed) -> Vector:
    assert placed.frame.position is not None
    return placed.frame.position


def _refuse_mixed(frames: Sequence[Placed]) -> None:
    """Everything that must be the same in all slices."""
    first = frames[0]
    for other in frames:
        a, b = first.frame, other.frame
        if len(frames) > 1 and (b.position is None or b.directions is None):
            raise ReaderError(f"{other.key} has no position in the body, so its place among the slices is unknown")
        if a.pixels.shape != b.pixels.shape:
            raise ReaderError(
                f"{other.key} has {_size(b)} pixels, {first.key} {_size(a)}: one size a series; leave the odd one out"
            )
        if a.directions is not None and b.directions is not None:
            if np.abs(a.directions - b.directions).max() > _SAME_DIRECTION:
                raise ReaderError(f"{other.key} is not parallel to {first.key}; leave localizers and other planes out")
            if np.isnan(b.spacing).any():
                raise ReaderError(f"{other.key} has no PixelSpacing; export it again")
            if np.abs(b.directions @ b.directions.T - np.eye(2)).max() > _SAME_DIRECTION:
                raise ReaderError(f"{other.key}: the directions of its rows and columns are not at right angles")
        if not np.allclose(a.spacing, b.spacing, rtol=_SAME_SPACING, equal_nan=True):
            raise ReaderError(f"{other.key} has pixels of {b.spacing} mm, {first.key} {a.spacing} mm; resample them")


def _size(frame: Frame) -> str:
    return " x ".join(map(str, frame.pixels.shape))


def _step(ordered: Sequence[Placed], normal: Vector) -> Vector:
    """From a slice to the next, mm, as a vector; of a single slice, its thickness."""
    if len(ordered) == 1:
        thickness = ordered[0].frame.thickness
        return normal * (thickness if thickness > 0 else 1.0)
    positions = np.stack([_position(placed) for placed in ordered])
    steps = np.diff(positions @ normal)
    usual = float(np.median(steps))
    for before, after, step in zip(ordered, ordered[1:], steps.tolist(), strict=False):
        between = f"{before.key} and {after.key}"
        if step <= _EVEN * usual:
            raise ReaderError(f"{between} lie in one place; leave copies out, and store one time or echo per series")
        if step > (1 + _EVEN) * usual or step < (1 - _EVEN) * usual:
            raise ReaderError(
                f"{between} are {step:.2f} mm apart, slices usually {usual:.2f} mm: some are missing, or unevenly "
                "spaced; add them, or resample the series"
            )
    whole: Vector = (positions[-1] - positions[0]) / (len(ordered) - 1)
    tilt = float(np.linalg.norm(whole - normal * (whole @ normal))) / usual
    if tilt > _EVEN:
        raise ReaderError(
            f"slices are tilted by {np.degrees(np.arctan(tilt)):.1f} degrees (gantry tilt); resample them"
        )
    return whole


def _affine(ordered: Sequence[Placed], step: Vector) -> Vector:
    first = ordered[0].frame
    assert first.directions is not None
    rows, columns = first.spacing
    affine = np.eye(4)
    axes = np.stack([first.directions[0] * columns, first.directions[1] * rows, step, _position(ordered[0])], axis=1)
    affine[:3] = _TO_RAS @ axes
    return affine


def _values(frames: Sequence[Frame]) -> npt.NDArray[Any]:
    """(D, H, W[, 3]) in the smallest type of the store that holds all values of the series."""
    kind = _kind(frames)
    values = np.empty((len(frames), *frames[0].pixels.shape), dtype=kind)
    for target, frame in zip(values, frames, strict=True):
        if (frame.slope, frame.intercept) == (1.0, 0.0):
            target[...] = frame.pixels
        else:
            target[...] = frame.pixels.astype(np.float64) * frame.slope + frame.intercept
    return store_precision(values)


def _kind(frames: Sequence[Frame]) -> npt.DTypeLike:
    stored = {frame.pixels.dtype for frame in frames}
    whole = all(float(f.slope).is_integer() and float(f.intercept).is_integer() for f in frames)
    if not whole or any(kind.kind == "f" for kind in stored):
        return np.float32
    ends = [
        float(end) * frame.slope + frame.intercept
        for frame in frames
        for end in (frame.pixels.min(), frame.pixels.max())
    ]
    low, high = min(ends), max(ends)
    kinds = (np.uint8, np.int16, np.uint16) if stored == {np.dtype(np.uint8)} else (np.int16, np.uint16)
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, np.float32)
