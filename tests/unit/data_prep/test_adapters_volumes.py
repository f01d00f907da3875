"""NIfTI data sets: what is found in which layout, what is read, and what is refused."""

import gzip
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep import FileIndex, InProcessExecutor, adapters, prepare
from tests.volume_sources import (
    SHIFTED,
    classes,
    complaints,
    config,
    discover,
    image,
    mask,
    nifti,
    read,
    read_complaints,
)
from udt_cluster.data import DataStore
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

MSD = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "tumour": 3, "liver": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def msd(folder: Path, names: tuple[str, ...] = ("b_10", "b_2"), **more: object) -> Path:
    for name in names:
        nifti(folder / "imagesTr" / f"{name}.nii.gz", image())
        nifti(folder / "labelsTr" / f"{name}.nii.gz", mask(1, 2))
    listed = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    content = {**MSD, "numTraining": len(names), "training": listed, "test": [], **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def nnunet(folder: Path, **more: object) -> Path:
    for part, name in (("Tr", "liver_1"), ("Tr", "liver_2"), ("Ts", "liver_3")):
        for channel in (0, 1):
            nifti(folder / f"images{part}" / f"{name}_{channel:04d}.nii.gz", image(channel))
        nifti(folder / f"labels{part}" / f"{name}.nii.gz", mask(1, 3))
    (folder / "dataset.json").write_text(json.dumps({**NNUNET, **more}))
    return folder


def test_msd_hippocampus_agrees_with_nibabel(udt_test_data: Path) -> None:
    source = udt_test_data / "hippocampus_msd"
    settings = config(source, "nifti", group_by="case")
    found = discover(settings)
    files = sorted((source / "labelsTr").glob("*.nii.gz"))
    assert [case.id for case in found.cases] == [path.name.removesuffix(".nii.gz") for path in files]
    assert not found.patients_known
    assert not found.warnings
    assert classes(settings) == ("background", "Anterior", "Posterior")
    slices, counts, ours = Counter(), np.zeros(3, np.int64), np.zeros(3, np.int64)
    for number, path in enumerate(files):
        reference = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
        picture = np.asarray(nib.as_closest_canonical(nib.load(source / "imagesTr" / path.name)).dataobj)
        raw = read(settings, number)
        assert np.array_equal(raw.image[:, 0], picture.transpose(2, 1, 0)), path.name
        counts += np.bincount(reference.ravel().astype(int), minlength=3)
        ours += np.bincount(raw.label.ravel(), minlength=3)
        slices.update(nibabel=reference.shape[2], ours=len(raw.label))
    assert np.array_equal(ours, counts)
    assert slices["ours"] == slices["nibabel"]


def test_msd_hippocampus_in_the_store(udt_test_data: Path, tmp_path: Path) -> None:
    settings = config(udt_test_data / "hippocampus_msd", "nifti", group_by="case", slice_axis="coronal")
    index = FileIndex(tmp_path / "i.db")
    found = prepare(settings, "hippocampus", Location.parse(tmp_path / "s"), executor=InProcessExecutor(), index=index)
    store = DataStore.open(found.location)
    labels = sorted((udt_test_data / "hippocampus_msd" / "labelsTr").glob("*.nii.gz"))
    volumes = [np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.uint8) for path in labels]
    assert len(store.cases) == len(volumes) == 24
    assert store.num_samples == sum(volume.shape[1] for volume in volumes)
    for number, volume in enumerate(volumes):
        assert np.array_equal(store.native_label(number), volume.transpose(1, 2, 0))
    assert store.info.class_names == ("background", "Anterior", "Posterior")
    assert store.info.channels == 1


def test_acdc_lists_of_the_real_files_are_the_official_split(udt_test_data: Path) -> None:
    source = udt_test_data / "acdc_h5"
    found = discover(config(source, "acdc"))
    names = {"train": "train.list", "validation": "val.list", "test": "test.list"}
    for split, name in names.items():
        listed = {line.strip().partition("_slice_")[0] for line in (source / name).read_text().splitlines()}
        assert {case.id for case in found.cases if case.split == split} == listed - {""}, split


