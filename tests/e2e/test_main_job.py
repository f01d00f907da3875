"""The main job on real images: from a folder to a registered model, on disk and on S3, on a real cluster."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from tests.e2e.conftest import REPOSITORY, SMALL, TINY, CommandLine
from tests.servers.swift import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.mlflow, pytest.mark.s3, pytest.mark.timeout(600)]

PREDICT_WITHOUT_THIS_PACKAGE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"udt_cluster", "data_prep", "ray", "deepspeed", "monai", "zarr"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
mask = mlflow.pyfunc.load_model(sys.argv[2]).predict(numpy.load(sys.argv[3]))
numpy.save(sys.argv[4], numpy.asarray(mask))
"""


def finished(udt: CommandLine, *arguments: str) -> dict[str, Any]:
    """Submit, wait, and return the job's status."""
    udt("submit", *arguments, "--wait")
    status: dict[str, Any] = udt.json("status", "last")
    assert status["state"] == "SUCCEEDED"
    return status


def predict_elsewhere(udt: CommandLine, reference: str, images: np.ndarray, folder: Path) -> np.ndarray:
    """Predict in a process that cannot import this package."""
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-c", PREDICT_WITHOUT_THIS_PACKAGE, udt.tracking, reference]
    subprocess.run(
        [*command, str(folder / "images.npy"), str(folder / "mask.npy")], check=True, timeout=240, cwd=folder
    )
    return np.load(folder / "mask.npy")


@pytest.fixture(scope="module")
def acdc(udt: CommandLine, udt_test_data: Path) -> dict[str, Any]:
    """The issue's own command, with two workers, on disk."""
    return finished(
        udt, "jobs/acdc.yaml", "--set", f"data.source={udt_test_data / 'acdc_h5'}", *SMALL, "--set", "train.epochs=2"
    )


def test_acdc_on_disk_is_scored_per_volume(udt: CommandLine, acdc: dict[str, Any], tmp_path: Path) -> None:
    client = MlflowClient(udt.tracking)
    children = client.search_runs(
        [client.get_run(acdc["run_id"]).info.experiment_id], f"tags.mlflow.parentRunId = '{acdc['run_id']}'"
    )
    assert [run.info.status for run in children] == ["FINISHED"]
    assert client.get_run(acdc["run_id"]).info.status == "FINISHED"
    table = Path(client.download_artifacts(children[0].info.run_id, "scores/validation/per_case.csv", str(tmp_path)))
    rows = list(csv.DictReader(table.read_text().splitlines()))
    cases = {row["case"] for row in rows}
    assert len(rows) == 3 * len(cases), "three classes for every volume"
    assert all("slice" not in case for case in cases)
    assert {row["unit"] for row in rows} == {"px"}, "the h5 layout has no spacing"
    overlays = client.list_artifacts(children[0].info.run_id, "scores/validation/overlays")
    assert overlays


def test_metrics_arrive_once_with_data_and_hashes(udt: CommandLine, acdc: dict[str, Any]) -> None:
    client = MlflowClient(udt.tracking)
    parent = client.get_run(acdc["run_id"])
    child = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{acdc['run_id']}'")[0]
    history = client.get_metric_history(child.info.run_id, "val_dice")
    assert [point.step for point in history] == [1, 2]
    assert {"train_loss", "val_dice_class_3", "lr", "samples_per_second", "data_wait_percent"} <= set(
        child.data.metrics
    )
    assert parent.data.params["model.num_layers"] == "1"
    assert parent.data.tags["job_hash"]
    assert parent.inputs.dataset_inputs[0].dataset.digest == parent.data.tags["data_version"]


