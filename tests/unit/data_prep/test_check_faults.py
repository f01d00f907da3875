"""One source with one thing wrong, and what the check says of it: rows D1 to D6 of the fault table."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.checked_sources import CASES, HEIGHT, WIDTH, check, mask, of, only, picture, refuses, save, save_volume


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


@pytest.mark.parametrize(
    ("qform", "says"),
    [
        (np.diag([-1.4, 1.4, 10, 1]), "sform RAS 1.4 x 1.4 x 10 mm, qform LAS 1.4 x 1.4 x 10 mm; the sform is taken"),
        (np.diag([1.4, 1.4, 5, 1]), "sform RAS 1.4 x 1.4 x 10 mm, qform RAS 1.4 x 1.4 x 5 mm; the sform is taken"),
        (np.eye(4) + np.diag([0.4, 0.4, 9, 0]) + 3 * np.eye(4, k=3), "both RAS 1.4 x 1.4 x 10 mm, in another place"),
    ],
)
def test_fault_D2_headers_that_say_two_things_are_warned_about(volumes: Path, qform: np.ndarray, says: str) -> None:
    """The file is read by one of them; which one is right only a person can tell."""
    assert of(check(volumes, "acdc"), "D2", "warning") == []
    for path in (volumes / "training/patient001").glob("*.nii.gz"):
        image = nib.load(path)
        image.set_sform(image.affine, code=1)
        image.set_qform(qform, code=1)
        nib.save(image, path)
    report = check(volumes, "acdc")
    finding = only(report, "D2", "warning")
    assert says in finding.message
    assert finding.count == 2, "image and mask"
    assert "set_qform" in finding.remedy
    assert not report.blocks


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
