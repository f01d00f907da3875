"""Sources that several files of tests harm."""

from pathlib import Path

import numpy as np
import pytest

from tests.checked_sources import CASES, mask, picture, save, save_volume


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
