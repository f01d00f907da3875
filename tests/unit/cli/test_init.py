"""`init FOLDER`: a job that fits what lies in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.adapters import get as get_adapter
from udt_cluster.config.data import PairsConfig
from udt_cluster.config.load import load_job
from udt_cluster.storage import Location

Run = Callable[..., Any]


def _pairs(folder: Path, count: int, *, values: tuple[int, ...]) -> None:
    (folder / "scans").mkdir(parents=True)
    (folder / "segmentations").mkdir()
    for number in range(count):
        Image.fromarray(np.full((40, 60, 3), number, np.uint8)).save(folder / "scans" / f"a{number}.png")
        mask = np.zeros((40, 60), np.uint8)
        for row, value in enumerate(values):
            mask[5 * row : 5 * row + 5] = value
        Image.fromarray(mask).save(folder / "segmentations" / f"a{number}_seg.png")


def test_init_of_a_folder_of_pairs_writes_a_job_that_reads_all_of_it(run: Run, tmp_path: Path) -> None:
    _pairs(tmp_path / "My Lesions", 7, values=(0, 100, 200))
    answer = run("init", str(tmp_path / "My Lesions"), "--output", str(tmp_path / "job.yaml"))
    assert answer.code == 0, answer.err
    job = load_job(tmp_path / "job.yaml")
    assert (job.name, job.data.adapter, job.data.group_by) == ("my-lesions-udtransnet", "image_folder", "case")
    assert job.data.pairs == PairsConfig(images="scans", masks="segmentations", mask_suffix="_seg")
    assert (job.data.classes, job.data.label_values) == (("class-1", "class-2"), (100, 200))
    assert job.data.size == (32, 64)
    found = get_adapter("image_folder").discover(Location.parse(job.data.source), job.data)
    assert len(found.cases) == 7


def test_init_of_a_folder_without_masks_says_what_it_saw(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    answer = run("init", str(tmp_path / "notes"), "--output", str(tmp_path / "job.yaml"))
    assert answer.code == 3
    assert "1 files (1 txt)" in answer.err
    assert not (tmp_path / "job.yaml").exists()
