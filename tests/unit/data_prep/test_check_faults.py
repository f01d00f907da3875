"""One source with one thing wrong, and what the check says of it; row by row of the fault table."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from data_prep import FileIndex, InProcessExecutor, prepare
from data_prep.archive import unpack
from data_prep.check import CheckReport, Finding, check_source
from data_prep.privacy import Pseudonyms
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import AuthError, DataError
from udt_cluster.storage import Location

CASES = 8
HEIGHT, WIDTH = 40, 48


def picture(number: int) -> np.ndarray:
    """An image that resembles no other: coarse blocks of random colours."""
    blocks = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((HEIGHT // 8, WIDTH // 8, 1), np.uint8))


def mask(number: int, value: int = 1) -> np.ndarray:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[8 : 20 + number, 8:30] = value
    return label


def save(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(CASES):
        save(tmp_path / f"source/images/c{number}.png", picture(number))
        save(tmp_path / f"source/masks/c{number}.png", mask(number))
    return tmp_path / "source"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Four patients in the layout of ACDC."""
    for number in range(1, 5):
        folder = tmp_path / f"hearts/training/patient00{number}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\n")
        rng = np.random.default_rng(number)
        blocks = np.kron(rng.integers(0, 900, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.int16)
        label = np.zeros((32, 32, 3), np.uint8)
        for value in (1, 2, 3):
            label[4 * value : 4 * value + 6, 6:20] = value
        for name, voxels in (("", blocks), ("_gt", label)):
            save_volume(folder / f"patient00{number}_frame01{name}.nii.gz", voxels)
    return tmp_path / "hearts"


def save_volume(path: Path, voxels: np.ndarray, shift: float = 0.0) -> None:
    affine = np.diag([1.4, 1.4, 10.0, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(voxels, affine), path)


def config(source: Path, adapter: str = "image_folder", **fields: object) -> DataConfig:
    group_by = {"group_by": "case"} if adapter == "image_folder" else {}
    defaults = {"adapter": adapter, "size": (32, 32), "splits": {"k": 4}, **group_by}
    return DataConfig.model_validate({"source": str(source), **defaults, **fields})


def check(source: Path, adapter: str = "image_folder", *, pictures: bool = False, **fields: object) -> CheckReport:
    return check_source(config(source, adapter, **fields), executor=InProcessExecutor(), pictures=pictures)


def of(report: CheckReport, row: str, severity: str = "refused") -> list[Finding]:
    return [finding for finding in report.findings if (finding.row, finding.severity) == (row, severity)]


def only(report: CheckReport, row: str, severity: str = "refused") -> Finding:
    (finding,) = of(report, row, severity)
    assert report.blocks or severity != "refused"
    return finding


def refuses(source: Path, tmp_path: Path, adapter: str = "image_folder", **fields: object) -> DataError:
    """What preparation says of the same source."""
    with pytest.raises(DataError) as error:
        prepare(
            config(source, adapter, **fields),
            "set",
            Location.parse(tmp_path / "storage"),
            executor=InProcessExecutor(),
            index=FileIndex(tmp_path / "i.db"),
        )
    return error.value


def test_a_good_source_passes_and_is_counted(pairs: Path, volumes: Path) -> None:
    report = check(pairs)
    assert not report.blocks
    assert of(report, "D4", "warning") == []
    assert (report.counts["cases"], report.counts["samples"], report.counts["files"]) == (CASES, CASES, 2 * CASES)
    hearts = check(volumes, "acdc")
    assert (hearts.counts["groups"], hearts.counts["samples"], hearts.blocks) == (4, 12, False)
    assert [share.name for share in hearts.facts.classes] == ["background", "RV", "MYO", "LV"]
    assert hearts.facts.classes[3].pixels == {"train": 4 * 3 * 6 * 14}


def lying_header(path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 100))
    header.set_data_dtype(np.float64)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(2000)))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lying_header,
    ],
    ids=["zero bytes", "half", "720 GB claimed"],
)
def test_fault_D1_broken_volumes(volumes: Path, tmp_path: Path, harm: Callable[[Path], object]) -> None:
    harm(volumes / "training/patient002/patient002_frame01.nii.gz")
    finding = only(check(volumes, "acdc"), "D1")
    assert (finding.case, finding.file) == ("patient002_frame01", "training/patient002/patient002_frame01.nii.gz")
    assert finding.message in refuses(volumes, tmp_path, "acdc").problems[0]


