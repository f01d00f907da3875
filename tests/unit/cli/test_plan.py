"""`udt-cluster plan`: what would be trained, and hours where an earlier job has measured them."""

import json
from pathlib import Path

import pytest

from udt_cluster.cli.app import main
from udt_cluster.cluster.record import JobRecord, Record
from udt_cluster.config.load import load_job
from udt_cluster.storage import Location

JOB = """\
name: a
data: {source: /data/glas, adapter: glas, group_by: case, size: [32, 32]}
model: {architecture: unet}
train: {epochs: 9}
tune:
  search: {train.lr: {choice: [0.1, 0.01, 0.001]}}
  searcher: grid
  scheduler: fifo
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def earlier_job(job_file: Path, home: Path) -> None:
    """A job that has trained on the same data: 2 s an epoch."""
    job = load_job(job_file).with_settings({})
    record = JobRecord(Location.parse(home / "store"), "a-00000001")
    facts = Record(id=record.id, name="a", job_hash=job.hash, submitted_at="2026-01-01T00:00:00+00:00", user="u",
                   target="local", run_id="r", git_sha="", versions={})  # fmt: skip
    record.create(facts, job, "")
    record.write_progress({"epoch_seconds": 2.0})


def test_nobody_knows_how_long_before_a_job_has_trained(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(job_file)]) == 0
    shown = capsys.readouterr()
    assert "train.lr=0.01" in shown.out
    assert "27 at most" in shown.out
    assert "hours" not in shown.out
    assert "train.epochs=1" in shown.err


def test_hours_follow_from_an_earlier_job_on_the_same_data(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier_job(job_file, job_file.parent / "home")
    assert main(["plan", str(job_file), "--at-a-time", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured_by"] == "a-00000001"
    assert found["epochs"] == {"most": 27, "expected": 27.0}
    assert found["seconds"] == pytest.approx(27 * 2 / 2)
    assert found["worker_hours"]["most"] == pytest.approx(27 * 2 / 3600, abs=1e-3)
    assert [one["settings"] for one in found["planned"]] == [{"train.lr": lr} for lr in (0.1, 0.01, 0.001)]


def test_a_job_on_other_data_says_nothing(job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier_job(job_file, job_file.parent / "home")
    assert main(["plan", str(job_file), "--set", "data.size=[64,64]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] is None
