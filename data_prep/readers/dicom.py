"""DICOM files: what discovery needs of a header, and the frames of an image or a segmentation.

Only the elements that are named here are ever parsed; names, dates, descriptions and private elements stay where they
are, and no message quotes a value of the header (DICOM PS3.15, Annex E: any text may identify somebody).
"""

import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.filereader import read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import BaseTag, Tag

from data_prep.readers.base import ReaderError
from data_prep.readers.dicom_meta import BROKEN, refuse_container

MOST_BYTES = 8 * 2**30
START_BYTES = 2**16
"""So many bytes of a file usually hold all that :func:`read_header` looks for."""
_MOST_RATIO = 1100
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_LAST_OF_HEADER = Tag(0x0028, 0xFFFF)
_OF_HEADER = (
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "ReferencedSeriesSequence",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "NumberOfFrames",
    "Rows",
)
_OF_FRAMES = (
    "SOPInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SegmentationType",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
    "SourceImageSequence": "DerivationImageSequence",
}
"""Where a multi-frame object keeps the elements of its frames."""
_BROKEN = (*BROKEN, UnboundLocalError, NotImplementedError, pydicom.errors.BytesLengthException)

Array = npt.NDArray[Any]

# Its log quotes values of headers.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


@dataclass(frozen=True, kw_only=True)
class DicomHeader:
    """What groups files to series and patients. It identifies a patient: none of it may be stored or shown.

    Attributes:
        kind: An image, a segmentation of one, or anything else.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        patient: PatientID; empty where there is none.
        segmented: The series that a segmentation refers to.
        placed: Whether the file knows where its image lies in the body.
    """

    kind: Literal["image", "segmentation", "other"]
    series: str
    instance: str
    patient: str
    segmented: tuple[str, ...]
    placed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of an image or a segmentation.

    Attributes:
        pixels: (H, W) or (H, W, 3) as stored, MONOCHROME1 turned so that bright is bright.
        slope: Times the stored value,
        intercept: and this added, is what it means (Hounsfield units for CT).
        position: (3,), mm of the middle of the first pixel, to the left, to the back, to the head; None: unknown.
        directions: (2, 3), along a row and along a column of the image; None: unknown.
        spacing: mm between rows, and between columns; NaN where unknown.
        thickness: mm; NaN where unknown.
        instance: SOPInstanceUID of the image; of a segmentation's frame, that of the image that it is drawn on.
        segment: Number of the segment; 0 for images and label maps.
    """

    pixels: Array
    slope: float
    intercept: float
    position: npt.NDArray[np.float64] | None
    directions: npt.NDArray[np.float64] | None
    spacing: tuple[float, float]
    thickness: float
    instance: str
    segment: int = 0


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Keep pydicom's warnings, which quote values of headers, out of logs. Not for use in several threads at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(data: bytes, *, complete: bool) -> DicomHeader | None:
    """What a file is and belongs to; None where these bytes of it do not tell.

    Args:
        data: The file, or its start.
        complete: Whether it is the whole file.

    Raises:
        ReaderError: no DICOM file, or a broken one.
    """
    refuse_container(data)
    passed = False

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal passed
        passed = int(tag) > int(_LAST_OF_HEADER)
        return passed

    try:
        with _reader_errors():
            dataset = read_partial(io.BytesIO(data), stop, specific_tags=[Tag(name) for name in _OF_HEADER])
            return _header(dataset) if passed or complete else None
    except ReaderError:
        if complete:
            raise
        return None


def read_frames(data: bytes) -> Iterator[Frame]:
    """The frames of an image, one after the other: one, or those of an enhanced multi-frame object.

    Raises:
        ReaderError: no image, truncated, compressed in a way that nothing here decodes, too large, with a palette or a
            table of values, or with several frames and no positions.
    """
    dataset = _dataset(data)
    frames = _number_of_frames(dataset)
    if frames > 1 and _element(dataset, 0, "ImagePositionPatient") is None:
        raise ReaderError(f"{frames} frames without positions in the body (a film?); store each image as a file")
    if "ModalityLUTSequence" in dataset:
        raise ReaderError("its values need a table (Modality LUT), which is not supported; export it with a slope")
    return _frames(dataset, len(data))


def read_segments(data: bytes) -> tuple[dict[int, str], Iterator[Frame]]:
    """The label of each segment by its number, and the frames of all segments.

    Raises:
        ReaderError: as :func:`read_frames`, and for fractional segmentations.
    """
    dataset = _dataset(data)
    with _reader_errors():
        if dataset.get("SegmentationType") == "FRACTIONAL":
            raise ReaderError("a fractional segmentation; store it as a binary one, at the threshold that you mean")
        segments = dataset.get("SegmentSequence") or []
        labels = {int(segment.SegmentNumber): str(segment.get("SegmentLabel", "")) for segment in segments}
    return labels, _frames(dataset, len(data))


def _header(dataset: Dataset) -> DicomHeader:
    kind: Literal["image", "segmentation", "other"] = "image" if "Rows" in dataset else "other"
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class in _SEGMENTATIONS:
        kind = "segmentation"
    elif sop_class == _DOSE:
        kind = "other"
    if kind == "image" and not dataset.get("SeriesInstanceUID"):
        raise ReaderError("has no SeriesInstanceUID: it cannot be told which series it belongs to; export it again")
    references = dataset.get("ReferencedSeriesSequence") or []
    return DicomHeader(
        kind=kind,
        series=str(dataset.get("SeriesInstanceUID", "")),
        instance=str(dataset.get("SOPInstanceUID", "")),
        patient=str(dataset.get("PatientID") or "").strip(),
        segmented=tuple(str(reference.get("SeriesInstanceUID", "")) for reference in references),
        placed=bool(dataset.get("ImagePositionPatient")) or _number_of_frames(dataset) > 1,
    )


def _dataset(data: bytes) -> Dataset:
    """The elements that frames need.

    Raises:
        ReaderError: see :func:`read_frames`.
    """
    refuse_container(data)
    with _reader_errors():
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(_OF_FRAMES))
        _refuse_pixels(dataset, len(data))
        return dataset


def _refuse_pixels(dataset: Dataset, size: int) -> None:
    """Everything that can be said before the pixels are decoded."""
    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    found = [name for name in names if name in dataset]
    if not found or "Rows" not in dataset:
        raise ReaderError("has no pixels, or is truncated before them; copy it again, or leave it out")
    photometric = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if photometric not in _PHOTOMETRIC:
        raise ReaderError(
            "its pixels have a palette, or are of another kind than grey or RGB; convert it to one of these"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not _decodable(syntax):
        name = "an unknown syntax" if syntax.name == syntax else syntax.name
        raise ReaderError(f"compressed as {name}, which nothing here decodes; store it uncompressed (gdcmconv --raw)")
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(found[0], int(dataset.get("BitsAllocated", 16)))
    values = math.prod(int(dataset.get(name, 1) or 1) for name in ("Rows", "Columns", "SamplesPerPixel"))
    claimed = math.ceil(_number_of_frames(dataset) * values * bits / 8)
    if claimed > min(MOST_BYTES, size * _MOST_RATIO):
        raise ReaderError(f"claims {claimed:,} bytes of pixels; {size:,} bytes cannot hold them")
    if not syntax.is_compressed and photometric != "YBR_FULL_422" and len(dataset[found[0]].value) < claimed:
        there = len(dataset[found[0]].value)
        raise ReaderError(f"truncated: {there:,} bytes of pixels, its header says {claimed:,}; copy it again")


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _number_of_frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _frames(dataset: Dataset, size: int) -> Iterator[Frame]:
    with _reader_errors():
        for index, pixels in enumerate(iter_pixels(dataset)):
            yield _frame(dataset, index, pixels)


def _frame(dataset: Dataset, index: int, pixels: Array) -> Frame:
    position = _numbers(dataset, index, "ImagePositionPatient", 3)
    directions = _numbers(dataset, index, "ImageOrientationPatient", 6)
    spacing = _numbers(dataset, index, "PixelSpacing", 2)
    if spacing is None:
        spacing = _numbers(dataset, index, "ImagerPixelSpacing", 2)
    return Frame(
        pixels=_bright(pixels, dataset) if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else pixels,
        slope=_number(dataset, index, "RescaleSlope", 1.0),
        intercept=_number(dataset, index, "RescaleIntercept", 0.0),
        position=position,
        directions=None if directions is None else directions.reshape(2, 3),
        spacing=(math.nan, math.nan) if spacing is None else (float(spacing[0]), float(spacing[1])),
        thickness=_number(dataset, index, "SliceThickness", math.nan),
        instance=_instance(dataset, index),
        segment=int(_number(dataset, index, "ReferencedSegmentNumber", 0)),
    )


def _bright(pixels: Array, dataset: Dataset) -> Array:
    """Stored values from the other end of their range, so that every slice of a series is turned alike."""
    bits = int(dataset.get("BitsStored", 16))
    ends = -1 if int(dataset.get("PixelRepresentation", 0)) else 2**bits - 1
    turned = ends - pixels.astype(np.int64)
    return turned.astype(pixels.dtype) if turned.min() >= 0 else turned


def _instance(dataset: Dataset, index: int) -> str:
    if "SegmentSequence" not in dataset:
        return str(dataset.get("SOPInstanceUID", ""))
    sources = _element(dataset, index, "SourceImageSequence")
    return str(sources[0].get("ReferencedSOPInstanceUID", "")) if sources else ""


def _element(dataset: Dataset, index: int, name: str) -> Any:
    """An element of a frame: its own, else that of all frames, else that of the file; None where it is nowhere."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *shared[:1]):
        if found := groups.get(_GROUP_OF.get(name, "")):
            return found[0].get(name)
    return dataset.get(name)


def _numbers(dataset: Dataset, index: int, name: str, count: int) -> npt.NDArray[np.float64] | None:
    values = _element(dataset, index, name)
    if values is None:
        return None
    numbers = np.array([float(value) for value in values], dtype=np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ReaderError(f"its {name} is not {count} numbers; export it again")
    return numbers


def _number(dataset: Dataset, index: int, name: str, default: float) -> float:
    value = _element(dataset, index, name)
    number = default if value is None else float(value)
    if value is not None and not math.isfinite(number):
        raise ReaderError(f"its {name} is not a number; export it again")
    return number


@contextmanager
def _reader_errors() -> Iterator[None]:
    """Whatever pydicom raises, without its text, which may quote the header."""
    try:
        yield
    except ReaderError:
        raise
    except _BROKEN as error:
        raise ReaderError(f"broken or truncated DICOM ({type(error).__name__}); copy it again") from None
