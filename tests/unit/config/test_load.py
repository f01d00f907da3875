"""Right job files: values, overrides, paths, and what a job says about itself."""

import json
import pickle
from pathlib import Path

import pytest

from udt_cluster.config.job import Job
from udt_cluster.config.load import load_job

MINIMAL = "name: heart\ndata: {source: ACDC, adapter: acdc}\n"


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "jobs" / "heart.yaml"
    path.parent.mkdir()
    path.write_text(MINIMAL)
    return path


def test_the_least_job_has_small_defaults(job_file: Path) -> None:
    job = load_job(job_file)
    assert (job.repeat.folds, job.repeat.seeds, job.tune, job.resources.workers.max) == ((0,), (1,), None, 1)
    assert job.model_name == "heart"
    assert job.stages == ("prepare", "train", "evaluate", "register")


def test_overrides_are_yaml_and_the_later_wins(job_file: Path) -> None:
    job = load_job(
        job_file,
        ["train.epochs=3", "train.epochs=4", "data.size=[64, 96]", "train.checkpoint_every=10m", "train.lr=1e-4"],
    )
    assert (job.train.epochs, job.data.size, job.train.lr) == (4, (64, 96), 1e-4)
    assert json.loads(job.to_json())["train"]["checkpoint_every"] == "10m"


def test_an_override_may_set_a_section_and_mend_what_the_file_has_wrong(job_file: Path) -> None:
    job_file.write_text(MINIMAL + "train: {epochs: ten}\n")
    assert load_job(job_file, ["train.epochs=3"]).train.epochs == 3
    assert load_job(job_file, ["train={epochs: 5}"]).train.epochs == 5
    assert load_job(job_file, ["train.epochs=3", "train={}"]).train.epochs == 100


@pytest.mark.parametrize("text", ["a: b", "5", "true", "x # y", "[1", "$(touch x); rm -rf", "'", "s3://b/p=1"])
def test_fault_S5_text_of_an_override_arrives_as_it_was_typed(job_file: Path, text: str) -> None:
    loaded = load_job(job_file, ["data.adapter=arrays", "data.group_by=case", f"data.arrays.label={text}"])
    assert loaded.data.arrays.label == text


def test_null_unsets_a_text(job_file: Path) -> None:
    job_file.write_text(MINIMAL + "train: {init_from: heart@candidate}\n")
    assert load_job(job_file, ["train.init_from=null"]).train.init_from is None


def test_relative_paths_are_seen_from_where_they_were_written(
    job_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_job(job_file).data.source == str(tmp_path / "jobs" / "ACDC")
    assert load_job("jobs/heart.yaml").data.source == str(tmp_path / "jobs" / "ACDC")
    assert load_job(job_file, ["data.source=other/x"]).data.source == str(tmp_path / "other" / "x")
    assert load_job(job_file, ["data.source=~/x"]).data.source == str(tmp_path / "home" / "x")
    assert load_job(job_file, ["data={source: q, adapter: glas}"]).data.source == str(tmp_path / "q")
    for untouched in ("s3://bucket/ACDC", "/data/ACDC", "file:///data/ACDC"):
        assert load_job(job_file, [f"data.source={untouched}"]).data.source == untouched


def test_weights_and_models_in_files_are_made_absolute_and_names_are_not(job_file: Path) -> None:
    job_file.write_text(MINIMAL + "model: {pretrained: r34.safetensors}\ntrain: {init_from: ./model}\n")
    job = load_job(job_file)
    assert job.model.pretrained == str(job_file.parent / "r34.safetensors")
    assert job.train.init_from == str(job_file.parent / "model")
    job_file.write_text(MINIMAL + "model: {pretrained: imagenet}\ntrain: {init_from: 'models:/heart/3'}\n")
    job = load_job(job_file)
    assert (job.model.pretrained, job.train.init_from) == ("imagenet", "models:/heart/3")


def test_the_file_of_splits_is_seen_from_the_job_file(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_file.write_text("name: h\ndata: {source: ACDC, adapter: acdc, splits: {scheme: file, file: folds/x.json}}\n")
    monkeypatch.chdir(job_file.parents[1])
    assert load_job(job_file).data.splits.file == str(job_file.parent / "folds" / "x.json")
    assert load_job(job_file, ["data.splits.file=x.json"]).data.splits.file == str(job_file.parents[1] / "x.json")
    assert load_job(job_file, ["data.splits.file=s3://b/x.json"]).data.splits.file == "s3://b/x.json"


def test_the_hash_is_of_what_is_meant_not_of_how_it_is_written(job_file: Path) -> None:
    first = load_job(job_file)
    job_file.write_text(f"# a note\ndata:\n  adapter: acdc\n  source: {job_file.parent}/ACDC\nname: 'heart'\n")
    second = load_job(job_file, ["train.epochs=100"])
    assert first.hash == second.hash
    assert load_job(job_file, ["train.epochs=101"]).hash != first.hash


def test_the_hash_of_a_known_job_stays(job_file: Path) -> None:
    """A change of this number makes every earlier run look like a run of another job."""
    job = load_job(job_file, ["data.source=s3://bucket/ACDC"])
    assert json.loads(job.to_json())["data"]["source"] == "s3://bucket/ACDC"
    assert len(job.hash) == 16
    assert Job.from_json(job.to_json()).hash == job.hash


def test_a_job_survives_json_and_pickle_and_cannot_be_changed(job_file: Path) -> None:
    job = load_job(job_file, ["train.checkpoint_every=90s"])
    assert Job.from_json(job.to_json()) == job
    assert pickle.loads(pickle.dumps(job)) == job
    with pytest.raises(ValueError, match="frozen"):
        job.train.epochs = 3  # type: ignore[misc]


def test_a_mark_of_byte_order_and_windows_line_ends_are_read(job_file: Path) -> None:
    job_file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_job(job_file).name == "heart"


def test_yaml_1_2_numbers(job_file: Path) -> None:
    job_file.write_text(MINIMAL + "train: {lr: 1e-3, epochs: 0x10}\nrepeat: {seeds: [010, 1_000]}\n")
    job = load_job(job_file)
    assert (job.train.lr, job.train.epochs, job.repeat.seeds) == (1e-3, 16, (10, 1000))


@pytest.mark.parametrize(
    ("workers", "counts"),
    [("2", (2,)), ("{min: 1, max: 4}", (1, 2, 4)), ("{min: 2, max: 8}", (2, 4)), ("{min: 3, max: 4}", (4,))],
)
def test_workers_are_those_that_share_the_batch(job_file: Path, workers: str, counts: tuple[int, ...]) -> None:
    job = load_job(job_file, ["train.global_batch_size=8", f"resources.workers={workers}"])
    assert job.worker_counts == counts
    assert Job.from_json(job.to_json()) == job
