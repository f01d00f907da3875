"""NIfTI-1 and -2 volumes, read wholly, brought to canonical orientation, nothing of the header's text kept."""

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError

from data_prep.readers.base import ReaderError

MOST_BYTES = 8 * 2**30
_HEADER_BYTES = 1024
_MOST_GZIP_RATIO = 1100
_MOST_TRAILING_BYTES = 2**20
_SMALLEST_VOXEL = 1e-12
_TO_MM = {"meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A volume in canonical orientation.

    Attributes:
        voxels: (D, H, W) = (z, y, x): x grows to the right, y to the front, z to the head (RAS), or as near as that
            comes with slices that stay slices; see :func:`read_nifti`.
        affine: (4, 4), voxel (x, y, z) to mm.
        spacing: (3,), mm along D, H, W.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    spacing: npt.NDArray[np.float64]


def read_nifti(data: bytes) -> Volume:
    """Read a .nii or .nii.gz file.

    Axes are flipped and exchanged towards RAS by whole steps, without interpolation. The file's third axis stays the
    slice axis D: where an oblique stack (short-axis views) is nearer to another plane, axes are flipped only, since
    its slices would otherwise be cut across.

    Args:
        data: The file.

    Raises:
        ReaderError: no NIfTI, truncated, larger than its header or :data:`MOST_BYTES` allows, not three-dimensional,
            or without a usable voxel size.
    """
    image = _parse(data)
    shape = image.shape[:3] if image.ndim == 4 and image.shape[3] == 1 else image.shape
    if len(shape) != 3:
        raise ReaderError(f"has {len(shape)} dimensions {tuple(shape)}; a volume has three: store one frame per file")
    affine = np.asarray(image.affine, dtype=np.float64).copy()
    affine[:3] *= _TO_MM.get(image.header.get_xyzt_units()[0], 1.0)
    voxels = np.asanyarray(image.dataobj).reshape(shape)
    steps = _steps_to_canonical(affine)
    voxels = apply_orientation(voxels, steps).astype(voxels.dtype.newbyteorder("="), copy=False)
    affine = affine @ inv_ornt_aff(steps, shape)
    return Volume(
        voxels=np.ascontiguousarray(voxels.transpose(2, 1, 0)),
        affine=affine,
        spacing=voxel_sizes(affine)[::-1].copy(),
    )


def grid_difference(image: Volume, label: Volume) -> str | None:
    """What is different between the grids of an image and its label, or None (corners within a tenth of a voxel)."""
    if image.voxels.shape != label.voxels.shape:
        return f"the mask has {label.voxels.shape} voxels (D, H, W), the image {image.voxels.shape}"
    depth, height, width = image.voxels.shape
    ends = np.stack(np.meshgrid([0, width - 1], [0, height - 1], [0, depth - 1], [1]), axis=-1).reshape(-1, 4)
    apart = np.abs((image.affine - label.affine) @ ends.T).max() / image.spacing.min()
    return f"the mask lies {apart:.1f} voxels away from the image (their affines differ)" if apart > 0.1 else None


def _steps_to_canonical(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Nibabel's orientation array: for each axis of the file, the canonical axis it becomes, and its direction."""
    steps: npt.NDArray[np.float64] = io_orientation(affine)
    if steps[2, 0] != 2:
        steps[:, 0] = [0, 1, 2]
    return steps


def _parse(data: bytes) -> Any:
    try:
        whole = _decompressed(data) if data[:2] == b"\x1f\x8b" else data
        image_class, header = _header(whole)
        if len(whole) < _claimed_bytes(header):
            raise ReaderError(f"truncated: {len(whole):,} bytes, its header says {_claimed_bytes(header):,}")
        return image_class.from_bytes(whole)
    except ReaderError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, TypeError, OverflowError, KeyError) as error:
        raise ReaderError(f"broken or truncated NIfTI: {error}") from error
    except (ImageFileError, HeaderDataError) as error:
        raise ReaderError(f"not a usable NIfTI: {error}") from error


def _decompressed(data: bytes) -> bytes:
    """As many bytes as the header claims, if the file can hold so many; read to the end for gzip's checksum."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        start = stream.read(_HEADER_BYTES)
        claimed = _claimed_bytes(_header(start)[1])
        if claimed > len(data) * _MOST_GZIP_RATIO:
            raise ReaderError(f"its header claims {claimed:,} bytes, more than {len(data):,} compressed bytes can hold")
        rest = stream.read(max(0, claimed - len(start)))
        if len(stream.read(_MOST_TRAILING_BYTES)) == _MOST_TRAILING_BYTES:
            raise ReaderError(f"much longer than the {claimed:,} bytes that its header claims")
    return start + rest


def _header(start: bytes) -> tuple[Any, Any]:
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        header_class = image_class.header_class
        if header_class.may_contain_header(start[: header_class.sizeof_hdr]):
            header = header_class.from_fileobj(io.BytesIO(start[: header_class.sizeof_hdr]), check=False)
            _refuse_header(header)
            return image_class, header
    raise ReaderError("not a NIfTI file")


def _refuse_header(header: Any) -> None:
    kind = header.get_data_dtype()
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise ReaderError(f"voxels of type {kind} are not supported; allowed: integers and floats up to 64 bits")
    if min(header.get_data_shape(), default=0) < 1:
        raise ReaderError(f"has the shape {header.get_data_shape()}")
    affine = header.get_best_affine()
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < _SMALLEST_VOXEL:
        raise ReaderError(f"voxel sizes {voxel_sizes(affine).tolist()}: the header has no usable affine")
    if (claimed := _claimed_bytes(header)) > MOST_BYTES:
        raise ReaderError(f"its header claims {claimed:,} bytes; at most {MOST_BYTES:,} are read")


def _claimed_bytes(header: Any) -> int:
    voxels = 1
    for side in header.get_data_shape():
        voxels *= int(side)
    return int(header["vox_offset"]) + voxels * int(header.get_data_dtype().itemsize)
