"""A job written as a job file is the same job when it is read."""

from pathlib import Path

import pytest

from udt_cluster.config.load import load_job
from udt_cluster.config.text import job_text

JOBS = sorted((Path(__file__).parents[3] / "jobs").rglob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_a_job_is_read_as_it_was_written(path: Path, tmp_path: Path) -> None:
    job = load_job(path).with_settings({"train.lr": 0.005, "train.global_batch_size": 8})
    written = tmp_path / "best.yaml"
    written.write_text(job_text(job, comment="found"))
    assert load_job(written) == job
    text = written.read_text()
    assert text.startswith("# found\n")
    assert "version" not in text, "defaults are left out"