@pytest.mark.parametrize(("axis", "order"), [("axial", (2, 1, 0)), ("coronal", (1, 2, 0)), ("sagittal", (0, 2, 1))])
def test_slices_along_an_axis_of_the_body_whichever_way_the_file_is_stored(
    tmp_path: Path, axis: str, order: tuple[int, int, int]
) -> None:
    """The file's axes run down, to the left, to the back; turned to (right, front, head) they are `body`."""
    stored = image()
    affine = np.array([[0, -2.0, 0, 50], [0, 0, -3.0, 60], [-1.0, 0, 0, 70], [0, 0, 0, 1]])
    nifti(tmp_path / "images" / "a.nii.gz", stored, affine)
    nifti(tmp_path / "masks" / "a.nii.gz", mask(1), affine)
    raw = read(config(tmp_path, "nifti", slice_axis=axis))
    body = stored.transpose(1, 2, 0)[::-1, ::-1, ::-1]
    assert np.array_equal(raw.image[:, 0], body.transpose(order))
    assert raw.spacing.tolist() == [(2.0, 3.0, 1.0)[side] for side in order]
    assert raw.image.flags.c_contiguous
    corner = raw.affine @ [0, 0, 0, 1]
    assert corner[:3].tolist() == [50 - 2 * 3, 60 - 3 * 2, 70 - 4]


def test_the_axis_of_the_file_keeps_its_slices(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 50], [0, 0, -3.0, 60], [-1.0, 0, 0, 70], [0, 0, 0, 1]])
    nifti(tmp_path / "images" / "a.nii.gz", image(), affine)
    nifti(tmp_path / "masks" / "a.nii.gz", mask(1), affine)
    raw = read(config(tmp_path, "nifti"))
    assert raw.image.shape == (3, 1, 4, 5)
    assert raw.spacing.tolist() == [3.0, 2.0, 1.0]


def test_msd_lists_name_the_cases(tmp_path: Path) -> None:
    source = msd(tmp_path, numTraining=9)
    nifti(source / "imagesTr" / "spare.nii.gz", image())
    nifti(source / "imagesTs" / "t.nii.gz", image())
    found = discover(config(source, "nifti"))
    assert [(case.id, case.split, case.group) for case in found.cases] == [
        ("b_2", "train", "b_2"),
        ("b_10", "train", "b_10"),
    ]
    assert "dataset.json" in {entry.key for entry in found.files}
    assert "imagesTr/spare.nii.gz" not in {entry.key for entry in found.files}
    assert [warning.partition(":")[0] for warning in found.warnings[1:]] == ["imagesTr", "imagesTs"]
    assert "numTraining 9; 2 training cases are here" in found.warnings[0]
    (source / "labelsTr" / "b_2.nii.gz").unlink()
    assert complaints(config(source, "nifti")) == ("labelsTr/b_2.nii.gz: dataset.json lists it, but it is not there",)


def test_msd_modalities_in_one_file_are_channels(tmp_path: Path) -> None:
    source = msd(tmp_path, ("a",), modality={"0": "FLAIR", "1": "T1w"})
    both = np.stack([image(1), image(2)], axis=-1)
    nifti(source / "imagesTr" / "a.nii.gz", both)
    raw = read(config(source, "nifti"))
    assert raw.image.shape == (3, 2, 4, 5)
    assert np.array_equal(raw.image, both.transpose(2, 3, 1, 0))
    nifti(source / "imagesTr" / "a.nii.gz", image())
    assert "imagesTr/a.nii.gz: has the shape (5, 4, 3); with 2 channels" in read_complaints(config(source, "nifti"))[0]


def test_frames_over_time_are_refused(tmp_path: Path, udt_test_data: Path) -> None:
    source = msd(tmp_path, ("a",))
    (source / "imagesTr" / "a.nii.gz").write_bytes((udt_test_data / "odd_files" / "example4d.nii.gz").read_bytes())
    assert "store one frame per file" in read_complaints(config(source, "nifti"))[0]
    nifti(source / "imagesTr" / "a.nii.gz", image()[..., None])
    assert read(config(source, "nifti")).image.shape == (3, 1, 4, 5)


def test_nnunet_channels_classes_and_test_cases(tmp_path: Path) -> None:
    source = nnunet(tmp_path)
    settings = config(source, "nifti")
    found = discover(settings)
    assert [(case.id, case.split) for case in found.cases] == [
        ("liver_1", "train"),
        ("liver_2", "train"),
        ("liver_3", "test"),
    ]
    assert classes(settings) == ("background", "liver", "tumour")
    raw = read(settings)
    assert np.array_equal(raw.image, np.stack([image(0), image(1)]).transpose(3, 0, 2, 1))
    assert np.array_equal(raw.label, mask(1, 2).transpose(2, 1, 0))
    assert classes(config(source, "nifti", classes=["L", "T"])) == ("background", "L", "T")
    with pytest.raises(DataError, match=r"has 2 classes, \['liver', 'tumour'\], and 1 are named"):
        discover(config(source, "nifti", classes=["liver"]))
    chosen = config(source, "nifti", classes=["t", "l"], label_values=[3, 1])
    assert np.array_equal(read(chosen).label, mask(2, 1).transpose(2, 1, 0))


