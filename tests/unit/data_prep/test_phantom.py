"""Phantoms: in the layouts of the real data sets, the same from the same seed, of the size asked for, and honest."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep.phantom import acdc, glas
from data_prep.phantom.__main__ import main


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_acdc_layout(tmp_path: Path) -> None:
    acdc(tmp_path, patients=2, test_patients=1, side=128)
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["patient001", "patient002"]
    assert [path.name for path in (tmp_path / "testing").iterdir()] == ["patient003"]
    files = sorted(path.name for path in (tmp_path / "training/patient001").iterdir())
    assert len(files) == 5
    assert files[:2] == ["Info.cfg", "patient001_frame01.nii.gz"]
    for image_path in (tmp_path / "training/patient001").glob("*frame??.nii.gz"):
        image, label = nib.load(image_path), nib.load(str(image_path).replace(".nii", "_gt.nii"))
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        assert image.header.get_zooms()[2] > 4 * image.header.get_zooms()[0], "slices are thick"


def test_hearts_taper_and_contract(tmp_path: Path) -> None:
    acdc(tmp_path, patients=1, side=64, scale=1.0)
    early, late = (np.asarray(nib.load(path).dataobj) for path in sorted(tmp_path.rglob("*frame*_gt.nii.gz")))
    cavity = (early == 3).sum(axis=(0, 1))
    assert cavity[0] > 2 * cavity[-1] > 0
    assert (late == 3).sum() < 0.8 * (early == 3).sum()
    assert (early[..., 0] == 1).any()
    assert not (early[..., -1] == 1).any(), "the right ventricle ends before the apex"


def test_glas_layout_and_instances(tmp_path: Path) -> None:
    glas(tmp_path, train=2, test=1, size=(48, 64))
    assert sorted(path.name for path in (tmp_path / "Train_Folder/img").iterdir()) == ["1.png", "2.png"]
    image, mask = (pixels(tmp_path / f"Test_Folder/{kind}/1.png") for kind in ("img", "labelcol"))
    assert image.shape == (48, 64, 3)
    assert mask.shape == (48, 64)
    ids = np.unique(mask)
    assert ids[0] == 0
    assert len(ids) > 2


@pytest.mark.parametrize("kind", ["acdc", "glas"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    small = {"acdc": ["--patients", "1", "--side", "32"], "glas": ["--train", "2", "--test", "1", "--side", "48"]}[kind]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([kind, str(tmp_path / name), *small, "--seed", seed]) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def object_size(folder: Path, kind: str) -> float:
    """Mean pixels of one object: a gland, or the heart in a slice."""
    if kind == "glas":
        masks = [pixels(path) for path in folder.rglob("labelcol/*.png")]
        return float(np.mean([np.mean(np.bincount(mask.ravel())[1:]) for mask in masks]))
    return float(np.mean([(np.asarray(nib.load(p).dataobj) > 0).mean() for p in folder.rglob("*_gt.nii.gz")]))


@pytest.mark.parametrize("kind", ["acdc", "glas"])
def test_objects_have_the_size_asked_for(tmp_path: Path, kind: str) -> None:
    sizes = []
    for scale in ("small", "1", "large"):
        few = ["--patients", "2", "--side", "48"] if kind == "acdc" else ["--train", "3", "--test", "0", "--side", "64"]
        assert main([kind, str(tmp_path / scale), *few, "--scale", scale]) == 0
        sizes.append(object_size(tmp_path / scale, kind))
    assert sizes[0] * 2 < sizes[1]
    assert sizes[1] * 1.4 < sizes[2]


def test_they_say_that_they_are_made_up(tmp_path: Path) -> None:
    acdc(tmp_path / "a", patients=1, side=32)
    glas(tmp_path / "g", train=1, test=0, size=(32, 32))
    for folder in ("a", "g"):
        assert "SYNTHETIC" in (tmp_path / folder / "README.txt").read_text()
    for path in (tmp_path / "a").rglob("*.nii.gz"):
        assert b"SYNTHETIC" in nib.load(path).header["descrip"].item()


@pytest.mark.parametrize("scale", ["huge", "5", "-1"])
def test_a_scale_that_does_not_exist_is_refused(tmp_path: Path, scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["glas", str(tmp_path), f"--scale={scale}"]) == 2
    assert f"scale {scale}; allowed: small, large, mixed" in capsys.readouterr().err
