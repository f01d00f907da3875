"""Text about persons in files and names: told of, and neither in a report nor in a store (row S9)."""

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from data_prep import InProcessExecutor
from data_prep.check import check_source
from data_prep.privacy import Pseudonyms
from tests.checked_sources import CASES, check, config, objects, of, only, picture, prepared, save

CANARY = "Mustermann^Erika 1954-03-17 MRN0012345"
WORDS = ("Mustermann", "Erika", "1954", "MRN0012345")


def test_fault_S9_text_about_persons_is_in_no_report_and_in_no_store(
    pairs: Path, volumes: Path, tmp_path: Path
) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", CANARY)
    save(pairs / "images/c0.png", picture(0), pnginfo=text)
    exif = Image.Exif()
    exif[0x013B] = CANARY
    (pairs / "images/c1.png").unlink()
    save(pairs / "images/c1.jpg", picture(1), exif=exif, comment=CANARY)
    Image.fromarray(picture(2)).save(pairs / "images/c2.tif", tiffinfo={270: CANARY, 315: CANARY})
    (pairs / "images/c2.png").unlink()
    for path in volumes.rglob("*.nii.gz"):
        image = nib.load(path)
        for field, length in (("descrip", 79), ("db_name", 17), ("aux_file", 23)):
            image.header[field] = CANARY[:length]
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", CANARY.encode()))
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    for source, adapter, fields in ((pairs, "image_folder", 5), (volumes, "acdc", 4)):
        report = check(source, adapter, pictures=True)
        assert len(of(report, "S9", "warning")) + len(of(report, "S9", "note")) == fields
        assert not report.blocks
        said = "\n".join([str(report.to_dict()), *report.to_lines(), report.to_html(), repr(report)])
        assert not any(word in said for word in WORDS)
        assert not any(word in stored for word in WORDS for stored in objects(prepared(source, tmp_path, adapter)))


def dicom_series(folder: Path, number: int) -> None:
    """Three slices with identifying text wherever there is room for it, and a mask for each."""
    series = generate_uid(entropy_srcs=[str(number)])
    for plane in range(3):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.StudyInstanceUID = series, generate_uid()
        data.PatientName, data.PatientID, data.PatientBirthDate = CANARY[:16], f"MRN0012345{number}", "19540317"
        data.SeriesDescription = data.InstitutionName = data.ImageComments = CANARY
        data.private_block(0x0011, "Mustermann", create=True).add_new(1, "LO", CANARY)
        values = np.kron(np.random.default_rng(number * 10 + plane).integers(0, 900, (8, 8)), np.ones((4, 4)))
        data.Rows = data.Columns = 32
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME1", 0
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelData = 15, values.astype(np.uint16).tobytes()
        data.ImagePositionPatient, data.PixelSpacing = [0, 0, 5 * plane], [1, 1]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        path = folder / f"images/s{number}/{plane}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        label = np.zeros((32, 32), np.uint8)
        label[4 : 12 + number, 6:20] = 1
        save(folder / f"masks/s{number}/{plane}.png", label)


def test_fault_S9_text_of_dicom_is_in_no_report_and_in_no_store(tmp_path: Path) -> None:
    for number in range(4):
        dicom_series(tmp_path / "scans", number)
    report = check(tmp_path / "scans", "dicom", pictures=True)
    named = {finding.message.split()[1] for finding in of(report, "S9", "warning")}
    assert named == {"PatientName", "PatientID", "PatientBirthDate", "InstitutionName"}
    assert {"ImageComments", "private", "SeriesDescription"} <= {f.message.split()[1] for f in of(report, "S9", "note")}
    assert "MONOCHROME1" in only(report, "D5", "note").message
    assert not report.blocks
    said = "\n".join([str(report.to_dict()), *report.to_lines(), report.to_html()])
    words = (*WORDS, "19540317")
    assert not any(word in said for word in words)
    stored = objects(prepared(tmp_path / "scans", tmp_path, "dicom"))
    assert not any(word in content for word in words for content in stored)


def test_fault_S9_ids_of_persons_are_warned_about_refused_on_upload_and_replaced(pairs: Path, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (pairs / folder / "c0.png").rename(pairs / folder / "Mustermann_Erika.png")
        (pairs / folder / "c1.png").rename(pairs / folder / "MRN0012345.png")
    report = check(pairs)
    assert not report.blocks
    assert {finding.case for finding in of(report, "S9", "warning")} == {"Mustermann_Erika", "MRN0012345"}
    refused = check_source(config(pairs), executor=InProcessExecutor(), upload=True, pictures=False)
    assert len(of(refused, "S9")) == 2
    hidden = check_source(config(pairs, pseudonymize=True), executor=InProcessExecutor(), upload=True, pictures=False)
    assert not hidden.blocks
    names = Pseudonyms.open(tmp_path / "home", "set")
    storage = prepared(pairs, tmp_path, rename=names.apply)
    assert not any(word in stored for word in WORDS for stored in objects(storage))
    assert set(names.originals().values()) == {"Mustermann_Erika", "MRN0012345", *(f"c{n}" for n in range(2, CASES))}
    assert not list(storage.rglob("*.csv")), "the way back is not beside the data"