def test_fault_D1_a_bad_case_is_left_out_under_quarantine_and_the_others_are_counted(pairs: Path) -> None:
    (pairs / "images/c3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = check(pairs, on_bad_case="quarantine")
    finding = only(report, "D1", "warning")
    assert (finding.case, "left out" in finding.remedy, report.blocks) == ("c3", True, False)
    assert (report.counts["good_cases"], report.counts["bad_cases"]) == (CASES - 1, 1)
    assert check(pairs).blocks


def test_fault_D1_nothing_but_bad_cases_is_refused_under_quarantine_too(pairs: Path) -> None:
    for path in (pairs / "images").iterdir():
        path.write_bytes(b"")
    report = check(pairs, on_bad_case="quarantine")
    assert report.blocks
    assert "every case is bad" in only(report, "D1").message


def test_fault_D2_masks_that_do_not_fit(pairs: Path, volumes: Path, tmp_path: Path) -> None:
    save(pairs / "masks/c1.png", mask(1)[:, :-5])
    finding = only(check(pairs, pictures=True), "D2")
    assert (finding.case, finding.file) == ("c1", "masks/c1.png")
    assert finding.picture is not None, "image and mask side by side"
    path = volumes / "training/patient003/patient003_frame01_gt.nii.gz"
    save_volume(path, np.asarray(nib.load(path).dataobj), shift=1.4)
    finding = only(check(volumes, "acdc"), "D2")
    assert "1.0 voxels away" in finding.message
    assert finding.message in refuses(volumes, tmp_path, "acdc").problems[0]


def test_fault_D3_label_values(pairs: Path, volumes: Path) -> None:
    save(pairs / "masks/c0.png", np.where(mask(0) > 0, 7, 0).astype(np.uint8))
    save(pairs / "masks/c1.png", mask(1) * 200, format="JPEG")
    strange, jpeg = of(check(pairs, classes=["a", "b"], label_values=[1, 2]), "D3")
    assert "unexpected label values 7" in strange.message
    assert "JPEG mask" in jpeg.message
    path = volumes / "training/patient001/patient001_frame01_gt.nii.gz"
    label = np.asarray(nib.load(path).dataobj).astype(np.float32)
    label[3, 3, 1] = 0.37
    save_volume(path, label)
    assert "0.37 (1 pixels)" in only(check(volumes, "acdc"), "D3").message


def test_fault_D4_equal_pixels_under_two_names(pairs: Path) -> None:
    """Saved with another compression: other bytes, equal pixels."""
    save(pairs / "images/copy.png", picture(2), compress_level=1)
    save(pairs / "masks/copy.png", mask(2))
    assert (pairs / "images/copy.png").read_bytes() != (pairs / "images/c2.png").read_bytes()
    finding = only(check(pairs, pictures=True), "D4")
    assert {"c2", "copy"} <= set(finding.message.split())
    assert "equal pixel for pixel" in finding.message
    assert finding.picture is not None
    accepted = [{"cases": ["c2", "copy"], "reason": "the same slide, on purpose"}]
    report = check(pairs, accept_leaks=accepted)
    assert not report.blocks
    assert "on purpose" in only(report, "D4", "note").message


def test_fault_D4_near_duplicates(pairs: Path) -> None:
    brighter = np.clip(picture(4) * 0.8 + 30, 0, 255).astype(np.uint8)
    save(pairs / "images/again.jpg", brighter, quality=70)
    save(pairs / "masks/again.png", mask(4))
    finding = only(check(pairs), "D4")
    assert "show the same" in finding.message
    assert {"again", "c4"} <= set(finding.message.split())


def test_fault_D4_a_patient_in_two_official_splits(volumes: Path) -> None:
    folder = volumes / "testing/patient001"
    shutil.copytree(volumes / "training/patient001", folder)
    for path in sorted(folder.glob("*.nii.gz")):
        voxels = np.asarray(nib.load(path).dataobj)[::-1].copy()
        path.unlink()
        save_volume(path.with_name(path.name.replace("frame01", "frame09")), voxels)
    messages = [finding.message for finding in of(check(volumes, "acdc"), "D4")]
    assert any("patient001_frame01" in m and "patient001_frame09" in m and "of one group" in m for m in messages)


def test_fault_D4_groups_must_be_said_where_nobody_knows_them(pairs: Path) -> None:
    finding = only(check(pairs, group_by=None), "D4")
    assert "data.group_by is not set" in finding.message


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: Image.fromarray(picture(0)).convert("CMYK").save(p, "TIFF"), "mode CMYK"),
        (lambda p: Image.fromarray(np.dstack([picture(0), mask(0)])).save(p), "transparent"),
        (lambda p: Image.fromarray(picture(0)).save(p, "JPEG", exif=turned()), "EXIF"),
        (lambda p: Image.fromarray(picture(0)[..., 0]).save(p), "1 channel(s), where most cases have 3"),
    ],
    ids=["CMYK", "alpha", "EXIF rotation", "grey among colours"],
)
def test_fault_D5_what_the_readers_refuse(pairs: Path, tmp_path: Path, harm: Callable[[Path], None], says: str) -> None:
    harm(pairs / "images/c0.png")
    finding = only(check(pairs), "D5")
    assert says in finding.message
    assert (finding.case, finding.file) == ("c0", "images/c0.png")
    assert says in str(refuses(pairs, tmp_path))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_fault_D5_nan_and_infinity(volumes: Path) -> None:
    path = volumes / "training/patient002/patient002_frame01.nii.gz"
    voxels = np.asarray(nib.load(path).dataobj).astype(np.float32)
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
    save_volume(path, voxels)
    assert "2 of 3072 values are NaN or infinite" in only(check(volumes, "acdc"), "D5").message


