"""What the readers decide about a file without asking: policies that somebody may want to know of."""

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes
from PIL import Image

from data_prep.readers.volume import MOST_APART

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
_NIFTI_START = 1024
_SMALLEST = 1e-12
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, RuntimeError, zlib.error)


_MAGICS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"GIF8",
    b"\x1f\x8b",
    b"\x89HDF",
    b"PK",
    b"\x93NUMPY",
)


def is_known(data: bytes) -> bool:
    """Whether a file is empty, or begins as one of an allowed format: if it cannot be read, it is broken."""
    return not data or data.startswith(_MAGICS) or data[128:132] == b"DICM"


def decisions(data: bytes, *, is_image: bool, is_label: bool) -> tuple[str, ...]:
    """Lines such as "paletted: its colours are taken" of one file; none of a file that cannot be read."""
    try:
        if data[128:132] == b"DICM":
            return tuple(_dicom(data))
        nifti = tuple(_nifti(data)) if data[:2] == b"\x1f\x8b" or data[344:348] in (b"n+1\0", b"ni1\0") else None
        return nifti if nifti is not None else tuple(_picture(data, is_image=is_image, is_label=is_label))
    except (*_UNREADABLE, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ()


def doubts(data: bytes) -> tuple[str, ...]:
    """Lines about a file that says two things, of which one was taken; none of a file that cannot be read."""
    if data[:2] != b"\x1f\x8b" and data[344:348] not in (b"n+1\0", b"ni1\0"):
        return ()
    try:
        return tuple(_two_places(_header(data)))
    except _UNREADABLE:
        return ()


def _two_places(header: Any) -> Iterator[str]:
    """A NIfTI may say twice where it lies."""
    if header is None or not (int(header["sform_code"]) and int(header["qform_code"])):
        return
    sform, qform = header.get_sform(), header.get_qform()
    ends = np.stack(np.meshgrid(*([0, side - 1] for side in header.get_data_shape()[:3]), [1]), axis=-1).reshape(-1, 4)
    apart = np.abs((sform - qform) @ ends.T).max() / max(float(voxel_sizes(sform).min()), _SMALLEST)
    if not apart <= MOST_APART:
        one, other = _described(sform), _described(qform)
        how = f"sform {one}, qform {other}" if one != other else f"both {one}, in another place or turned a little"
        yield f"the header says twice where the volume lies, and not the same: {how}; the sform is taken"


def _described(affine: npt.NDArray[np.float64]) -> str:
    """Such as `RAS 1 x 1 x 2.5 mm`: where the axes lead to, and how large a voxel is."""
    axes = "".join(name or "?" for name in aff2axcodes(affine))
    return f"{axes} {' x '.join(f'{mm:.3g}' for mm in voxel_sizes(affine))} mm"


def _picture(data: bytes, *, is_image: bool, is_label: bool) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.mode == "P":
        yield (
            "paletted mask: its indices, not its colours, are the labels"
            if is_label
            else ("paletted image: its colours are taken")
        )
    if image.mode == "1":
        yield "1-bit mask: its values are 0 and 1" if is_label else "1-bit image: its values become 0 and 255"
    if image.mode in ("LA", "RGBA"):
        yield "an alpha channel that is opaque everywhere is left out"
    if image.mode == "YCbCr":
        yield "YCbCr is converted to RGB"
    if image.mode.startswith("I;16"):
        yield "16-bit values are kept as they are"
    if image.format == "JPEG" and is_image:
        yield "JPEG image: compressed with loss before it came here"


def _header(data: bytes) -> Any:
    """The NIfTI header of a file, or None."""
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            data = stream.read(_NIFTI_START)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(data[: kind.sizeof_hdr]):
            return kind.from_fileobj(io.BytesIO(data[: kind.sizeof_hdr]), check=False)
    return None


def _nifti(data: bytes) -> Iterator[str]:
    header = _header(data)
    if header is None:
        return
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        yield "values are scaled by the slope and intercept of the header"
    stored = header.get_data_dtype()
    if stored.itemsize > 4 and stored.kind == "f":
        yield "64-bit floats are kept as 32-bit floats"
    if stored.newbyteorder("=") != stored and np.dtype(stored).itemsize > 1:
        yield "big-endian values are turned round"


def _dicom(data: bytes) -> Iterator[str]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from data_prep.readers.dicom_meta import refuse_container

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refuse_container(data)
            dataset = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["PhotometricInterpretation"])
    except (InvalidDicomError, AttributeError, RuntimeError):
        return
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        yield "MONOCHROME1: values are inverted, so that high is bright as everywhere else"
