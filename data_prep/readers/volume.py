"""Volumes in one orientation, whichever way their file stores them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

SliceAxis = Literal["axial", "coronal", "sagittal", "file"]
"""Along which axis of the body slices follow each other; `file`: the third axis of the file."""

_PLANES: dict[SliceAxis, tuple[int, int, int]] = {
    "file": (0, 1, 2),
    "axial": (0, 1, 2),
    "coronal": (0, 2, 1),
    "sagittal": (1, 2, 0),
}
"""Which axes of the body (0 = right, 1 = front, 2 = head) W, H and D are."""
MOST_APART = 0.1
"""Voxels by which the corners of two grids may differ."""
_REMEDY = "resample it to the image's grid (nearest neighbour for masks), or correct its header"


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A volume in canonical orientation.

    Attributes:
        voxels: (D, H, W), or (D, C, H, W) where the file has channels. Every axis grows to the right, to the front or
            to the head (RAS), or as near as that comes with slices that stay slices; see :func:`canonical`.
        affine: (4, 4), voxel (along W, H, D) to mm.
        spacing: (3,), mm along D, H, W.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    spacing: npt.NDArray[np.float64]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return (self.voxels.shape[0], *self.voxels.shape[-2:])


def canonical(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], axis: SliceAxis = "file") -> Volume:
    """Flip and exchange axes towards RAS by whole steps, without interpolation and without a copy.

    With `file`, the third axis stays the slice axis D: where an oblique stack (short-axis views) is nearer to another
    plane, axes are flipped only, since its slices would otherwise be cut across. With an axis of the body, D is the
    axis of the file that is nearest to it.

    Args:
        voxels: (X, Y, Z), or (X, Y, Z, C).
        affine: (4, 4), voxel (x, y, z) to mm, x to the right, y to the front, z to the head.
        axis: What D is to be.
    """
    steps = io_orientation(affine)
    if axis == "file" and steps[2, 0] != 2:
        steps[:, 0] = [0, 1, 2]
    turned = apply_orientation(voxels, steps)
    across, down, deep = _PLANES[axis]
    turned_affine = (affine @ inv_ornt_aff(steps, voxels.shape[:3]))[:, [across, down, deep, 3]]
    channels = (3,) if voxels.ndim == 4 else ()
    return Volume(
        voxels=turned.transpose(deep, *channels, down, across),
        affine=turned_affine,
        spacing=voxel_sizes(turned_affine)[::-1].copy(),
    )


def grid_difference(image: Volume, label: Volume, what: str = "the mask") -> str | None:
    """What is different between the grids of two volumes, or None (corners within a tenth of a voxel).

    Args:
        image: The one that is right.
        label: The one that has to fit.
        what: What the message calls `label`.
    """
    if image.grid != label.grid:
        return f"{what} has {label.grid} voxels (D, H, W), the image {image.grid}; {_REMEDY}"
    depth, height, width = image.grid
    ends = np.stack(np.meshgrid([0, width - 1], [0, height - 1], [0, depth - 1], [1]), axis=-1).reshape(-1, 4)
    apart = np.abs((image.affine - label.affine) @ ends.T).max() / image.spacing.min()
    if apart <= MOST_APART:
        return None
    return f"{what} lies {apart:.1f} voxels away from the image (their affines differ); {_REMEDY}"
