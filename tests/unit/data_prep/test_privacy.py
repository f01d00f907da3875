"""The privacy gate: fields that carry text about persons, case ids that do, and pseudonyms."""

import csv
import io
import stat
import tracemalloc
import zlib
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from data_prep.case import Case, Discovery
from data_prep.check.formats import decisions
from data_prep.privacy import Pseudonyms, Trace, suspicious_ids, traces
from data_prep.readers import ReaderError
from data_prep.readers.dicom import read_frames, read_header
from udt_cluster.errors import DataError

CANARY = "Mustermann^Erika 1954-03-17 MRN0012345"
PIXELS = Image.fromarray(np.full((8, 9), 90, np.uint8))


def saved(kind: str, image: Image.Image = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def nifti(*, version: int = 1, zipped: bool = False, **fields: str) -> bytes:
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    image = kind(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    extension = fields.pop("extension", "")
    for name, text in fields.items():
        image.header[name] = text[: image.header[name].dtype.itemsize]
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", extension.encode()))
    data = image.to_bytes()
    if not zipped:
        return data
    import gzip

    return gzip.compress(data)


def dicom(**attributes: object) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    if "PatientComments" in attributes:
        dataset.private_block(0x0011, "somebody", create=True).add_new(1, "LO", CANARY)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def png_text(keyword: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(keyword, CANARY)
    return info


def png_behind_the_pixels() -> bytes:
    data, text = saved("PNG"), saved("PNG", pnginfo=png_text("Comment"))
    start = text.index(b"tEXt") - 4
    chunk = text[start : start + 12 + int.from_bytes(text[start : start + 4], "big")]
    return data[:-12] + chunk + data[-12:]


def exif(**tags: str) -> Image.Exif:
    numbers = {"Artist": 0x013B, "ImageDescription": 0x010E, "DateTime": 0x0132}
    found = Image.Exif()
    for name, text in tags.items():
        found[numbers[name]] = text
    return found


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["image"] = np.zeros((3, 3))
        file["image"].attrs["patient"] = CANARY
        file.attrs["number"] = 7
    return buffer.getvalue()


FILES = {
    "NIfTI descrip": ("text", nifti(descrip=CANARY)),
    "NIfTI db_name": ("text", nifti(db_name=CANARY, zipped=True)),
    "NIfTI aux_file": ("text", nifti(aux_file=CANARY)),
    "NIfTI intent_name": ("text", nifti(intent_name=CANARY, version=2)),
    "NIfTI extensions": ("text", nifti(extension=CANARY, zipped=True)),
    "PNG text Author": ("identifying", saved("PNG", pnginfo=png_text("Author"))),
    "PNG text with a keyword of its own": ("text", saved("PNG", pnginfo=png_text("Mustermann"))),
    "PNG text Comment": ("text", png_behind_the_pixels()),
    "EXIF Artist": ("identifying", saved("JPEG", exif=exif(Artist=CANARY))),
    "EXIF DateTime": ("text", saved("PNG", exif=exif(DateTime="1954:03:17 00:00:00"))),
    "JPEG comment": ("text", saved("JPEG", comment=CANARY)),
    "GIF comment": ("text", saved("GIF", comment=CANARY)),
    "TIFF tag ImageDescription": ("text", saved("TIFF", tiffinfo={270: CANARY})),
    "TIFF tag Artist": ("identifying", saved("TIFF", tiffinfo={315: CANARY})),
    "HDF5 attribute patient": ("text", hdf5()),
    "DICOM PatientName (0010,0010)": ("identifying", dicom(PatientName=CANARY)),
    "DICOM AccessionNumber (0008,0050)": ("identifying", dicom(AccessionNumber="MRN0012345")),
    "DICOM StudyDate (0008,0020)": ("text", dicom(StudyDate="19540317")),
    "DICOM private elements": ("text", dicom(PatientComments="x")),
    "DICOM BurnedInAnnotation is YES": ("burned_in", dicom(BurnedInAnnotation="YES")),
}


@pytest.mark.parametrize("field", FILES)
def test_fault_S9_fields_are_found_and_their_content_is_not_told(field: str) -> None:
    kind, data = FILES[field]
    found = traces(data)
    assert (kind, field) in {(trace.kind, trace.field) for trace in found}
    assert not any(word in str(found) for word in ("Mustermann", "Erika", "1954", "MRN0012345"))


def test_fault_S9_screens_are_said_to_carry_text_unless_the_file_denies_it() -> None:
    def drawn(**attributes: str) -> bool:
        return any(trace.kind == "burned_in" for trace in traces(dicom(**attributes)))

    assert drawn(Modality="US")
    assert not drawn(Modality="US", BurnedInAnnotation="NO")
    assert not drawn(Modality="CT")


@pytest.mark.parametrize(
    "data",
    [
        saved("PNG"),
        saved("JPEG"),
        saved("TIFF"),
        saved("BMP"),
        saved("GIF"),
        nifti(),
        dicom(),
        b"",
        b"%PDF-1.7",
        b"\x89PNG",
    ],
)
def test_plain_and_foreign_files_have_none(data: bytes) -> None:
    assert traces(data) == ()


def test_size_is_told_and_order_is_stable() -> None:
    found = traces(nifti(descrip="abc", aux_file="defg"))
    assert found == (Trace("text", "NIfTI aux_file", 4), Trace("text", "NIfTI descrip", 3))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Mueller_Anna", "a person's name"),
        ("Müller, Jürgen", "a person's name"),
        ("MUELLER^ANNA", "a person's name"),
        ("ward/Anna-Lena Mueller 2", "a person's name"),
        ("1954-03-17", "a date"),
        ("17.03.1954", "a date"),
        ("19540317_ct", "a date"),
        ("p_17031954", "a date"),
        ("12345678", "a number of six or more digits"),
        ("MRN0012345", "a number of six or more digits"),
        ("patient_0001234", "a number of six or more digits"),
        ("1.2.840.113619.2.55.3.604688119", "a DICOM UID"),
    ],
)
def test_fault_S9_ids_that_tell_who_it_is(name: str, reason: str) -> None:
    assert [(found.id, found.reason) for found in suspicious_ids(["a", name, "b"])] == [(name, reason)]


QUIET = """
patient001 patient001_frame01 case0005 case0005_slice012 ISIC_0000000 TCGA-A6-6782 TCGA-18-5592-01Z-00-DX1
train_12 testA_7 BraTS20_Training_001 hippocampus_367 tr_im_12 img_000123 image_0001234 LIDC-IDRI-0001 1 007
Train_Folder/img/12 COVID_CT_3 Case_Left_2 Tumor_Positive p0123456789abcdef0123 9f86d081884c7d659a2f 99999
"""


def test_ids_of_published_data_sets_and_counters_are_quiet() -> None:
    assert suspicious_ids([*QUIET.split(), "Ünï cödé 1", "Slide 12"]) == []


def discovery(*pairs: tuple[str, str], warnings: tuple[str, ...] = ()) -> Discovery:
    cases = tuple(
        Case(id=name, group=group, split="train", images=(f"{name}.png",), labels=(f"{name}_m.png",))
        for name, group in pairs
    )
    return Discovery(cases=cases, patients_known=True, files=(), warnings=warnings)


def test_pseudonyms_are_stable_keyed_and_lead_back(tmp_path: Path) -> None:
    found = discovery(("Mueller_1", "Mueller"), ("Mueller_2", "Mueller"), ("Maier", "Maier"))
    names = Pseudonyms.open(tmp_path / "home", "hearts")
    hidden = names.apply(found)
    assert hidden == Pseudonyms.open(tmp_path / "home", "hearts").apply(found)
    assert not any("M" in case.id + case.group for case in hidden.cases)
    assert len({case.id for case in hidden.cases}) == 3
    assert len({case.group for case in hidden.cases}) == 2
    assert [names.originals()[case.id] + ".png" for case in hidden.cases] == [case.images[0] for case in hidden.cases]
    alone = next(case for case in hidden.cases if case.images == ("Maier.png",))
    assert alone.id == alone.group, "a case that is its own group stays one"
    other_set = Pseudonyms.open(tmp_path / "home", "lungs").apply(found)
    other_key = Pseudonyms.open(tmp_path / "elsewhere", "hearts").apply(found)
    assert len({case.id for found in (hidden, other_set, other_key) for case in found.cases}) == 9
    assert suspicious_ids(case.id for case in hidden.cases) == []


def test_key_and_tables_are_the_owners_alone_and_tables_grow(tmp_path: Path) -> None:
    names = Pseudonyms.open(tmp_path, "hearts")
    names.apply(discovery(("a", "A")))
    names.apply(discovery(("b", "B"), ("a", "A")))
    for path in (tmp_path / "pseudonyms/key", names.table):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with names.table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["group"]) for row in rows] == [("a", "A"), ("b", "B")]
    assert {path.name for path in names.folder.iterdir()} == {"key", "hearts.csv"}
    assert str(names).count("key=") == 0, "the key is in no log"