def test_fault_D5_what_was_decided_is_said(pairs: Path) -> None:
    """Palettes, an opaque alpha channel and JPEG images are no faults; somebody may still want to know."""
    paletted = Image.fromarray(mask(0), "P")
    paletted.putpalette([0, 0, 0, 200, 30, 30] + [0] * 750)
    paletted.save(pairs / "masks/c0.png")
    save(pairs / "images/c1.png", np.dstack([picture(1), np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    (pairs / "images/c2.png").unlink()
    save(pairs / "images/c2.jpg", picture(2))
    report = check(pairs)
    notes = {finding.message: finding.case for finding in of(report, "D5", "note")}
    assert {message.split(":")[0]: case for message, case in notes.items()} == {
        "paletted mask": "c0",
        "an alpha channel that is opaque everywhere is left out": "c1",
        "JPEG image": "c2",
    }
    assert not report.blocks


def test_fault_D6_empty_masks_are_counted_and_classes_that_nobody_has_are_refused(pairs: Path) -> None:
    save(pairs / "masks/c5.png", mask(5) * 0)
    report = check(pairs)
    assert only(report, "D6", "note").case == "c5"
    assert (report.counts["empty_cases"], report.blocks) == (1, False)
    finding = only(check(pairs, classes=["gland", "stroma"]), "D6")
    assert "class stroma has no pixel in any case" in finding.message
    for path in (pairs / "masks").iterdir():
        save(path, mask(0) * 0)
    assert "every mask is empty" in only(check(pairs), "D6").message


def test_fault_D6_a_class_that_only_the_held_out_cases_have(pairs: Path) -> None:
    save(pairs / "masks/c0.png", np.maximum(mask(0), mask(0, 2)))
    report = check(pairs, classes=["a", "b"])
    finding = only(report, "D6")
    assert "no training case of fold" in finding.message
    assert finding.message.endswith("has class b")


def test_fault_D6_a_class_too_small_for_the_size(pairs: Path) -> None:
    label = mask(0)
    label[0, 0] = 2
    save(pairs / "masks/c0.png", label)
    report = check(pairs, classes=["a", "b"], size=(16, 16))
    assert "so small that nothing of it is left" in only(report, "D6").message


def test_fault_D7_names(pairs: Path) -> None:
    for name, number in (("Größe 1", 11), ("C1", 12), ("odd\nname", 13)):
        save(pairs / f"images/{name}.png", picture(number))
        save(pairs / f"masks/{name}.png", mask(1))
    report = check(pairs)
    assert not report.blocks
    collision, unprintable = sorted(of(report, "D7", "warning"), key=lambda finding: finding.message)
    assert {collision.case, *collision.cases} == {"C1", "c1"}
    assert unprintable.case == "odd\nname"
    assert "Größe 1" in only(report, "D7", "note").case
    assert not any("\n" in line for line in report.to_lines()), "a name cannot forge a line"


def test_fault_D7_names_that_are_no_text_are_refused(pairs: Path) -> None:
    for folder in ("images", "masks"):
        (pairs / folder / "c0.png").rename(pairs / folder / b"c\xff.png".decode("utf-8", "surrogateescape"))
    report = check(pairs)
    findings = of(report, "D7")
    assert findings
    assert {finding.severity for finding in findings} == {"refused"}
    assert all("c\\udcff.png" in f"{finding.file}{finding.message}" for finding in findings), findings
    assert report.blocks
    report.to_html().encode()
    "\n".join(report.to_lines()).encode()


def test_fault_D7_missing_partners_are_named_and_the_rest_is_looked_at(pairs: Path) -> None:
    (pairs / "masks/c0.png").unlink()
    (pairs / "images/c1.png").unlink()
    (pairs / "images/c2.png").write_bytes(b"")
    report = check(pairs)
    assert {finding.file for finding in of(report, "D7")} == {"images/c0.png", "masks/c1.png"}
    assert only(report, "D1").case == "c2"
    assert report.counts["good_cases"] == CASES - 3


def test_fault_D7_symlink_loops_end_the_check_and_are_said(pairs: Path) -> None:
    (pairs / "images/again").symlink_to(pairs)
    report = check(pairs)
    assert "leads back" in only(report, "D7").message
    assert report.counts["cases"] == 0


def test_fault_D7_unreadable_files(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file of mode 000 gives to all but root."""
    read_bytes = Location.read_bytes

    def refused(self: Location, **part: int | None) -> bytes:
        if self.name == "c4.png":
            raise AuthError(f"{self}: the file system refused access")
        return read_bytes(self, **part)

    monkeypatch.setattr(Location, "read_bytes", refused)
    report = check(pairs)
    assert {finding.file for finding in of(report, "D7")} == {"images/c4.png", "masks/c4.png"}
    assert report.counts["good_cases"] == CASES - 1


def test_fault_D7_nothing_there(tmp_path: Path) -> None:
    assert "nothing is there" in only(check(tmp_path / "nowhere"), "D7").message


def test_fault_S7_an_archive_is_no_source(pairs: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", pairs)).rename(tmp_path / "no suffix")
    finding = only(check(archive), "S7")
    assert "data unpack" in finding.remedy
    unpack(archive, tmp_path / "unpacked")
    assert check(tmp_path / "unpacked").counts["good_cases"] == CASES


@pytest.mark.parametrize("kind", ["bomb", "PDF", "FITS", "EPS"])
def test_fault_S8_bombs_and_foreign_formats(pairs: Path, kind: str) -> None:
    foreign = {
        "PDF": b"%PDF-1.7\n" + bytes(500),
        "FITS": b"SIMPLE  =                    T" + bytes(3000),
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    if kind == "bomb":
        save(pairs / "images/c0.png", np.zeros((9600, 9600), bool))
    else:
        (pairs / "images/c0.png").write_bytes(foreign[kind])
    finding = only(check(pairs), "S8")
    assert (finding.case, finding.file, finding.severity) == ("c0", "images/c0.png", "refused")


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


def prepared(source: Path, tmp_path: Path, adapter: str = "image_folder", **more: object) -> Path:
    storage = tmp_path / "storage"
    prepare(
        config(source, adapter),
        "set",
        Location.parse(storage),
        executor=InProcessExecutor(),
        index=FileIndex(tmp_path / "i.db"),
        **more,
    )
    return storage


def objects(folder: Path) -> list[str]:
    found = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    assert found
    return [*found, *(str(path) for path in folder.rglob("*"))]


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