def test_nnunet_channels_that_are_missing_or_too_many(tmp_path: Path) -> None:
    source = nnunet(tmp_path)
    (source / "imagesTr" / "liver_1_0001.nii.gz").unlink()
    nifti(source / "imagesTr" / "liver_2_0002.nii.gz", image())
    (source / "labelsTs" / "liver_3.nii.gz").unlink()
    nifti(source / "labelsTs" / "liver_4.nii.gz", mask(1))
    problems = complaints(config(source, "nifti"))
    assert len(problems) == 5
    assert "liver_1_0001: this channel is missing; the images of this data set have 2" in problems[0]
    assert "liver_2_0002: this channel is one too many" in problems[1]
    assert "liver_3_0000.nii.gz: there is no mask" in problems[2]
    assert "labelsTs/liver_4.nii.gz: there is no image" in problems[4]


def test_nnunet_lists_of_files_and_of_version_1(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "two")
    listed = {"x": {"images": ["imagesTr/liver_1_0000.nii.gz", "./imagesTr/liver_1_0001.nii.gz"],
                    "label": "labelsTr/liver_1.nii.gz"}}  # fmt: skip
    (source / "dataset.json").write_text(json.dumps({**NNUNET, "dataset": listed}))
    case = discover(config(source, "nifti")).cases[1]
    assert (case.id, len(case.images), case.split) == ("x", 2, "train")
    old = nnunet(tmp_path / "one")
    entries = [{"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"} for n in (1, 2)]
    content = {**MSD, "modality": {"0": "a", "1": "b"}, "training": entries}
    (old / "dataset.json").write_text(json.dumps(content))
    assert [len(case.images) for case in discover(config(old, "nifti")).cases] == [2, 2, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no 'labels'"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, r"labels \['whole'\] have no single value"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "'ignore' is not supported"),
        ({"labels": {"background": 0}}, "a name and a value of its own"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "a name and a value of its own"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "a name and a value of its own"),
        ({"labels": {"a": 1}, "file_ending": ".png"}, "For pictures use data.adapter: image_folder"),
        ({"labels": {"a": 1}, "training": [{"image": "x"}]}, "a case without image or label"),
    ],
)
def test_dataset_json_that_cannot_be_used(tmp_path: Path, content: object, message: str) -> None:
    nifti(tmp_path / "imagesTr" / "a.nii.gz", image())
    (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message):
        discover(config(tmp_path, "nifti"))


def test_a_listed_path_cannot_leave_the_source(tmp_path: Path) -> None:
    source = msd(tmp_path / "s", ("a",))
    nifti(tmp_path / "out.nii.gz", image())
    entry = {"image": "../out.nii.gz", "label": "/etc/passwd"}
    (source / "dataset.json").write_text(json.dumps({**MSD, "training": [entry]}))
    assert [problem.partition(":")[0] for problem in complaints(config(source, "nifti"))] == [
        "../out.nii.gz",
        "/etc/passwd",
    ]


def test_nifti_pairs_by_folder_and_by_suffix(tmp_path: Path) -> None:
    for name in ("p2/scan", "p10/scan"):
        nifti(tmp_path / f"{name}.nii", image())
        nifti(tmp_path / f"{name}_seg.nii.gz", mask(7))
    one = config(tmp_path, "nifti", pairs={"images": "", "masks": ".", "mask_suffix": "_seg"})
    assert [case.id for case in discover(one).cases] == ["p2/scan", "p10/scan"]
    assert read(one).label.max() == 1
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    pairs = {"images": "", "masks": ".", "mask_suffix": "_seg"}
    assert [case.id for case in discover(config(moved, "nifti", pairs=pairs)).cases] == ["p2/scan", "p10/scan"]
    with pytest.raises(DataError, match=r"no dataset\.json, and 0 images in data\.pairs\.images='images'"):
        discover(config(moved, "nifti"))


def test_nifti_pairs_with_channels_and_of_one_name(tmp_path: Path) -> None:
    for name in ("a", "b", "c_0001"):
        nifti(tmp_path / "masks" / f"{name}.nii.gz", mask(1))
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        nifti(tmp_path / "images" / f"{name}.nii.gz", image())
    nifti(tmp_path / "images" / "c_0001.nii.gz", image())
    (problem,) = complaints(config(tmp_path, "nifti"))
    assert "c_0001_0001: this channel is missing; the images of this data set have 2" in problem
    (tmp_path / "masks" / "c_0001.nii.gz").unlink()
    nifti(tmp_path / "images" / "a_0001.nii", image())
    twice, lonely = complaints(config(tmp_path, "nifti"))
    assert "images/a_0001.nii, images/a_0001.nii.gz" in twice
    assert "of one name" in twice
    assert lonely == "images/c_0001.nii.gz: there is no mask for this image"
    for name in ("a_0001.nii", "c_0001.nii.gz"):
        (tmp_path / "images" / name).unlink()
    assert [len(case.images) for case in discover(config(tmp_path, "nifti")).cases] == [2, 2]


