"""MoNuSeg, ISIC 2018, COVID-19 CT, and the masks of `image_folder`: what is found, read and refused."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import adapters
from data_prep.case import CaseError, Discovery, RawCase
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

RGB = np.full((20, 24, 3), 90, np.uint8)
GREY = np.full((20, 24), 90, np.uint8)
BINARY = np.zeros((20, 24), np.uint8)
BINARY[5:9, 3:8] = 255
SLIDE = "TCGA-18-5592-01Z-00-DX1"


def config(source: Path, adapter: str, **fields: object) -> DataConfig:
    fields = {"group_by": "case", **fields} if adapter != "monuseg" else fields
    return DataConfig.model_validate({"source": str(source), "adapter": adapter, "size": (32, 32), **fields})


def discover(job: DataConfig) -> Discovery:
    return adapters.get(job.adapter).discover(Location.parse(job.source), job)


def read(job: DataConfig, number: int = 0) -> RawCase:
    return adapters.get(job.adapter).read(Location.parse(job.source), discover(job).cases[number], job)


def refused(job: DataConfig, number: int = 0) -> tuple[str, ...]:
    with pytest.raises(CaseError) as error:
        read(job, number)
    return error.value.problems


def complaints(job: DataConfig) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        discover(job)
    return error.value.problems


def picture(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def paletted(path: Path, indices: np.ndarray, palette: list[tuple[int, int, int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices, "P")
    image.putpalette([part for color in palette for part in color])
    image.save(path)
    return path


@pytest.fixture
def released(tmp_path: Path) -> Path:
    names = {"Train_Folder": ["TCGA-21-5784-01Z-00-DX1", "TCGA-21-5784-01Z-00-DX2"], "Val_Folder": [SLIDE]}
    for folder, slides in {**names, "Test_Folder": ["TCGA-2Z-A9J9-01A-01-TS1"]}.items():
        for slide in slides:
            picture(tmp_path / "m" / folder / "img" / f"{slide}.tif", RGB)
            picture(tmp_path / "m" / folder / "labelcol" / f"{slide}.png", BINARY)
    return tmp_path / "m"


@pytest.fixture
def isic(tmp_path: Path) -> Path:
    for part, number in (("Training", 13), ("Training", 2), ("Validation", 7), ("Test", 8)):
        picture(tmp_path / "i" / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{number:07}.jpg", RGB)
        masks = tmp_path / "i" / f"ISIC2018_Task1_{part}_GroundTruth"
        picture(masks / f"ISIC_{number:07}_segmentation.png", BINARY)
        (masks / "ATTRIBUTION.txt").write_text("who made it")
    return tmp_path / "i"


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    folder = tmp_path / "c"
    indices = np.zeros((20, 24), np.uint8)
    indices[2:4, :5], indices[8:9, :6] = 1, 2
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    parts = (("TrainingSet", "LungInfection-Train/Doctor-label", "MultiClassInfection-Train", ("0", "1", "10")),)
    for top, single, several, numbers in (
        *parts,
        ("TestingSet", "LungInfection-Test", "MultiClassInfection-Test", ("0",)),
    ):
        for number in numbers:
            picture(folder / top / single / "Imgs" / f"{number}.jpg", GREY)
            picture(folder / top / single / "GT" / f"{number}.png", (indices > 0).astype(np.uint8) * 255)
            paletted(folder / top / several / "GT" / f"{number}.png", indices, palette)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    picture(tmp_path / "p/images/a.png", RGB)
    return tmp_path / "p"


def test_monuseg_released_folders(released: Path) -> None:
    found = discover(config(released, "monuseg"))
    assert [case.site for case in found.cases] == ["TCGA-2Z", "TCGA-18", "TCGA-21", "TCGA-21"]
    assert [(case.id, case.group, case.split) for case in found.cases] == [
        ("TCGA-2Z-A9J9-01A-01-TS1", "TCGA-2Z-A9J9", "test"),
        (SLIDE, "TCGA-18-5592", "validation"),
        ("TCGA-21-5784-01Z-00-DX1", "TCGA-21-5784", "train"),
        ("TCGA-21-5784-01Z-00-DX2", "TCGA-21-5784", "train"),
    ]
    assert found.patients_known
    assert found.warnings == ()
    raw = read(config(released, "monuseg"))
    assert raw.image.shape == (1, 3, 20, 24)
    assert np.array_equal(raw.label[0], BINARY // 255)


def test_monuseg_ids_stay_when_the_root_is_renamed(released: Path) -> None:
    before = discover(config(released, "monuseg"))
    moved = Path(shutil.move(released, released.with_name("test elsewhere")))
    assert discover(config(moved, "monuseg")).cases == before.cases


def test_monuseg_without_patients_in_the_names_says_so(released: Path) -> None:
    for kind, suffix in (("img", "tif"), ("labelcol", "png")):
        for folder in ("Train_Folder", "Test_Folder"):
            first = min((released / folder / kind).iterdir())
            first.rename(first.with_name(f"1.{suffix}"))
    found = discover(config(released, "monuseg", group_by="case"))
    assert {"train_1", "test_1", SLIDE} < {case.id for case in found.cases}
    assert not found.patients_known
    (warning,) = found.warnings
    assert warning.startswith("patients unknown: test_1, train_1 have no name like TCGA-")


@pytest.mark.parametrize("name", ["TCGA-21-57845-01Z", "xTCGA-21-5784-01Z", "TCGA-21"])
def test_monuseg_takes_nothing_else_for_a_patient(released: Path, name: str) -> None:
    for kind, suffix in (("img", "tif"), ("labelcol", "png")):
        file = released / "Val_Folder" / kind / f"{SLIDE}.{suffix}"
        file.rename(file.with_name(f"{name}.{suffix}"))
    found = discover(config(released, "monuseg", group_by="case"))
    assert f"val_{name}" in {case.group for case in found.cases}
    assert not found.patients_known


def test_fault_d7_monuseg_lists_all_that_has_no_partner(released: Path) -> None:
    (released / "Val_Folder/labelcol" / f"{SLIDE}.png").unlink()
    (released / "Test_Folder/img/TCGA-2Z-A9J9-01A-01-TS1.tif").unlink()
    first, second = complaints(config(released, "monuseg"))
    assert first == f"Val_Folder/img/{SLIDE}.tif: there is no mask for this image"
    assert second == "Test_Folder/labelcol/TCGA-2Z-A9J9-01A-01-TS1.png: there is no image for this mask"


def test_fault_d3_monuseg_interpolated_masks_are_refused(released: Path) -> None:
    soft = BINARY.copy()
    soft[4, 3:8] = 127
    picture(released / "Test_Folder/labelcol/TCGA-2Z-A9J9-01A-01-TS1.png", soft)
    (problem,) = refused(config(released, "monuseg"))
    assert problem.startswith(
        "Test_Folder/labelcol/TCGA-2Z-A9J9-01A-01-TS1.png: unexpected label values 127 (5 pixels); allowed: 0, 255. "
        "Export the mask without interpolation"
    )


def test_isic2018_official_parts(isic: Path) -> None:
    found = discover(config(isic, "isic2018"))
    assert [(case.id, case.split) for case in found.cases] == [
        ("ISIC_0000002", "train"),
        ("ISIC_0000007", "validation"),
        ("ISIC_0000008", "test"),
        ("ISIC_0000013", "train"),
    ]
    assert all(case.group == case.id for case in found.cases)
    assert not found.patients_known
    assert len(found.files) == 8
    assert np.array_equal(read(config(isic, "isic2018"), 3).label[0], BINARY // 255)


def test_isic2018_parts_without_published_masks_are_left_out_and_said(isic: Path) -> None:
    shutil.rmtree(isic / "ISIC2018_Task1_Test_GroundTruth")
    found = discover(config(isic, "isic2018"))
    assert {case.split for case in found.cases} == {"train", "validation"}
    assert found.warnings[1] == (
        "ISIC2018_Task1-2_Test_Input: there is no ISIC2018_Task1_Test_GroundTruth, so its 1 images are left out."
    )
    shutil.rmtree(isic / "ISIC2018_Task1_Training_GroundTruth")
    assert complaints(config(isic, "isic2018")) == (
        "ISIC2018_Task1_Training_GroundTruth: the folder is missing or has no pictures",
    )


def test_fault_d7_isic2018_one_missing_mask_is_an_error_and_not_a_smaller_data_set(isic: Path) -> None:
    (isic / "ISIC2018_Task1_Training_GroundTruth/ISIC_0000013_segmentation.png").unlink()
    (problem,) = complaints(config(isic, "isic2018"))
    assert problem.endswith("ISIC_0000013.jpg: there is no mask for this image")


def test_covid19_the_same_cases_with_either_kind_of_labels(covid: Path) -> None:
    infection, several = (config(covid, "covid19", labels=labels) for labels in ("infection", "multi_class"))
    found = discover(infection)
    assert [(case.id, case.split) for case in found.cases] == [
        ("test_0", "test"),
        ("train_0", "train"),
        ("train_1", "train"),
        ("train_10", "train"),
    ]
    assert [case.id for case in discover(several).cases] == [case.id for case in found.cases]
    assert "folds may leak" in found.warnings[0]
    assert np.bincount(read(infection).label.ravel()).tolist() == [464, 16]
    assert np.bincount(read(several).label.ravel()).tolist() == [464, 10, 6]
    assert read(several).image.shape == (1, 1, 20, 24)
    names = adapters.get("covid19").class_names
    assert names(infection) == ("background", "infection")
    assert names(several) == ("background", "ground_glass", "consolidation")


def test_covid19_images_beside_the_masks_of_several_classes_come_first(covid: Path) -> None:
    own = covid / "TestingSet/MultiClassInfection-Test/Imgs"
    shutil.copytree(covid / "TestingSet/LungInfection-Test/Imgs", own)
    case = discover(config(covid, "covid19", labels="multi_class")).cases[0]
    assert case.images == ("TestingSet/MultiClassInfection-Test/Imgs/0.jpg",)
    assert case.labels == ("TestingSet/MultiClassInfection-Test/GT/0.png",)


def test_fault_d3_covid19_coloured_masks_name_the_file_and_the_remedy(covid: Path) -> None:
    mask = covid / "TestingSet/MultiClassInfection-Test/GT/0.png"
    with Image.open(mask) as image:
        image.convert("RGB").save(mask)
    (problem,) = refused(config(covid, "covid19", labels="multi_class"))
    assert problem.startswith(
        "TestingSet/MultiClassInfection-Test/GT/0.png: a coloured mask; store one value per class"
    )


@pytest.mark.parametrize("adapter", ["monuseg", "isic2018", "covid19"])
def test_a_source_of_another_kind_is_told_what_it_should_hold(tmp_path: Path, adapter: str) -> None:
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"is no .* data set.*there is neither .*data\.source must be the folder"):
        discover(config(tmp_path, adapter))


@pytest.mark.parametrize(
    ("adapter", "classes"), [("monuseg", ["a", "b"]), ("isic2018", ["a", "b"]), ("covid19", ["a", "b"])]
)
def test_names_for_another_number_of_classes_are_refused(tmp_path: Path, adapter: str, classes: list[str]) -> None:
    with pytest.raises(DataError, match=rf"data\.classes: {adapter} has .* named are \['a', 'b'\]; name all 1"):
        discover(config(tmp_path, adapter, classes=classes))


def colored(pairs: Path, colors: list[list[int]], mask: np.ndarray) -> DataConfig:
    picture(pairs / "masks/a.png", mask)
    names = [f"class{number}" for number in range(len(colors))]
    return config(pairs, "image_folder", classes=names, label_colors=colors)


def test_image_folder_colours_become_classes(pairs: Path) -> None:
    mask = np.zeros((20, 24, 3), np.uint8)
    mask[:2], mask[2:5] = (0, 255, 0), (255, 0, 0)
    label = read(colored(pairs, [[255, 0, 0], [0, 255, 0]], mask)).label[0]
    assert label[:, 0].tolist() == [2, 2, 1, 1, 1] + [0] * 15


def test_fault_d3_image_folder_unexpected_colours_are_counted_the_most_frequent_first(pairs: Path) -> None:
    mask = np.zeros((20, 24, 3), np.uint8)
    mask[:2], mask[2, :3], mask[3, :7] = (255, 0, 0), (254, 0, 0), (0, 0, 9)
    (problem,) = refused(colored(pairs, [[255, 0, 0]], mask))
    assert problem.startswith(
        "masks/a.png: unexpected colours [0, 0, 9] (7 pixels), [254, 0, 0] (3 pixels); allowed: [0, 0, 0], [255, 0, 0]."
    )
    assert "data.label_colors" in problem
    mask[..., 2] = np.arange(480, dtype=np.uint8).reshape(20, 24)
    (problem,) = refused(colored(pairs, [[255, 0, 0]], mask))
    assert problem.count("pixels)") == 8
    assert "more; allowed" in problem


def test_image_folder_colours_of_palettes_and_of_opaque_alpha(pairs: Path) -> None:
    indices = BINARY // 255
    job = colored(pairs, [[200, 0, 100]], RGB)
    paletted(pairs / "masks/a.png", indices, [(0, 0, 0), (200, 0, 100)])
    assert np.array_equal(read(job).label[0], indices)
    opaque = np.dstack([*(indices * part for part in (200, 0, 100)), np.full_like(indices, 255)])
    picture(pairs / "masks/a.png", opaque)
    assert np.array_equal(read(job).label[0], indices)
    opaque[0, 0, 3] = 0
    picture(pairs / "masks/a.png", opaque)
    assert "transparent pixels" in refused(job)[0]


def test_fault_d3_image_folder_coloured_masks_are_no_jpeg_and_have_8_bits(pairs: Path) -> None:
    job = colored(pairs, [[255, 0, 0]], RGB)
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG")
    (pairs / "masks/a.png").write_bytes(buffer.getvalue())
    assert refused(job)[0].startswith("masks/a.png: a JPEG mask")
    picture(pairs / "masks/a.png", BINARY.astype(np.uint16))
    assert "has no 8-bit colours; export the mask as 8-bit RGB" in refused(job)[0]


@pytest.mark.parametrize("value", [1, 255])
def test_image_folder_gif_and_two_valued_masks(tmp_path: Path, value: int) -> None:
    picture(tmp_path / "images/a.gif", GREY)
    picture(tmp_path / "masks/a.gif", BINARY // 255 * np.uint8(value))
    raw = read(config(tmp_path, "image_folder"))
    assert raw.image.shape[1:] in ((1, 20, 24), (3, 20, 24))
    assert set(np.unique(raw.image)) == {90}
    assert np.array_equal(raw.label[0], BINARY // 255)


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_fault_d5_white_before_black_in_a_palette_is_refused(pairs: Path, suffix: str) -> None:
    paletted(pairs / f"masks/a.{suffix}", 1 - BINARY // 255, [(255, 255, 255), (0, 0, 0)])
    (problem,) = refused(config(pairs, "image_folder"))
    assert problem.startswith(f"masks/a.{suffix}: a palette with white as index 0 and black as index 1")
    assert problem.endswith("Save it as grey PNG with 0 as background")
    paletted(pairs / f"masks/a.{suffix}", BINARY // 255, [(0, 0, 0), (255, 255, 255)])
    assert np.array_equal(read(config(pairs, "image_folder")).label[0], BINARY // 255)


def test_glas_val_folder_is_for_validation(tmp_path: Path) -> None:
    for folder in ("Train_Folder", "Val_Folder", "Test_Folder"):
        picture(tmp_path / folder / "img/1.png", RGB)
        picture(tmp_path / folder / "labelcol/1.png", BINARY)
    found = discover(config(tmp_path, "glas"))
    assert {case.id: case.split for case in found.cases} == {
        "train_1": "train",
        "val_1": "validation",
        "test_1": "test",
    }
