"""Synapse: TransUNet's files and the raw scans, what is found, what is read, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.volume_sources import classes, complaints, config, discover, image, mask, nifti, read, read_complaints
from udt_cluster.errors import DataError

ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")


@pytest.fixture
def transunet(tmp_path: Path) -> Path:
    """Two training scans as slices, one test scan as a volume, and the lists."""
    for folder in ("train_npz", "test_vol_h5", "lists/lists_Synapse"):
        (tmp_path / folder).mkdir(parents=True)
    lines = []
    for scan, depth in (("case0005", 12), ("case0010", 2)):
        for number in range(depth):
            np.savez(
                tmp_path / "train_npz" / f"{scan}_slice{number:03d}.npz",
                image=np.full((6, 8), number / 100, np.float32),
                label=mask(8, 1, shape=(6, 8)).astype(np.float32),
            )
            lines.append(f"{scan}_slice{number:03d}\n")
    with h5py.File(tmp_path / "test_vol_h5" / "case0008.npy.h5", "w") as file:
        file["image"] = np.zeros((4, 6, 8), np.float32)
        file["label"] = mask(5, shape=(4, 6, 8)).astype(np.float32)
    (tmp_path / "lists/lists_Synapse/train.txt").write_text("".join(reversed(lines)))
    (tmp_path / "lists/lists_Synapse/test_vol.txt").write_text("case0008\n")
    return tmp_path


def test_synapse_slices_become_the_volumes_of_patients(transunet: Path) -> None:
    settings = config(transunet, "synapse")
    found = discover(settings)
    assert [(case.id, case.group, case.split) for case in found.cases] == [
        ("case0005", "case0005", "train"),
        ("case0008", "case0008", "test"),
        ("case0010", "case0010", "train"),
    ]
    assert found.patients_known
    assert classes(settings) == ("background", *ORGANS)
    raw = read(settings)
    assert raw.image.shape == (12, 1, 6, 8)
    assert raw.image[:, 0, 0, 0].tolist() == pytest.approx([number / 100 for number in range(12)])
    assert set(np.unique(raw.label)) == {0, 1, 8}
    assert np.isnan(raw.spacing).all()
    assert read(settings, 1).label.shape == (4, 6, 8)


def test_synapse_without_lists_goes_by_the_folders(transunet: Path) -> None:
    for path in (transunet / "lists/lists_Synapse").iterdir():
        path.unlink()
    found = discover(config(transunet, "synapse"))
    assert [case.split for case in found.cases] == ["train", "test", "train"]


def test_synapse_lists_and_files_must_agree(transunet: Path) -> None:
    (transunet / "train_npz" / "case0005_slice000.npz").unlink()
    (transunet / "train_npz" / "case0005_slice004.npz").unlink()
    (transunet / "lists/lists_Synapse/test_vol.txt").write_text("case0008\ncase0010\ncase0099\nwhat\n")
    problems = complaints(config(transunet, "synapse"))
    for expected in (
        "case0005_slice000: listed in lists/lists_Synapse/train.txt, but there is no such file",
        "case0005_slice000.npz: missing between the slices",
        "case0005_slice004.npz: missing between the slices",
        "case0010_slice001: listed for test and for train",
        "case0099: listed in",
        "'what' in lists/lists_Synapse/test_vol.txt is no case",
    ):
        assert any(expected in problem for problem in problems), expected


def test_synapse_unlisted_scans_are_left_out_and_said(transunet: Path) -> None:
    (transunet / "lists/lists_Synapse/test_vol.txt").write_text("")
    found = discover(config(transunet, "synapse"))
    assert [case.id for case in found.cases] == ["case0005", "case0010"]
    assert "case0008" in found.warnings[0]


def test_synapse_values_that_are_windowed_already_are_not_windowed_again(transunet: Path) -> None:
    with pytest.raises(DataError, match=r"windowed already, to 0\.\.1"):
        discover(config(transunet, "synapse", normalize="ct_window"))
    assert discover(config(transunet, "synapse", normalize="ct_window", window=[0, 1])).cases


def test_fault_d1_d3_synapse_every_bad_slice_is_named(transunet: Path) -> None:
    folder = transunet / "train_npz"
    (folder / "case0005_slice001.npz").write_bytes((folder / "case0005_slice001.npz").read_bytes()[:300])
    picture = np.zeros((6, 8), np.float32)
    np.savez(folder / "case0005_slice003.npz", image=picture, label=np.full((6, 8), 0.37))
    np.savez(folder / "case0005_slice005.npz", image=picture, label=np.zeros((6, 9)))
    np.savez(folder / "case0005_slice007.npz", image=picture)
    np.savez(folder / "case0005_slice009.npz", image=np.full((6, 8), np.inf), label=picture)
    problems = read_complaints(config(transunet, "synapse"))
    for problem, (number, reason) in zip(
        problems,
        ((1, "broken or truncated .npz"), (3, "unexpected label values 0.37 (48 pixels)"),
         (5, "the mask has the shape"), (7, "has no array label; the file holds 1 in all"), (9, "NaN or infinite")),
        strict=True,
    ):  # fmt: skip
        assert problem.startswith(f"train_npz/case0005_slice{number:03d}.npz: ")
        assert reason in problem


@pytest.mark.parametrize("folder", ["", "RawData/Training"])
def test_synapse_raw_scans_keep_hounsfield_units_and_have_the_same_organs(tmp_path: Path, folder: str) -> None:
    structures = mask(*range(14))
    for number in (5, 8):
        nifti(tmp_path / folder / "img" / f"img{number:04d}.nii.gz", image(number))
        nifti(tmp_path / folder / "label" / f"label{number:04d}.nii.gz", structures)
    nifti(tmp_path / "RawData" / "Testing" / "img" / "img0061.nii.gz", image())
    settings = config(tmp_path, "synapse", normalize="ct_window")
    found = discover(settings)
    assert [(case.id, case.group, case.split) for case in found.cases] == [
        ("case0005", "case0005", "train"),
        ("case0008", "case0008", "test"),
    ]
    assert "1 scans lie in folders without any mask" in found.warnings[0]
    raw = read(settings)
    assert np.array_equal(raw.image[:, 0], image(5).transpose(2, 1, 0))
    organs = raw.label.transpose(2, 1, 0).ravel()[:14].tolist()
    by_value = dict(enumerate(organs))
    names = {value: (*ORGANS, "background")[index - 1] for value, index in by_value.items()}
    assert names == {
        **dict.fromkeys((0, 5, 9, 10, 12, 13), "background"),
        1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 6: "liver", 7: "stomach", 8: "aorta",
        11: "pancreas",
    }  # fmt: skip
    nifti(tmp_path / folder / "label" / "label0005.nii.gz", mask(14))
    assert "label0005.nii.gz: unexpected label values 14 (1 pixels)" in read_complaints(settings)[0]
    (tmp_path / folder / "label" / "label0008.nii.gz").unlink()
    assert "img0008.nii.gz: there is no mask" in complaints(settings)[0]