def test_fault_d2_channels_and_masks_on_other_grids_name_file_and_remedy(tmp_path: Path) -> None:
    source = nnunet(tmp_path)
    moved = SHIFTED.copy()
    moved[2, 3] = 3
    nifti(source / "imagesTr" / "liver_1_0001.nii.gz", image(), moved)
    nifti(source / "labelsTr" / "liver_1.nii.gz", mask(1, shape=(5, 4, 2)))
    channel, label = read_complaints(config(source, "nifti"))
    assert "imagesTr/liver_1_0001.nii.gz: it lies 3.0 voxels away from the image" in channel
    assert "labelsTr/liver_1.nii.gz: the mask has (2, 4, 5) voxels (D, H, W), the image (3, 4, 5)" in label
    assert all("resample it to the image's grid" in problem for problem in (channel, label))


def test_fault_d1_d3_d5_bad_volumes_are_all_named(tmp_path: Path) -> None:
    source = nnunet(tmp_path)
    cut = source / "imagesTr" / "liver_1_0000.nii.gz"
    cut.write_bytes(cut.read_bytes()[:60])
    bad = image().astype(np.float32)
    bad[0, 0, 0] = np.nan
    nifti(source / "imagesTr" / "liver_1_0001.nii.gz", bad)
    nifti(source / "labelsTr" / "liver_1.nii.gz", mask(1, 2))
    first, second, label = read_complaints(config(source, "nifti"))
    assert "liver_1_0000.nii.gz: broken or truncated NIfTI" in first
    assert "copy it again" in first
    assert "liver_1_0001.nii.gz: 1 of 60 values are NaN" in second
    assert "labelsTr/liver_1.nii.gz: unexpected label values 2 (1 pixels); allowed: 0, 1, 3" in label


def test_a_volume_is_in_memory_as_seldom_as_can_be(tmp_path: Path) -> None:
    """Compressed, decompressed, and turned to RAS: at most two volumes at once, of 8 bytes in float64 never one."""
    shape = (96, 96, 100)
    voxels = np.random.default_rng(0).integers(0, 50, shape, dtype=np.int16)
    flipped = np.diag([-1.0, -1.0, 2.0, 1.0])
    nifti(tmp_path / "images" / "a.nii.gz", voxels, flipped)
    nifti(tmp_path / "masks" / "a.nii.gz", mask(1, shape=shape), flipped)
    settings = config(tmp_path, "nifti")
    case = discover(settings).cases[0]
    tracemalloc.start()
    raw = adapters.get("nifti").read(Location.parse(tmp_path), case, settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raw.image.dtype == np.int16
    assert peak < 3.2 * raw.image.nbytes


def test_slope_and_intercept_of_a_real_file_are_applied_in_float32(udt_test_data: Path, tmp_path: Path) -> None:
    source = udt_test_data / "odd_files" / "functional.nii"
    stored = nib.load(source)
    one = nib.Nifti1Image(np.asarray(stored.dataobj.get_unscaled())[..., 0], stored.affine)
    one.header.set_slope_inter(float(stored.dataobj.slope), float(stored.dataobj.inter))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").write_bytes(gzip.compress(one.to_bytes()))
    nifti(tmp_path / "masks" / "a.nii.gz", np.zeros(one.shape, np.uint8), one.affine)
    raw = read(config(tmp_path, "nifti"))
    assert raw.image.dtype == np.float32
    reference = np.asarray(stored.dataobj[..., 0])
    assert raw.image.min() == pytest.approx(reference.min(), rel=1e-6)
    assert float(raw.image.mean(dtype=np.float64)) == pytest.approx(float(reference.mean()), rel=1e-6)


@pytest.mark.parametrize("adapter", ["nifti", "synapse", "arrays", "dicom"])
def test_a_source_that_is_not_there_or_something_else(tmp_path: Path, adapter: str) -> None:
    with pytest.raises(DataError, match="nothing is there"):
        discover(config(tmp_path / "absent", adapter))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"no dataset\.json|no Synapse data set|there are no (files|DICOM images)"):
        discover(config(tmp_path / "other", adapter))
