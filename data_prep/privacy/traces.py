"""Which fields of a file carry text about a person: NIfTI headers, EXIF, PNG, TIFF, GIF, JPEG, HDF5 and DICOM."""

import gzip
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import nibabel as nib
from PIL import ExifTags, Image

from data_prep.privacy.dicom import dicom_traces
from data_prep.privacy.trace import Trace, TraceKind, words

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
_PNG_KEYWORDS = words(
    "Title Author Description Copyright Disclaimer Warning Source Comment Software XML:com.adobe.xmp"
) | {"Creation Time"}
_PERSON_TAGS = words(
    "Artist Copyright CameraOwnerName OwnerName XPAuthor BodySerialNumber LensSerialNumber GPSInfo HostComputer"
)
_TEXT_TAGS = words(
    """
    ImageDescription DocumentName PageName UserComment XPTitle XPComment XPSubject XPKeywords ImageUniqueID MakerNote
    DateTime DateTimeOriginal DateTimeDigitized ImageHistory XMLPacket IPTCNAA ImageResources SecurityClassification
    """
)
_TAG_NAMES: dict[int, str] = {**ExifTags.TAGS, 700: "XMLPacket", 33723: "IPTCNAA", 34377: "ImageResources"}
_NIFTI_TEXT = ("descrip", "db_name", "aux_file", "intent_name")
_NIFTI_START = 1024
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]{0,39}")
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, RuntimeError, zlib.error)


def traces(data: bytes) -> tuple[Trace, ...]:
    """Where this file has text that may be about a person, by its content and not by its name, sorted.

    A file that cannot be read has none: whoever needs its pixels says what is wrong with it.
    """
    if data[128:132] == b"DICM":
        return _sorted(dicom_traces(data))
    try:
        return _sorted(list(_of_format(data)))
    except (*_UNREADABLE, struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return ()


def _sorted(found: list[Trace]) -> tuple[Trace, ...]:
    return tuple(sorted(set(found), key=lambda trace: (trace.kind, trace.field)))


def _of_format(data: bytes) -> Iterator[Trace]:
    if data.startswith(b"\x89HDF"):
        yield from _hdf5(data)
    elif (start := _nifti_start(data)) is not None:
        yield from _nifti(start)
    else:
        if data.startswith(b"\x89PNG"):
            yield from _png(data)
        yield from _picture(data)


def _nifti_start(data: bytes) -> bytes | None:
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            data = stream.read(_NIFTI_START)
    kinds = (nib.Nifti1Header, nib.Nifti2Header)
    return data[:_NIFTI_START] if any(kind.may_contain_header(data[: kind.sizeof_hdr]) for kind in kinds) else None


def _nifti(start: bytes) -> Iterator[Trace]:
    kind = nib.Nifti1Header if nib.Nifti1Header.may_contain_header(start[: nib.Nifti1Header.sizeof_hdr]) else None
    kind = kind or nib.Nifti2Header
    header = kind.from_fileobj(io.BytesIO(start[: kind.sizeof_hdr]), check=False)
    for name in _NIFTI_TEXT:
        if name in header and (text := bytes(header[name].item()).strip(b"\0 ")):
            yield Trace("text", f"NIfTI {name}", len(text))
    if start[kind.sizeof_hdr : kind.sizeof_hdr + 1] not in (b"", b"\0"):
        yield Trace("text", "NIfTI extensions")


def _png(data: bytes) -> Iterator[Trace]:
    """Chunks, those behind the pixels too."""
    position = 8
    while position + 8 <= len(data):
        (length,), kind = struct.unpack(">I", data[position : position + 4]), data[position + 4 : position + 8]
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = data[position + 8 : position + 8 + min(length, 80)].partition(b"\0")[0].decode("latin-1")
            shown = keyword if keyword in _PNG_KEYWORDS else "with a keyword of its own"
            yield Trace("identifying" if keyword == "Author" else "text", f"PNG text {shown}", length)
        position += length + 12


def _picture(data: bytes) -> Iterator[Trace]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        tags: dict[int, Any] = dict(image.getexif().items())
        for folder in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            inner = image.getexif().get_ifd(folder)
            tags |= {ExifTags.IFD.GPSInfo: 1} if inner and folder == ExifTags.IFD.GPSInfo else dict(inner.items())
    tags |= dict(getattr(image, "tag_v2", {}).items())
    for tag, value in tags.items():
        name = _TAG_NAMES.get(int(tag), "")
        if value not in ("", b"", None) and name in _PERSON_TAGS | _TEXT_TAGS:
            kind: TraceKind = "identifying" if name in _PERSON_TAGS else "text"
            yield Trace(kind, f"{image.format} tag {name}" if image.format == "TIFF" else f"EXIF {name}", _size(value))
    for name in ("comment", "photoshop", "xmp"):
        if image.format in ("JPEG", "GIF") and image.info.get(name):
            yield Trace("text", f"{image.format} {name}", _size(image.info[name]))


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 0


def _hdf5(data: bytes) -> Iterator[Trace]:
    found: list[Trace] = []

    def visit(name: str, item: Any) -> None:
        for key in item.attrs:
            if h5py.check_string_dtype(item.attrs.get_id(key).dtype) or item.attrs.get_id(key).dtype.kind == "S":
                shown = key if _WORD.fullmatch(key) else "with a name of its own"
                found.append(Trace("text", f"HDF5 attribute {shown}", _size(item.attrs[key])))

    with h5py.File(io.BytesIO(data), "r") as file:
        visit("/", file)
        file.visititems(visit)
    yield from found
