"""DICOM files as scanners and annotators write them, with identifying text wherever there is room for it."""

from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)

SIDE, DEPTH = 16, 5
CANARY = "CANARY^JOHN"
AXIAL = [1, 0, 0, 0, 1, 0]


def header(sop_class: str, series: str, patient: str) -> Dataset:
    """A data set with identifying text wherever a scanner or a person puts it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = series, generate_uid()
    data.PatientID, data.PatientName, data.PatientBirthDate = patient, CANARY, "19700101"
    data.SeriesDescription = data.InstitutionName = data.StudyID = "CANARY"
    data.private_block(0x0009, CANARY, create=True).add_new(0x01, "LO", CANARY)
    return data


def pixels_of(data: Dataset, values: np.ndarray, **more: object) -> Dataset:
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in more.items():
        setattr(data, name, value)
    return data


def save(data: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


VOXELS = np.arange(DEPTH * SIDE * SIDE, dtype=np.uint16).reshape(DEPTH, SIDE, SIDE)


def ct_slice(series: str, number: int, patient: str = "4711", **more: object) -> Dataset:
    """One slice of 1 x 0.5 mm pixels, 2.5 mm apart; rows along the left-right axis, columns towards the back."""
    return pixels_of(
        header(CTImageStorage, series, patient),
        VOXELS[number],
        **{
            "ImagePositionPatient": [-10, -20, 30 + 2.5 * number],
            "ImageOrientationPatient": AXIAL,
            "PixelSpacing": [1, 0.5],
            "SliceThickness": 5,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            **more,
        },
    )


def segmentation(slices: list[Dataset], segments: dict[int, tuple[str, np.ndarray]], **more: object) -> Dataset:
    """A binary DICOM segmentation: a frame for each segment and slice that it is on."""
    data = header(SegmentationStorage, generate_uid(), str(slices[0].PatientID))
    reference, measures, orientation = Dataset(), Dataset(), Dataset()
    reference.SeriesInstanceUID = slices[0].SeriesInstanceUID
    data.ReferencedSeriesSequence = Sequence([reference])
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, 5
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.SegmentSequence, data.PerFrameFunctionalGroupsSequence, frames = Sequence(), Sequence(), []
    for number, (label, mask) in segments.items():
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, label
        data.SegmentSequence.append(segment)
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            data.PerFrameFunctionalGroupsSequence.append(segment_frame(slices[index], number))
            frames.append(mask[index])
    bits = np.packbits(np.stack(frames).ravel().astype(np.uint8), bitorder="little").tobytes()
    pixels_of(data, np.zeros((SIDE, SIDE), np.uint8), SegmentationType="BINARY", NumberOfFrames=len(frames))
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit, data.PixelData = 0, bits + b"\0" * (len(bits) % 2)
    for name, value in more.items():
        setattr(data, name, value)
    return data


def segment_frame(image: Dataset, number: int) -> Dataset:
    position, identification, source, derivation, frame = (Dataset() for _ in range(5))
    position.ImagePositionPatient = image.get("ImagePositionPatient")
    identification.ReferencedSegmentNumber = number
    source.ReferencedSOPInstanceUID = image.SOPInstanceUID
    derivation.SourceImageSequence = Sequence([source])
    frame.SegmentIdentificationSequence = Sequence([identification])
    frame.DerivationImageSequence = Sequence([derivation])
    if position.ImagePositionPatient is not None:
        frame.PlanePositionSequence = Sequence([position])
    return frame


def masks() -> tuple[np.ndarray, np.ndarray]:
    liver, tumour = np.zeros((2, DEPTH, SIDE, SIDE), bool)
    liver[1:4, 2:9, 3:7] = True
    tumour[2, 10:13, 1:4] = True
    return liver, tumour


def nifti_of(values: np.ndarray, path: Path, shift: float = 0.0) -> None:
    """What a converter makes of the series: voxel (column, row, slice), mm to the right, to the front, to the head."""
    affine = np.array([[-0.5, 0, 0, 10 + shift], [0, -1, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.transpose(2, 1, 0).astype(np.uint8), affine), path)
