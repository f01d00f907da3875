"""What each adapter finds in which layout, and everything that it complains about, all at once."""

import io
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep import adapters, choose_groups
from data_prep.case import CaseError, Discovery
from data_prep.phantom import acdc, glas
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location


def config(source: Path, adapter: str, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": str(source), "adapter": adapter, "size": (32, 32), **fields})


def discover(config: DataConfig) -> Discovery:
    return adapters.get(config.adapter).discover(Location.parse(config.source), config)


def complaints(config: DataConfig) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        discover(config)
    return error.value.problems


def read(config: DataConfig, number: int = 0):
    return adapters.get(config.adapter).read(Location.parse(config.source), discover(config).cases[number], config)


def read_complaints(config: DataConfig, number: int = 0) -> tuple[str, ...]:
    with pytest.raises(CaseError) as error:
        read(config, number)
    return error.value.problems


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


RGB = np.full((20, 24, 3), 90, np.uint8)
MASK = np.zeros((20, 24), np.uint8)
MASK[5:9, 3:8] = 7
MASK[12:15, 3:8] = 2


@pytest.fixture
def released(tmp_path: Path) -> Path:
    glas(tmp_path / "g", train=3, test=2, size=(32, 48))
    return tmp_path / "g"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    folder = tmp_path / "o"
    for name in ("train_1", "train_2", "train_10", "testA_1", "testB_1"):
        picture(folder / f"{name}.bmp", RGB)
        picture(folder / f"{name}_anno.bmp", MASK)
    rows = ["train_1,4", "train_2,4", "train_10,9", "testA_1,2", "testB_1,3"]
    table = "name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\n"
    (folder / "Grade.csv").write_text(table + "".join(f"{row}, benign, healthy\n" for row in rows))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for name in ("b", "a", "sub/c", "Ünï cödé 1"):
        picture(tmp_path / "p" / "images" / f"{name}.png", RGB)
        picture(tmp_path / "p" / "masks" / f"{name}.png", MASK)
    return tmp_path / "p"


@pytest.fixture
def nifti_source(tmp_path: Path) -> Path:
    acdc(tmp_path / "n", patients=2, test_patients=1, side=32)
    return tmp_path / "n"


def slice_file(path: Path, shape: tuple[int, ...], value: float, label: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(shape, np.uint8)
    mask[..., :2] = label
    with h5py.File(path, "w") as file:
        file["image"] = np.full(shape, value, np.float32)
        file["label"] = mask


@pytest.fixture
def h5_source(tmp_path: Path) -> Path:
    folder = tmp_path / "h"
    for number in range(1, 12):
        slice_file(folder / "data" / f"patient003_frame01_slice_{number}.h5", (16, 20), number)
    slice_file(folder / "data" / "patient002_frame01.h5", (3, 16, 20), 0.5)
    slice_file(folder / "data" / "patient001_frame01.h5", (2, 16, 20), 0.5)
    for name, number in (("train", 3), ("val", 2), ("test", 1)):
        (folder / f"{name}.list").write_text(f"patient{number:03d}_frame01\n")
    return folder


def test_glas_released(released: Path) -> None:
    found = discover(config(released, "glas"))
    assert [case.id for case in found.cases] == ["test_1", "test_2", "train_1", "train_2", "train_3"]
    assert [case.split for case in found.cases] == ["test"] * 2 + ["train"] * 3
    assert not found.patients_known
    assert "folds may leak" in found.warnings[0]


def test_glas_instances_are_one_class(released: Path) -> None:
    with Image.open(released / "Test_Folder/labelcol/1.png") as mask:
        ids = np.asarray(mask)
    assert ids.max() > 1
    assert np.array_equal(read(config(released, "glas")).label[0], ids > 0)


def test_glas_original_knows_the_patients(original: Path) -> None:
    found = discover(config(original, "glas"))
    assert {case.id: case.group for case in found.cases} == {
        "train_1": "patient_4",
        "train_2": "patient_4",
        "train_10": "patient_9",
        "testA_1": "patient_2",
        "testB_1": "patient_3",
    }
    assert {case.split for case in found.cases if case.id.startswith("test")} == {"test"}
    assert found.patients_known
    assert not found.warnings
    assert "Grade.csv" in {entry.key for entry in found.files}
    raw = read(config(original, "glas"))
    assert raw.image.shape == (1, 3, 20, 24)
    assert set(np.unique(raw.label)) == {0, 1}


def test_glas_original_without_its_table_does_not(original: Path) -> None:
    (original / "Grade.csv").unlink()
    found = discover(config(original, "glas"))
    assert not found.patients_known
    assert "no Grade.csv" in found.warnings[0]


def test_glas_complains_of_everything_at_once(released: Path) -> None:
    (released / "Train_Folder/labelcol/2.png").unlink()
    (released / "Test_Folder/img/1.png").unlink()
    shutil.copy(released / "Train_Folder/img/1.png", released / "Train_Folder/img/1.tif")
    problems = complaints(config(released, "glas"))
    assert len(problems) == 3
    assert any("Train_Folder/img/2.png: there is no mask" in problem for problem in problems)
    assert any("Test_Folder/labelcol/1.png: there is no image" in problem for problem in problems)
    assert any("img/1.tif" in problem and "of one name" in problem for problem in problems)


def test_glas_missing_folder_and_missing_patients(released: Path, original: Path) -> None:
    shutil.rmtree(released / "Train_Folder/labelcol")
    assert "Train_Folder/labelcol: the folder is missing" in complaints(config(released, "glas"))[0]
    (original / "Grade.csv").write_text("name, patient ID\ntrain_1, 4\n")
    assert len(complaints(config(original, "glas"))) == 4


@pytest.mark.parametrize("adapter", ["glas", "acdc", "image_folder"])
def test_a_source_that_is_not_there_or_something_else(tmp_path: Path, adapter: str) -> None:
    with pytest.raises(DataError, match="nothing is there"):
        discover(config(tmp_path / "absent", adapter))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"no GlaS data set|no ACDC data set|0 images in"):
        discover(config(tmp_path / "other", adapter))


def test_patients_must_be_known_or_given_up(released: Path, original: Path) -> None:
    unknown, known = discover(config(released, "glas")), discover(config(original, "glas"))
    for asked in ({}, {"group_by": "patient"}):
        with pytest.raises(DataError, match=r"does not say which cases are of one patient.*data.group_by: case"):
            choose_groups(config(released, "glas", **asked), unknown)
    assert choose_groups(config(released, "glas", group_by="case"), unknown) == ("case", ())
    assert choose_groups(config(original, "glas"), known) == ("patient", ())
    group_by, warnings = choose_groups(config(original, "glas", group_by="case"), known)
    assert group_by == "case"
    assert "folds may leak" in warnings[0]


def test_acdc_official(nifti_source: Path) -> None:
    found = discover(config(nifti_source, "acdc"))
    assert [case.group for case in found.cases] == ["patient001"] * 2 + ["patient002"] * 2 + ["patient003"] * 2
    assert [case.split for case in found.cases] == ["train"] * 4 + ["test"] * 2
    assert [case.meta["phase"] for case in found.cases] == ["ED", "ES"] * 3
    assert found.cases[0].meta["pathology"] == "DCM"
    assert found.patients_known
    assert not found.warnings


def test_acdc_official_directly_in_the_source(nifti_source: Path) -> None:
    found = discover(config(nifti_source / "training", "acdc"))
    assert len(found.cases) == 4
    assert {case.split for case in found.cases} == {"train"}


def test_acdc_reads_what_nibabel_reads(nifti_source: Path) -> None:
    raw = read(config(nifti_source, "acdc"))
    (image,) = (nifti_source / "training/patient001").glob("patient001_frame01.nii.gz")
    reference = nib.as_closest_canonical(nib.load(image))
    assert np.array_equal(raw.image[:, 0], np.asarray(reference.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(raw.spacing[::-1], reference.header.get_zooms(), rtol=1e-6)
    np.testing.assert_allclose(raw.affine, reference.affine)
    assert raw.image.dtype == np.int16
    assert set(np.unique(raw.label)) == {0, 1, 2, 3}
    label = nib.as_closest_canonical(nib.load(str(image).replace(".nii", "_gt.nii")))
    assert np.array_equal(raw.label, np.asarray(label.dataobj).transpose(2, 1, 0))


def test_acdc_what_is_missing(nifti_source: Path) -> None:
    (nifti_source / "training/patient001/patient001_frame01_gt.nii.gz").unlink()
    (nifti_source / "training/patient002/patient002_frame01.nii.gz").unlink()
    problems = complaints(config(nifti_source, "acdc"))
    assert len(problems) == 2
    assert "patient001_frame01.nii.gz: there is no mask" in problems[0]


def test_acdc_test_patients_without_masks_are_left_out_and_said(nifti_source: Path) -> None:
    for mask in (nifti_source / "testing").rglob("*_gt.nii.gz"):
        mask.unlink()
    (nifti_source / "training/patient002/Info.cfg").unlink()
    found = discover(config(nifti_source, "acdc"))
    assert len(found.cases) == 4
    assert "testing: none of its 2 frames has a mask" in found.warnings[0]
    assert "no Info.cfg for patient002" in found.warnings[1]


def rewrite(path: Path, change) -> None:
    image = nib.load(path)
    voxels, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(voxels, affine), path)


def test_fault_d2_d3_d5_acdc_bad_volumes_are_described(nifti_source: Path) -> None:
    folder = nifti_source / "training"

    def moved(voxels, affine):
        affine[2, 3] += affine[2, 2]
        return voxels, affine

    def odd_values(voxels, affine):
        voxels = voxels.astype(np.float32)
        voxels[0, 0, 0], voxels[1, 0, 0], voxels[2, 0, 0] = 0.37, 4, 4
        return voxels, affine

    rewrite(folder / "patient001/patient001_frame01_gt.nii.gz", moved)
    (problem,) = read_complaints(config(nifti_source, "acdc"), 0)
    assert "patient001_frame01_gt.nii.gz: the mask lies" in problem
    rewrite(folder / "patient001/patient001_frame01_gt.nii.gz", odd_values)
    problems = read_complaints(config(nifti_source, "acdc"), 0)
    assert "unexpected label values 0.37 (1 pixels), 4 (2 pixels); allowed: 0, 1, 2, 3" in problems[0]
    nan = lambda voxels, affine: (np.where(voxels > 200, np.nan, voxels).astype(np.float32), affine)  # noqa: E731
    rewrite(folder / "patient002/patient002_frame01.nii.gz", nan)
    assert "are NaN or infinite" in read_complaints(config(nifti_source, "acdc"), 2)[0]


def test_acdc_slices_are_stacked_by_number(h5_source: Path) -> None:
    found = discover(config(h5_source, "acdc"))
    assert [(case.id, case.group, case.split) for case in found.cases] == [
        ("patient001_frame01", "patient001", "test"),
        ("patient002_frame01", "patient002", "validation"),
        ("patient003_frame01", "patient003", "train"),
    ]
    raw = read(config(h5_source, "acdc"), 2)
    assert raw.image.shape == (11, 1, 16, 20)
    assert raw.image[:, 0, 0, 0].tolist() == list(range(1, 12))
    assert np.isnan(raw.spacing).all()
    assert set(np.unique(raw.label)) == {0, 3}
    assert read(config(h5_source, "acdc"), 0).image.shape == (2, 1, 16, 20)


def test_acdc_lists_and_files_must_agree(h5_source: Path) -> None:
    (h5_source / "data/patient003_frame01_slice_4.h5").unlink()
    (h5_source / "test.list").write_text("patient001_frame01\npatient009_frame02\npatient002_frame01\nwhat\n")
    problems = complaints(config(h5_source, "acdc"))
    assert len(problems) == 4
    assert any("'what' in test.list is no case" in problem for problem in problems)
    assert any("patient009_frame02: listed in test.list, but there is no" in problem for problem in problems)
    assert any("patient003_frame01_slice_4.h5: missing" in problem for problem in problems)
    assert any("patient002_frame01: listed for test and for validation" in problem for problem in problems)


def test_acdc_unlisted_cases_are_left_out_and_said(h5_source: Path) -> None:
    slice_file(h5_source / "data/patient050_frame01.h5", (2, 16, 20), 0.5)
    found = discover(config(h5_source, "acdc"))
    assert len(found.cases) == 3
    assert "patient050_frame01" in found.warnings[0]
    for name in ("train", "val", "test"):
        (h5_source / f"{name}.list").unlink()
    assert len(discover(config(h5_source, "acdc")).cases) == 4


def test_acdc_every_bad_slice_is_named(h5_source: Path) -> None:
    (h5_source / "data/patient003_frame01_slice_2.h5").write_bytes(b"no hdf5")
    slice_file(h5_source / "data/patient003_frame01_slice_5.h5", (16, 20), 1, label=9)
    with h5py.File(h5_source / "data/patient003_frame01_slice_7.h5", "w") as file:
        file["image"] = np.zeros((16, 20), np.float32)
    slice_file(h5_source / "data/patient003_frame01_slice_8.h5", (16, 21), 1)
    problems = read_complaints(config(h5_source, "acdc"), 2)
    assert len(problems) == 4
    assert "slice_2.h5: broken or truncated" in problems[0]
    assert "slice_5.h5: unexpected label values 9 (32 pixels)" in problems[1]
    assert "slice_7.h5: has no data set label; the file holds 1 in all" in problems[2]
    assert "different sizes" in problems[3]


def test_image_folder_ids_are_paths_below_the_folder(pairs: Path) -> None:
    found = discover(config(pairs, "image_folder"))
    assert [case.id for case in found.cases] == ["a", "b", "sub/c", "Ünï cödé 1"]
    assert [case.site for case in found.cases] == ["", "", "sub", ""], "the first subfolder"
    assert {case.split for case in found.cases} == {"unknown"}
    moved = shutil.move(pairs, pairs.with_name("elsewhere"))
    assert [case.id for case in discover(config(Path(moved), "image_folder")).cases] == [c.id for c in found.cases]


def test_image_folder_with_a_suffix_in_one_folder(tmp_path: Path) -> None:
    for name in ("x", "y_mask_z"):
        picture(tmp_path / f"{name}.png", RGB)
        picture(tmp_path / f"{name}_mask.png", MASK)
    one = {"images": "", "masks": "", "mask_suffix": "_mask"}
    assert [case.id for case in discover(config(tmp_path, "image_folder", pairs=one)).cases] == ["x", "y_mask_z"]
    dot = {"images": ".", "masks": ".", "mask_suffix": "_mask"}
    assert len(discover(config(tmp_path, "image_folder", pairs=dot)).cases) == 2


def test_image_folder_hidden_files_are_no_images(pairs: Path) -> None:
    (pairs / "images/.DS_Store").write_bytes(b"x")
    (pairs / "images/._a.png").write_bytes(b"x")
    (pairs / "masks/Thumbs.db").write_bytes(b"x")
    assert len(discover(config(pairs, "image_folder")).cases) == 4


def test_fault_d7_symlink_loop_is_detected(pairs: Path) -> None:
    (pairs / "images/again").symlink_to(pairs)
    with pytest.raises(DataError, match="link"):
        discover(config(pairs, "image_folder"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {0, 1}),
        ({"classes": ["seven", "two"], "label_values": [7, 2]}, {0, 1, 2}),
        ({"classes": ["one"], "label_values": [7]}, None),
        ({"classes": ["one", "two"]}, None),
    ],
)
def test_image_folder_label_values(pairs: Path, fields: dict[str, object], expected: set[int] | None) -> None:
    job = config(pairs, "image_folder", **fields)
    if expected is None:
        assert "unexpected label values" in read_complaints(job)[0]
        return
    label = read(job).label[0]
    assert set(np.unique(label)) == expected
    if "label_values" in fields:
        assert np.array_equal(label == 1, MASK == 7)


def test_image_folder_bad_pairs_are_described(pairs: Path) -> None:
    picture(pairs / "masks/a.png", MASK[:, :-1])
    picture(pairs / "images/b.png", RGB)
    buffer = io.BytesIO()
    Image.fromarray(MASK).save(buffer, "JPEG")
    (pairs / "masks/b.png").write_bytes(buffer.getvalue())
    (pairs / "images/b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    job = config(pairs, "image_folder")
    assert read_complaints(job, 0) == ("masks/a.png: the mask has 23 x 20 pixels, the image 24 x 20",)
    first, second = read_complaints(job, 1)
    assert first.startswith("images/b.png: ")
    assert second.startswith("masks/b.png: a JPEG mask")


def test_class_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for adapter in ("acdc", "glas"):
        with pytest.raises(DataError, match=r"data\.classes"):
            discover(config(tmp_path, adapter, classes=["a", "b"]))
    assert adapters.get("acdc").class_names(config(tmp_path, "acdc")) == ("background", "RV", "MYO", "LV")


def test_an_unknown_adapter_lists_those_there_are() -> None:
    with pytest.raises(DataError, match="Allowed: acdc, arrays, covid19"):
        adapters.get("glass")
