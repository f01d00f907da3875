"""What the readers decide about a file without asking: policies that somebody may want to know of."""

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator

import nibabel as nib
import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
_NIFTI_START = 1024
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


def _nifti(data: bytes) -> Iterator[str]:
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            data = stream.read(_NIFTI_START)
    kind = next((k for k in (nib.Nifti1Header, nib.Nifti2Header) if k.may_contain_header(data[: k.sizeof_hdr])), None)
    if kind is None:
        return
    header = kind.from_fileobj(io.BytesIO(data[: kind.sizeof_hdr]), check=False)
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