def test_the_model_is_shown_and_predicts_without_this_package(
    udt: CommandLine, acdc: dict[str, Any], tmp_path: Path
) -> None:
    shown = udt.json("models", "show", "acdc-udtransnet@candidate")
    assert shown["data_version"] == acdc["results"]["prepare"]["version"]
    assert shown["metrics"]["val_dice"] >= 0
    listed = udt.json("models", "ls")
    assert {"name", "version", "aliases", "metrics", "data_version", "run_id"} <= set(listed[0])
    images = np.random.default_rng(0).random((2, 90, 70, 1), dtype=np.float32)
    mask = predict_elsewhere(udt, "models:/acdc-udtransnet@candidate", images, tmp_path)
    assert mask.shape == (2, 90, 70)
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    code = (
        "import sys, numpy, udt_cluster as u; print(u.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2])).shape)"
    )
    command = [sys.executable, "-c", code, "acdc-udtransnet@candidate", str(tmp_path / "images.npy")]
    answer = subprocess.run(command, env=udt.environment, capture_output=True, text=True, check=True, timeout=240)
    assert answer.stdout.strip() == "(2, 90, 70)"


def test_the_same_data_is_not_prepared_again(udt: CommandLine, acdc: dict[str, Any], udt_test_data: Path) -> None:
    data = ("data", "prepare", "jobs/acdc.yaml", "--set", f"data.source={udt_test_data / 'acdc_h5'}")
    again = udt.json(*data, "--set", "data.size=[64,64]")
    assert again["already_there"] is True
    assert again["uri"] == acdc["results"]["prepare"]["uri"]
    other_fold = udt.json(
        *(*data, "--set", "data.size=[64,64]", "--set", "data.splits.seed=9", "--set", "repeat.folds=[3]")
    )
    assert other_fold["uri"] == again["uri"]


def test_glas_on_s3_is_tested_when_the_job_says_so(
    udt: CommandLine, s3_server: S3Server, udt_test_data: Path, tmp_path: Path
) -> None:
    status, keys = glas_on_s3(udt, s3_server, udt_test_data, "--set", "resources.workers=2")
    assert any(key.endswith("/COMMIT") and key.startswith("lab/data/glas/") for key in keys)
    assert any(key.endswith("/model.safetensors") for key in keys)
    assert [summary["test"]["cases"] for summary in status["results"]["evaluate"]["runs"].values()] == [80]
    assert "folds may leak" in json.dumps(status["results"]["prepare"]["warnings"])
    images = np.zeros((2, 64, 48, 3), np.float32)
    assert predict_elsewhere(udt, "models:/glas-udtransnet@candidate", images, tmp_path).shape == (2, 64, 48)


@pytest.mark.slow
def test_two_folds_on_s3_are_registered_as_an_ensemble(
    udt: CommandLine, s3_server: S3Server, udt_test_data: Path, tmp_path: Path
) -> None:
    ensemble = ("--set", "repeat.folds=[0,1]", "--set", "register.what=ensemble", "--set", "register.model=two-folds")
    status, keys = glas_on_s3(udt, s3_server, udt_test_data, *ensemble)
    assert len(status["results"]["evaluate"]["runs"]) == 2
    assert sum(key.endswith("/model.safetensors") for key in keys) >= 2
    images = np.zeros((2, 64, 48, 3), np.float32)
    assert predict_elsewhere(udt, "models:/two-folds@candidate", images, tmp_path).shape == (2, 64, 48)


def glas_on_s3(
    udt: CommandLine, s3_server: S3Server, udt_test_data: Path, *more: str
) -> tuple[dict[str, Any], list[str]]:
    """Train a small U-Net on GlaS with everything on S3; its status, and the keys in the bucket."""
    bucket = s3_server.make_bucket()
    on_s3 = udt.with_environment(UDT_STORAGE=f"s3://{bucket}/lab")
    source = ("--set", f"data.source={udt_test_data / 'glas'}")
    batch = ("--set", "evaluate.test=true", "--set", "train.global_batch_size=8")
    status = finished(on_s3, "jobs/glas.yaml", *source, *TINY, *batch, *more)
    pages = s3_server.boto3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="lab/")
    return status, [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@pytest.mark.parametrize("job", ["acdc", "isic2018"])
def test_a_job_file_says_how_it_would_run_without_touching_anything(udt: CommandLine, tmp_path: Path, job: str) -> None:
    untouched = udt.with_environment(UDT_HOME=str(tmp_path / "home"))
    plan = untouched("submit", str(REPOSITORY / "jobs" / f"{job}.yaml"), "--dry-run")
    assert "stages" in plan.stdout
    assert "33.90 M parameters, 26." in plan.stdout
    assert not (tmp_path / "home" / "local.json").exists()