def test_warnings_are_renamed_too(tmp_path: Path) -> None:
    found = discovery(("p1", "Mueller"), ("p10", "Maier"), warnings=("no Info.cfg for Mueller, p10", "half a set"))
    names = Pseudonyms.open(tmp_path, "hearts")
    assert names.apply(found).warnings == (f"no Info.cfg for {names.of('Mueller')}, {names.of('p10')}", "half a set")


def test_a_key_that_is_none_is_not_replaced_silently(tmp_path: Path) -> None:
    Pseudonyms.open(tmp_path, "a")
    (tmp_path / "pseudonyms/key").write_text("abc")
    with pytest.raises(DataError, match="is no key"):
        Pseudonyms.open(tmp_path, "a")


def deflated_bomb(private: int) -> bytes:
    """32 MiB of zeros in some 30 kB; the transfer syntax stands behind so many bytes of private information."""
    syntax = DeflatedExplicitVRLittleEndian.encode()
    meta = b"\x02\0\x02\x01OB\0\0" + private.to_bytes(4, "little") + bytes(private)
    meta += b"\x02\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    element = b"\xe0\x7f\x10\0OB\0\0" + (2**25).to_bytes(4, "little") + bytes(2**25)
    return bytes(128) + b"DICM" + meta + packer.compress(element) + packer.flush()


@pytest.mark.parametrize(
    ("private", "complaint"),
    [(0, "deflated"), (4000, "deflated"), (60_000, "deflated"), (70_000, "longer than 65,536")],
)
def test_fault_S8_deflated_dicom_is_found_wherever_its_meta_says_so(private: int, complaint: str) -> None:
    bomb = deflated_bomb(private)
    tracemalloc.start()
    try:
        with pytest.raises(ReaderError, match=complaint):
            next(read_frames(bomb))
        with pytest.raises(ReaderError, match=complaint):
            read_header(bomb, complete=True)
        assert traces(bomb) == ()
        assert decisions(bomb, is_image=True, is_label=False) == ()
        assert tracemalloc.get_traced_memory()[1] < 2**23, "nothing was inflated"
    finally:
        tracemalloc.stop()
