"""DICOM: series become volumes, masks of three kinds fit them, and no text of a header gets out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from data_prep import adapters, choose_groups
from data_prep.case import CaseError, Discovery, RawCase
from data_prep.privacy import suspicious_ids
from data_prep.readers import ReaderError
from data_prep.readers.dicom import read_frames, read_header
from tests.dicom_files import (
    AXIAL,
    CANARY,
    DEPTH,
    SIDE,
    VOXELS,
    ct_slice,
    header,
    masks,
    nifti_of,
    pixels_of,
    save,
    segmentation,
)
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location


def config(source: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": str(source), "adapter": "dicom", "size": (32, 32), **fields})


def discover(config: DataConfig) -> Discovery:
    return adapters.get("dicom").discover(Location.parse(config.source), config)


def read(config: DataConfig, number: int = 0) -> RawCase:
    return adapters.get("dicom").read(Location.parse(config.source), discover(config).cases[number], config)


def complaint(config: DataConfig) -> str:
    with pytest.raises(CaseError) as error:
        read(config)
    assert CANARY not in str(error.value)
    return str(error.value)


def refusal(config: DataConfig) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        discover(config)
    assert CANARY not in str(error.value)
    return error.value.problems


Write = Callable[..., list[Dataset]]


@pytest.fixture
def series(tmp_path: Path) -> Write:
    """Writes a series below `images/`, its files named against the order of its slices."""

    def write(name: str = "a", patient: str = "4711", change: Callable[[int, Dataset], object] = lambda n, s: None):
        uid = generate_uid(entropy_srcs=[name])
        slices = [ct_slice(uid, number, patient) for number in range(DEPTH)]
        for number, data in enumerate(slices):
            if change(number, data) != "drop":
                save(data, tmp_path / "images" / name / f"IM{DEPTH - number:03d}")
        return slices

    return write


def test_a_series_with_a_segmentation_is_a_volume_in_canonical_orientation(series: Write, tmp_path: Path) -> None:
    liver, tumour = masks()
    save(segmentation(series(), {1: ("Tumour", tumour), 2: ("LIVER ", liver)}), tmp_path / "seg" / "s.dcm")
    raw = read(config(tmp_path, classes=["liver", "tumour"]))
    turned = VOXELS[:, ::-1, ::-1].astype(np.int16) - 1024
    assert raw.image.shape == (DEPTH, 1, SIDE, SIDE)
    assert raw.image.dtype == np.int16
    assert np.array_equal(raw.image[:, 0], turned)
    assert np.array_equal(raw.label, (liver * 1 + tumour * 2)[:, ::-1, ::-1])
    assert raw.spacing.tolist() == [2.5, 1.0, 0.5]
    assert raw.affine[:3, 3].tolist() == [10 - 0.5 * (SIDE - 1), 20 - (SIDE - 1), 30]
    assert raw.image.flags.c_contiguous
    assert raw.label.flags.c_contiguous


def test_segments_by_number_and_all_as_one_class(series: Write, tmp_path: Path) -> None:
    liver, tumour = masks()
    save(segmentation(series(), {3: ("x", tumour), 7: ("y", liver)}), tmp_path / "s.dcm")
    by_number = read(config(tmp_path, classes=["a", "b"], label_values=[7, 3])).label
    assert np.array_equal(by_number, (liver * 1 + tumour * 2)[:, ::-1, ::-1])
    assert np.array_equal(read(config(tmp_path)).label, (liver | tumour)[:, ::-1, ::-1])


def test_a_volume_or_a_picture_for_each_file_as_masks(series: Write, tmp_path: Path) -> None:
    liver, _ = masks()
    series("a")
    nifti_of(liver, tmp_path / "masks" / "a.nii.gz")
    series("b", patient="4712")
    for number in range(DEPTH):
        (tmp_path / "masks" / "b").mkdir(exist_ok=True)
        Image.fromarray(liver[number].astype(np.uint8)).save(tmp_path / "masks" / "b" / f"IM{DEPTH - number:03d}.png")
    found = discover(config(tmp_path))
    assert sorted(len(case.labels) for case in found.cases) == [1, DEPTH]
    for number in (0, 1):
        assert np.array_equal(read(config(tmp_path), number).label, liver[:, ::-1, ::-1])


def test_fault_s9_nothing_of_the_header_is_in_a_case(series: Write, tmp_path: Path) -> None:
    for name, patient in (("a", "CANARY-1"), ("b", "CANARY-2"), ("c", "CANARY-1")):
        liver, _ = masks()
        save(segmentation(series(name, patient), {1: ("CANARY", liver)}), tmp_path / "seg" / f"{name}.dcm")
    found = discover(config(tmp_path))
    assert "CANARY" not in repr(found)
    assert str(pydicom.uid.PYDICOM_ROOT_UID) not in repr(found)
    assert all(not case.meta for case in found.cases)
    assert found.patients_known
    assert sorted(len({c.id for c in found.cases if c.group == g}) for g in {c.group for c in found.cases}) == [1, 2]
    assert choose_groups(config(tmp_path), found) == ("patient", ())
    assert not suspicious_ids(name for case in found.cases for name in (case.id, case.group))
    assert all(case.id.removeprefix("series-").isalpha() for case in found.cases)
    (tmp_path / "seg").rename(tmp_path.with_name("moved"))
    (tmp_path / "images").rename(tmp_path.with_name("moved") / "images")
    assert [c.id for c in discover(config(tmp_path.with_name("moved"))).cases] == [c.id for c in found.cases]


def test_fault_s9_warnings_of_the_parser_and_its_errors_do_not_quote_the_header(
    series: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(number: int, data: Dataset) -> None:
        data.add_new("ImagePositionPatient", "LO", [CANARY, CANARY, CANARY])

    series("a", change=odd)
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz")
    text = complaint(config(tmp_path))
    assert "images/a/IM001: broken or truncated DICOM" in text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("gap", lambda n, s: "drop" if n == 2 else None, "IM004 and images/a/IM002 are 5.00 mm apart"),
        ("size", lambda n, s: n == 1 and pixels_of(s, VOXELS[0, :8]), "IM004 has 8 x 16 pixels"),
        ("plane", lambda n, s: n == 3 and setattr(s, "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "not parallel"),
        ("pixels", lambda n, s: n == 3 and setattr(s, "PixelSpacing", [1, 1]), "has pixels of (1.0, 1.0) mm"),
        ("twice", lambda n, s: n == 3 and setattr(s, "ImagePositionPatient", [-10, -20, 35]), "lie in one place"),
        ("tilt", lambda n, s: setattr(s, "ImagePositionPatient", [-10, -20 + n, 30 + 2.5 * n]), "tilted by 21.8"),
        ("place", lambda n, s: n == 2 and delattr(s, "ImagePositionPatient"), "IM003 has no position in the body"),
        ("table", lambda n, s: n == 2 and setattr(s, "ModalityLUTSequence", Sequence([Dataset()])), "Modality LUT"),
        ("palette", lambda n, s: n == 2 and setattr(s, "PhotometricInterpretation", "PALETTE COLOR"), "have a palette"),
        ("cut", lambda n, s: n == 2 and setattr(s, "PixelData", s.PixelData[:100]), "truncated: 100 bytes of pixels"),
        ("claim", lambda n, s: n == 2 and (setattr(s, "Rows", 60000), setattr(s, "Columns", 60000)), "claims 7,200,"),
    ],
)  # fmt: skip
def test_fault_d1_d2_series_that_are_no_volume_are_refused(
    series: Write, tmp_path: Path, what: str, change: Callable[[int, Dataset], object], message: str
) -> None:
    series("a", change=change)
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz")
    text = complaint(config(tmp_path))
    assert message in text, what
    assert "images/a/" in text


def test_fault_d2_masks_on_another_grid(series: Write, tmp_path: Path) -> None:
    slices = series("a")
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz", shift=0.5)
    assert "masks/a.nii.gz: the mask lies 1.0 voxels away" in complaint(config(tmp_path))
    (tmp_path / "masks" / "a.nii.gz").unlink()
    for what in ("position", "spacing", "direction"):
        bad = segmentation(slices, {1: ("a", masks()[0])})
        frame, shared = bad.PerFrameFunctionalGroupsSequence[0], bad.SharedFunctionalGroupsSequence[0]
        if what == "position":
            frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
        elif what == "spacing":
            shared.PixelMeasuresSequence[0].PixelSpacing = [1, 1]
        else:
            shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
        save(bad, tmp_path / "s.dcm")
        assert "s.dcm: " in (text := complaint(config(tmp_path)))
        assert "nearest slice" in text or "turned against" in text


def test_fault_d3_segments_that_are_no_class_overlap_or_are_fractions(series: Write, tmp_path: Path) -> None:
    liver, tumour = masks()
    slices = series()
    save(segmentation(slices, {1: (CANARY, tumour), 2: ("liver", liver)}), tmp_path / "s.dcm")
    text = complaint(config(tmp_path, classes=["liver"]))
    assert "s.dcm: unexpected label values 1 (9 pixels)" in text
    assert "data.label_values" in text
    save(segmentation(slices, {1: ("a", liver), 2: ("b", liver | tumour)}), tmp_path / "s.dcm")
    assert "segments overlap in 28 pixels" in complaint(config(tmp_path, classes=["a", "b"]))
    save(segmentation(slices, {1: ("a", liver)}, SegmentationType="FRACTIONAL"), tmp_path / "s.dcm")
    assert "fractional segmentation" in complaint(config(tmp_path))


def test_fault_d5_monochrome1_is_inverted_and_fractions_of_slope_are_kept(series: Write, tmp_path: Path) -> None:
    def inverted(number: int, data: Dataset) -> None:
        data.PhotometricInterpretation, data.BitsStored, data.RescaleIntercept = "MONOCHROME1", 12, 0

    series("a", change=inverted)
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz")
    raw = read(config(tmp_path))
    assert np.array_equal(raw.image[:, 0], 4095 - VOXELS[:, ::-1, ::-1].astype(int))
    assert raw.image.dtype == np.int16
    series("a", change=lambda n, s: setattr(s, "RescaleSlope", 0.5 + n))
    raw = read(config(tmp_path))
    slopes = 0.5 + np.arange(DEPTH)[:, None, None]
    assert raw.image.dtype == np.float32
    np.testing.assert_allclose(raw.image[:, 0], (VOXELS * slopes - 1024)[:, ::-1, ::-1])


def test_compressed_files_are_decoded_or_refused_by_name(series: Write, tmp_path: Path) -> None:
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz")
    series("a", change=lambda n, s: s.compress(RLELossless))
    assert np.array_equal(read(config(tmp_path)).image[:, 0], VOXELS[:, ::-1, ::-1].astype(np.int16) - 1024)

    def lossless(number: int, data: Dataset) -> None:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = JPEGLosslessSV1

    series("a", change=lossless)
    assert "IM001: compressed as JPEG Lossless" in (text := complaint(config(tmp_path)))
    assert "store it uncompressed" in text


def test_fault_s7_deflated_files_are_not_unpacked(series: Write, tmp_path: Path) -> None:
    series("a", change=lambda n, s: setattr(s.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    assert len(discover(config(tmp_path)).cases) == DEPTH
    assert "images/a/IM001: a deflated DICOM file" in complaint(config(tmp_path))


def enhanced(**more: object) -> Dataset:
    """The same volume in one file."""
    data = header(EnhancedMRImageStorage, generate_uid(), "4711")
    pixels_of(data, VOXELS[0], NumberOfFrames=DEPTH, PixelData=VOXELS[::-1].tobytes())
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = [1, 0.5], AXIAL
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence()
    for number in reversed(range(DEPTH)):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-10, -20, 30 + 2.5 * number]
        frame.PlanePositionSequence = Sequence([position])
        data.PerFrameFunctionalGroupsSequence.append(frame)
    for name, value in more.items():
        setattr(data, name, value)
    return data


def test_an_enhanced_multi_frame_file_is_a_volume_and_a_film_is_refused(tmp_path: Path) -> None:
    save(enhanced(), tmp_path / "images" / "knee.dcm")
    nifti_of(masks()[0], tmp_path / "masks" / "knee.nii.gz")
    raw = read(config(tmp_path))
    assert np.array_equal(raw.image[:, 0], VOXELS[:, ::-1, ::-1])
    assert raw.spacing.tolist() == [2.5, 1.0, 0.5]
    save(enhanced(PerFrameFunctionalGroupsSequence=Sequence()), tmp_path / "images" / "knee.dcm")
    assert f"images/knee.dcm: {DEPTH} frames without positions" in complaint(config(tmp_path))


def test_pictures_without_a_place_in_the_body_are_a_case_each(tmp_path: Path) -> None:
    uid, liver = generate_uid(), masks()[0]
    for number in (1, 2):
        image = ct_slice(uid, number)
        del image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing, image.RescaleIntercept
        image.ImagerPixelSpacing = [0.2, 0.1]
        save(image, tmp_path / "images" / f"x{number}.dcm")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(liver[number].astype(np.uint8) * 255).save(tmp_path / "masks" / f"x{number}.png")
    found = discover(config(tmp_path))
    assert [case.id.partition("-")[0] for case in found.cases] == ["image", "image"]
    assert len({case.group for case in found.cases}) == 1
    raws = [read(config(tmp_path), number) for number in (0, 1)]
    assert {tuple(raw.image[0, 0].ravel()) for raw in raws} == {tuple(VOXELS[n].ravel()) for n in (1, 2)}
    assert np.array_equal(raws[0].label[0], liver[1])
    assert np.isnan(raws[0].spacing).tolist() == [True, False, False]
    assert raws[0].spacing[1:].tolist() == [0.2, 0.1]
    assert np.isnan(raws[0].affine).all()


def test_colour_pictures_keep_their_channels(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    image = pixels_of(header(CTImageStorage, generate_uid(), "1"), rgb[..., 0])
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.PixelData = rgb.tobytes()
    save(image, tmp_path / "images" / "x.dcm")
    (tmp_path / "masks").mkdir()
    Image.fromarray((rgb[..., 0] > 99).astype(np.uint8)).save(tmp_path / "masks" / "x.png")
    raw = read(config(tmp_path))
    assert np.array_equal(raw.image[0], rgb.transpose(2, 0, 1))
    assert raw.image.dtype == np.uint8


def test_fault_d7_series_and_masks_without_a_partner_are_listed(series: Write, tmp_path: Path) -> None:
    series("a")
    series("b")
    nifti_of(masks()[0], tmp_path / "masks" / "b.nii.gz")
    nifti_of(masks()[0], tmp_path / "masks" / "c.nii.gz")
    problems = refusal(config(tmp_path))
    assert len(problems) == 2
    assert "images/a/IM001: there is no mask for this series (5 files)" in problems[0]
    assert "masks/a.nii.gz" in problems[0]
    assert problems[1] == "masks/c.nii.gz: there is no series for this mask"


def test_fault_d1_a_file_that_is_no_dicom_is_a_bad_case_beside_the_good_ones(series: Write, tmp_path: Path) -> None:
    series("a")
    nifti_of(masks()[0], tmp_path / "masks" / "a.nii.gz")
    (tmp_path / "images" / "a" / "empty.dcm").write_bytes(b"")
    without_series = ct_slice(generate_uid(), 0)
    del without_series.SeriesInstanceUID
    save(without_series, tmp_path / "images" / "a" / "lost.dcm")
    found = discover(config(tmp_path))
    assert [case.id.partition("-")[0] for case in found.cases] == ["file", "file", "series"]
    assert found.patients_known
    assert "images/a/empty.dcm" in {entry.key for entry in found.files}
    assert "images/a/empty.dcm: not a DICOM file" in complaint(config(tmp_path))
    with pytest.raises(CaseError, match=r"images/a/lost\.dcm: has no SeriesInstanceUID"):
        read(config(tmp_path), 1)
    assert read(config(tmp_path), 2).label.any()


def test_series_without_a_segmentation_are_left_out_and_said_where_others_have_one(
    series: Write, tmp_path: Path
) -> None:
    slices = series("a")
    series("scout")
    save(segmentation(slices, {1: ("a", masks()[0])}), tmp_path / "s.dcm")
    save(header("1.2.840.10008.5.1.4.1.1.88.11", generate_uid(), "4711"), tmp_path / "report.dcm")
    found = discover(config(tmp_path))
    assert len(found.cases) == 1
    assert any("1 series have no segmentation" in warning for warning in found.warnings)
    assert any("1 DICOM files are neither" in warning for warning in found.warnings)
    assert {entry.key for entry in found.files} == {*found.cases[0].images, "s.dcm"}
    for file in (tmp_path / "images" / "a").iterdir():
        file.unlink()
    assert refusal(config(tmp_path)) == ("s.dcm: the series that it segments is not here",)


def test_patients_that_anonymisation_made_alike_or_removed_are_said(series: Write, tmp_path: Path) -> None:
    for name, patient in (("a", ""), ("b", "")):
        series(name, patient)
        nifti_of(masks()[0], tmp_path / "masks" / f"{name}.nii.gz")
    found = discover(config(tmp_path))
    assert not found.patients_known
    assert "2 of 2 series have no PatientID" in found.warnings[0]
    for name in "ab":
        series(name, "ANON")
    found = discover(config(tmp_path))
    assert found.patients_known
    assert "same PatientID" in found.warnings[0]


def test_a_header_longer_than_its_first_bytes_is_read_on(tmp_path: Path) -> None:
    image = ct_slice(generate_uid(), 0)
    image.private_block(0x0011, CANARY, create=True).add_new(0x01, "OB", bytes(2**17))
    save(image, tmp_path / "x.dcm")
    data = (tmp_path / "x.dcm").read_bytes()
    assert read_header(data[: 2**16], complete=False) is None
    assert read_header(data, complete=True).placed


def test_a_real_file(udt_test_data: Path) -> None:
    data = (udt_test_data / "odd_files" / "0.dcm").read_bytes()
    (frame,) = read_frames(data)
    reference = pydicom.dcmread(udt_test_data / "odd_files" / "0.dcm")
    assert np.array_equal(frame.pixels, np.frombuffer(reference.PixelData, np.uint16).reshape(256, 256))
    assert frame.spacing == (1.796875, 1.796875)
    assert read_header(data, complete=True).kind == "image"
    with pytest.raises(ReaderError, match="truncated"):
        list(read_frames(data[:-1000]))
