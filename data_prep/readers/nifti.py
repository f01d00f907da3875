"""NIfTI-1 and -2 volumes, read wholly, brought to canonical orientation, nothing of the header's text kept."""

import gzip
import io
import math
import zlib
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from data_prep.readers.base import ReaderError
from data_prep.readers.volume import SliceAxis, Volume, canonical

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MOST_BYTES = 8 * 2**30
_HEADER_BYTES = 1024
_CHUNK_BYTES = 2**22
_MOST_GZIP_RATIO = 1100
_MOST_TRAILING_BYTES = 2**20
_SMALLEST_VOXEL = 1e-12
_TO_MM = {"meter": 1000.0, "micron": 0.001}


def read_nifti(data: bytes, *, axis: SliceAxis = "file", channels: int = 1) -> Volume:
    """Read a .nii or .nii.gz file; slope and intercept are applied, in float32.

    Args:
        data: The file.
        axis: What D is to be; see :func:`data_prep.readers.volume.canonical`.
        channels: With more than one, the file must have so many along its fourth axis, and the volume has them.

    Raises:
        ReaderError: no NIfTI, truncated, larger than its header or :data:`MOST_BYTES` allows, not three-dimensional,
            or without a usable voxel size.
    """
    header, whole = _parse(data)
    shape = _shape(tuple(int(side) for side in header.get_data_shape()), channels)
    affine = np.asarray(header.get_best_affine(), dtype=np.float64).copy()
    affine[:3] *= _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    stored = np.frombuffer(whole, header.get_data_dtype(), math.prod(shape), int(header["vox_offset"]))
    volume = canonical(stored.reshape(shape, order="F"), affine, axis)
    return Volume(voxels=_values(volume.voxels, header), affine=volume.affine, spacing=volume.spacing)


def _shape(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """(X, Y, Z), or (X, Y, Z, C) where channels are asked for; axes of length 1 behind these are dropped."""
    wanted = 3 if channels == 1 else 4
    kept = shape[:wanted] if all(side == 1 for side in shape[wanted:]) else shape
    if channels > 1 and kept[3:] != (channels,):
        raise ReaderError(f"has the shape {shape}; with {channels} channels it must be (x, y, z, {channels})")
    if len(kept) != wanted:
        raise ReaderError(f"has {len(kept)} dimensions {kept}; a volume has three: store one frame per file")
    return kept


def _values(stored: npt.NDArray[Any], header: Any) -> npt.NDArray[Any]:
    """What is stored, as it is meant: one contiguous copy in native byte order, none where it is that already."""
    slope, intercept = _scaling(header)
    if (slope, intercept) == (1.0, 0.0):
        return np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))
    scaled = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for plane, target in zip(stored, scaled, strict=True):
            target[...] = plane.astype(np.float64) * slope + intercept
    return scaled


def _scaling(header: Any) -> tuple[float, float]:
    slope, intercept = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _parse(data: bytes) -> tuple[Any, bytes | bytearray]:
    """The header, checked, and the whole file, decompressed."""
    try:
        whole = _decompressed(data) if data[:2] == b"\x1f\x8b" else data
        header = _header(whole)
        if len(whole) < _claimed_bytes(header):
            raise ReaderError(
                f"truncated: {len(whole):,} bytes, its header says {_claimed_bytes(header):,}; copy it again"
            )
        header.check_fix()
        _scaling(header)
    except ReaderError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, TypeError, OverflowError, KeyError) as error:
        kind = type(error).__name__
        raise ReaderError(f"broken or truncated NIfTI ({kind}); copy it again, or convert it again") from None
    except (ImageFileError, HeaderDataError) as error:
        raise ReaderError(f"not a usable NIfTI ({type(error).__name__}); convert it again") from None
    return header, whole


def _decompressed(data: bytes) -> bytes | bytearray:
    """As many bytes as the header claims, if the file can hold so many; read to the end for gzip's checksum."""
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        start = stream.read(_HEADER_BYTES)
        claimed = _claimed_bytes(_header(start))
        if claimed > len(data) * _MOST_GZIP_RATIO:
            raise ReaderError(f"its header claims {claimed:,} bytes, more than {len(data):,} compressed bytes can hold")
        whole = bytearray(start)
        if claimed > len(start):
            whole = bytearray(claimed)
            _fill(memoryview(whole), start, stream)
        if len(stream.read(_MOST_TRAILING_BYTES)) == _MOST_TRAILING_BYTES:
            raise ReaderError(f"much longer than the {claimed:,} bytes that its header claims")
    return whole


def _fill(target: memoryview, start: bytes, stream: gzip.GzipFile) -> None:
    """Piece by piece, so that the file is in memory once."""
    target[: len(start)] = start
    filled = len(start)
    while filled < len(target):
        piece = stream.read(min(_CHUNK_BYTES, len(target) - filled))
        if not piece:
            raise ReaderError(f"truncated: {filled:,} bytes, its header says {len(target):,}; copy it again")
        target[filled : filled + len(piece)] = piece
        filled += len(piece)


def _header(start: bytes | bytearray) -> Any:
    for header_class in (nib.Nifti1Header, nib.Nifti2Header):
        first = bytes(start[: header_class.sizeof_hdr])
        if header_class.may_contain_header(first):
            header = header_class.from_fileobj(io.BytesIO(first), check=False)
            _refuse_header(header)
            return header
    raise ReaderError("not a NIfTI file; convert it to .nii.gz")


def _refuse_header(header: Any) -> None:
    if not bytes(header["magic"]).startswith(b"n+"):
        raise ReaderError("half of a .hdr/.img pair; convert it to one .nii.gz file")
    kind = header.get_data_dtype()
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise ReaderError(f"voxels of type {kind} are not supported; allowed: integers and floats up to 64 bits")
    if min(header.get_data_shape(), default=0) < 1:
        raise ReaderError(f"has the shape {header.get_data_shape()}")
    affine = header.get_best_affine()
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < _SMALLEST_VOXEL:
        raise ReaderError(
            f"voxel sizes {voxel_sizes(affine).tolist()}: the header has no usable affine; convert it again from the "
            "original"
        )
    if (claimed := _claimed_bytes(header)) > MOST_BYTES:
        raise ReaderError(f"its header claims {claimed:,} bytes; at most {MOST_BYTES:,} are read")


def _claimed_bytes(header: Any) -> int:
    voxels = math.prod(int(side) for side in header.get_data_shape())
    return int(header["vox_offset"]) + voxels * int(header.get_data_dtype().itemsize)
