"""Short-axis views of a heart that never beat, in the layout of ACDC."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from data_prep.phantom.drawing import Array, Outline, Scale, draw_scale, smooth_field, write_note

RV, MYO, LV = 1, 2, 3
_PATHOLOGIES = ("NOR", "DCM", "HCM", "MINF", "RV")
_LV_MM = {"NOR": 22.0, "DCM": 27.0, "HCM": 18.0, "MINF": 24.0, "RV": 20.0}
_WALL_MM = {"NOR": 9.0, "DCM": 7.0, "HCM": 14.0, "MINF": 8.0, "RV": 9.0}
_TISSUE = {"outside": 15.0, "body": 90.0, "lung": 30.0, "fat": 190.0, "wall": 75.0, "blood": 230.0}


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One patient: sizes in mm, grid, and outlines that stay the same from base to apex."""

    pathology: str
    scale: float
    side: int
    slices: int
    pixel_mm: float
    slice_mm: float
    centre: tuple[float, float]
    outlines: tuple[Outline, Outline]
    seed: int


def acdc(
    folder: Path,
    *,
    patients: int,
    seed: int = 0,
    scale: Scale = "mixed",
    side: int = 128,
    test_patients: int = 0,
) -> None:
    """Write cardiac-like volumes: `training/patientNNN/{Info.cfg, patientNNN_frameMM.nii.gz, ..._gt.nii.gz}`.

    Each patient has two frames (ED and ES) of 6 to 9 slices, int16, in-plane 1.3 to 1.7 mm and 8 to 10 mm between
    slices, stored right to left, so that reading has to turn it.

    Args:
        folder: Made if need be.
        patients: Number in `training/`.
        seed: The same seed gives the same bytes.
        scale: Of the hearts, see `data_prep.phantom.drawing.draw_scale`.
        side: Height in pixels; the width is 7/8 of it.
        test_patients: Number in `testing/`.
    """
    for number in range(1, patients + test_patients + 1):
        part = "training" if number <= patients else "testing"
        name = f"patient{number:03d}"
        rng = np.random.default_rng([seed, number])
        heart = _heart(rng, pathology=_PATHOLOGIES[number % len(_PATHOLOGIES)], scale=draw_scale(rng, scale), side=side)
        target = folder / part / name
        target.mkdir(parents=True, exist_ok=True)
        late = int(rng.integers(8, 14))
        (target / "Info.cfg").write_text(f"ED: 1\nES: {late}\nGroup: {heart.pathology}\nNbFrame: {2 * late}\n")
        for frame, contraction in ((1, 0.0), (late, 1.0)):
            _write_frame(target / f"{name}_frame{frame:02d}", heart, contraction)
    write_note(folder, what="cardiac-like volumes", layout="ACDC (NIfTI and Info.cfg)", seed=seed)


def _heart(rng: np.random.Generator, *, pathology: str, scale: float, side: int) -> Heart:
    pixel_mm = float(rng.uniform(1.3, 1.7)) * 128 / side
    return Heart(
        pathology=pathology,
        scale=scale,
        side=side,
        slices=int(rng.integers(6, 10)),
        pixel_mm=pixel_mm,
        slice_mm=float(rng.uniform(8, 10)),
        centre=(float(rng.uniform(-6, 6)) + 12 * scale, float(rng.uniform(-8, 14))),
        outlines=(Outline(rng, wobble=0.03), Outline(rng, wobble=0.04)),
        seed=int(rng.integers(2**31)),
    )


def _write_frame(stem: Path, heart: Heart, contraction: float) -> None:
    """One volume and its mask; nibabel's array is (x, y, z)."""
    rng = np.random.default_rng([heart.seed, int(contraction * 10)])
    planes = [_slice(rng, heart, contraction, depth / (heart.slices - 1)) for depth in range(heart.slices)]
    affine = np.diag([-heart.pixel_mm, heart.pixel_mm, heart.slice_mm, 1.0])
    for suffix, volume in (
        ("", np.stack([image for image, _ in planes]).round().astype(np.int16)),
        ("_gt", np.stack([label for _, label in planes]).astype(np.uint8)),
    ):
        nifti = nib.Nifti1Image(volume.transpose(2, 1, 0), affine)
        nifti.header["descrip"] = b"SYNTHETIC phantom, no patient"
        nifti.header.set_xyzt_units("mm", "sec")
        content = gzip.compress(nifti.to_bytes(), mtime=0, compresslevel=6)
        stem.with_name(f"{stem.name}{suffix}.nii.gz").write_bytes(content)


def _slice(rng: np.random.Generator, heart: Heart, contraction: float, towards_apex: float) -> tuple[Array, Array]:
    """Image and label (H, W) of one slice; `towards_apex` is 0 at the base and 1 at the apex."""
    height, width = heart.side, heart.side * 7 // 8
    y = (np.arange(height)[:, None] - height / 2) * heart.pixel_mm
    x = (np.arange(width)[None, :] - width / 2) * heart.pixel_mm
    label = _anatomy(heart, contraction, towards_apex, y, x)
    image = _chest(y, x)
    image[label == RV] = _TISSUE["blood"] * 0.9
    image[label == MYO] = _TISSUE["wall"]
    image[label == LV] = _TISSUE["blood"]
    image = _blurred(image) * (1 + 0.3 * smooth_field(rng, image.shape, waves=1)) + 8 * smooth_field(
        rng, image.shape, waves=9
    )
    noise = rng.normal(0, 7, (2, *image.shape))
    return np.hypot(image + noise[0], noise[1]), label


def _anatomy(heart: Heart, contraction: float, towards_apex: float, y: Array, x: Array) -> Array:
    """Label values; the heart tapers towards the apex, and the right ventricle ends before it."""
    taper = heart.scale * np.sqrt(1 - 0.85 * towards_apex**2)
    cavity = _LV_MM[heart.pathology] * (1 - 0.3 * contraction) * taper
    wall = _WALL_MM[heart.pathology] * (1 + 0.35 * contraction) * heart.scale
    across, down = x - heart.centre[0], y - heart.centre[1]
    distance, angle = np.hypot(across, down), np.arctan2(down, across)
    left, right = heart.outlines
    shape = left.radius(angle)
    label = np.zeros(distance.shape)
    reach = (cavity + wall) * (1.15 if heart.pathology == "RV" else 1.0) * (1 - 0.25 * contraction)
    offset = across + (cavity + wall) * 0.75
    to_right = np.hypot(offset, down * 0.85) / right.radius(np.arctan2(down, offset))
    if towards_apex < 0.75:
        label[to_right < reach * (1 - 0.5 * towards_apex)] = RV
    label[distance < (cavity + wall) * shape] = MYO
    label[distance < cavity * shape] = LV
    return label


def _chest(y: Array, x: Array) -> Array:
    """What lies around the heart: air, fat, muscle, lungs."""
    body = np.hypot(x / 84, y / 92)
    image = np.full(body.shape, _TISSUE["outside"])
    image[body < 1.0] = _TISSUE["fat"]
    image[body < 0.94] = _TISSUE["body"]
    for side in (-1, 1):
        image[np.hypot((x - side * 52) / 26, (y + 8) / 50) < 1] = _TISSUE["lung"]
    return image


def _blurred(image: Array) -> Array:
    """Soft edges, as of voxels that lie half in each tissue: the mean of 3 x 3."""
    padded = np.pad(image, 1, mode="edge")
    height, width = image.shape
    shifts = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    blurred: Array = np.mean(shifts, axis=0)
    return blurred
