"""The registry of a real MLflow server: one version per content, loaded without this package."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from tests.servers.mlflow import LossyProxy, MlflowServer
from udt_cluster.errors import CorruptError, TrackingUnreachableError
from udt_cluster.tracking import ModelVersion, Tracker, discard_unfinished, download

pytestmark = [pytest.mark.component, pytest.mark.mlflow]

METRICS = {"dice": 0.9123456789, "hd95": float("nan")}


def test_version_has_tags_metrics_alias_and_run(
    register: Callable[..., ModelVersion], client: MlflowClient, name: str, run_id: str
) -> None:
    register()
    version = client.get_model_version_by_alias(name, "candidate")
    assert (version.version, version.run_id, version.status) == ("1", run_id, "READY")
    assert {"data_version": "4f5e", "job_hash": "0123", "split_hash": "89ab"}.items() <= version.tags.items()
    assert {
        "baseline_dice": "0.31",
        "metric.dice": "0.9123456789",
        "metric.hd95": "nan",
    }.items() <= version.tags.items()
    assert "git_sha" not in version.tags
    run = client.get_run(run_id)
    assert run.data.metrics["registered_dice"] == METRICS["dice"]
    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.status, logged.source_run_id) == ("READY", run_id)
    assert {metric.key: metric.value for metric in logged.metrics}["registered_dice"] == METRICS["dice"]


def test_registering_twice_makes_one_version(
    register: Callable[..., ModelVersion], client: MlflowClient, name: str, run_id: str, own_files: Path
) -> None:
    first = register()
    assert register().summary() == first.summary()
    assert register(alias="champion", metrics=METRICS | {"iou": 0.8}).metrics["iou"] == 0.8
    assert [version.version for version in client.search_model_versions(f"name = '{name}'")] == ["1"]
    assert client.get_model_version_by_alias(name, "champion").version == "1"
    assert len(client.get_metric_history(run_id, "registered_dice")) == 1

    (own_files / "model_0.safetensors").write_bytes(b"other weights")
    assert register().version == 2
    assert client.get_model_version_by_alias(name, "candidate").version == "2"
    assert client.get_model_version_by_alias(name, "champion").version == "1"


def test_fault_m4_lost_answers_make_one_version(
    register: Callable[..., ModelVersion],
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    client: MlflowClient,
    name: str,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each step's first answer is lost, with MLflow's own retries off: five calls of ours, one version."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    steps = ("/logged-models", "/registered-models/create", "/model-versions/create", "/registered-models/alias")
    lost: set[str] = set()

    def first_of_each(method: str, path: str) -> bool:
        ending = next((step for step in steps if method == "POST" and path.endswith(step)), None)
        fresh = ending is not None and ending not in lost
        lost.update({ending} if ending else set())
        return fresh

    proxy = lossy(first_of_each)
    tracker = Tracker(proxy.uri)
    for _ in steps:
        with pytest.raises(TrackingUnreachableError):
            register(tracker=tracker)
    assert register(tracker=tracker).version == 1

    assert lost == set(steps)
    assert sum(path.endswith("/model-versions/create") for _, path in proxy.requests) == 1
    assert [version.version for version in client.search_model_versions(f"name = '{name}'")] == ["1"]
    assert client.get_model_version_by_alias(name, "candidate").version == "1"
    experiment_id = client.get_run(run_id).info.experiment_id
    assert len(client.search_logged_models([experiment_id])) == 1


def test_fault_m4_mlflows_own_retry_makes_one_version(
    register: Callable[..., ModelVersion],
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    client: MlflowClient,
    name: str,
) -> None:
    lost: list[str] = []

    def first_creation(_method: str, path: str) -> bool:
        if path.endswith("/model-versions/create") and not lost:
            lost.append(path)
            return True
        return False

    proxy = lossy(first_creation)
    assert register(tracker=Tracker(proxy.uri)).version == 1
    assert sum(path.endswith("/model-versions/create") for _, path in proxy.requests) == 2
    assert [version.version for version in client.search_model_versions(f"name = '{name}'")] == ["1"]


@pytest.mark.parametrize("lost", ["/model-versions/set-tag", "/registered-models/alias", None])
def test_stop_discards_what_was_not_finished(
    register: Callable[..., ModelVersion],
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    tracker: Tracker,
    client: MlflowClient,
    experiment: str,
    name: str,
    lost: str | None,
) -> None:
    parent = tracker.start_parent(experiment, "p")
    child = tracker.start_child(parent, "p-f0-s1")
    if lost is None:
        register(run_id=child)
        register(run_id=tracker.start_parent(experiment, "q"))  # takes the alias away
    else:
        proxy = lossy(lambda _method, path: path.endswith(lost))
        with pytest.raises(TrackingUnreachableError):
            register(run_id=child, tracker=Tracker(proxy.uri))
    left = [] if lost else ["1", "2"]
    assert discard_unfinished(tracker, parent) == ([f"{name}/1"] if lost else [])
    assert sorted(version.version for version in client.search_model_versions(f"name = '{name}'")) == left


def test_stopped_before_the_upload_leaves_no_version(
    register: Callable[..., ModelVersion], client: MlflowClient, name: str
) -> None:
    with pytest.raises(AssertionError, match="Guard failed"):
        register(example=np.zeros((2, 20, 24, 5), np.float32))
    assert client.search_model_versions(f"name = '{name}'") == []
    assert register().version == 1


PREDICT = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {"udt_cluster", "data_prep"}:
                raise ImportError(f"{name} is not installed here")

    sys.meta_path.insert(0, Blocked())
    import mlflow, numpy as np
    model = mlflow.pyfunc.load_model(sys.argv[1])
    images = np.load(sys.argv[2])
    np.save(sys.argv[3], model.predict(images))
    print(model.metadata.signature)
    assert not [name for name in sys.modules if name.startswith(("udt_cluster", "data_prep"))]
"""


def predict_elsewhere(
    uri: str, model: str, images: np.ndarray[Any, Any], folder: Path
) -> "tuple[subprocess.CompletedProcess[str], Path]":
    """Predict in a process that cannot import this package and does not unpickle."""
    np.save(folder / "images.npy", images)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHON"))}
    environment |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    result = subprocess.run(
        [sys.executable, "-c", dedent(PREDICT), model, str(folder / "images.npy"), str(folder / "masks.npy")],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return result, folder / "masks.npy"


def test_pyfunc_predicts_without_this_package(
    register: Callable[..., ModelVersion],
    mlflow_server: MlflowServer,
    network: torch.nn.Module,
    name: str,
    tmp_path: Path,
) -> None:
    register()
    images = np.random.default_rng(0).integers(0, 256, (3, 37, 29, 3)).astype(np.float32)
    result, masks = predict_elsewhere(mlflow_server.uri, f"models:/{name}@candidate", images, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Tensor('float32', (-1, -1, -1, 3))" in result.stdout
    assert "Tensor('int64', (-1, -1, -1))" in result.stdout
    np.testing.assert_array_equal(np.load(masks), network(torch.from_numpy(images)).numpy())


def test_artifact_states_its_requirements_and_its_own_files(
    register: Callable[..., ModelVersion], client: MlflowClient, mlflow_server: MlflowServer, name: str, tmp_path: Path
) -> None:
    version = register()
    (output,) = client.get_run(str(version.run_id)).outputs.model_outputs
    location = client.get_logged_model(output.model_id).artifact_location
    folder = Path(
        mlflow.artifacts.download_artifacts(location, dst_path=str(tmp_path / "got"), tracking_uri=mlflow_server.uri)
    )
    pinned = (folder / "requirements.txt").read_text().split()
    assert sorted(line.partition("==")[0] for line in pinned) == ["mlflow", "numpy", "torch"]
    assert all("+" not in line and "==" in line for line in pinned)
    model = Model.load(str(folder))
    assert (model.model_id, model.run_id) == (output.model_id, version.run_id)
    assert model.flavors["python_function"]["config"] == {"device": "cpu"}
    assert sorted(path.name for path in (folder / "udt").iterdir()) == ["model_0.safetensors", "spec.json"]


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def test_fault_s3_pickle_in_the_archive_is_refused(
    register: Callable[..., ModelVersion], client: MlflowClient, mlflow_server: MlflowServer, name: str, tmp_path: Path
) -> None:
    version = register()
    (output,) = client.get_run(str(version.run_id)).outputs.model_outputs
    client.log_model_artifact(output.model_id, str(_poisoned(client, output.model_id, tmp_path)), "data")
    images = np.zeros((2, 16, 16, 3), np.float32)
    result, _ = predict_elsewhere(mlflow_server.uri, f"models:/{name}@candidate", images, tmp_path)
    assert result.returncode != 0
    assert "pickle is disallowed" in result.stderr
    assert not (tmp_path / "canary").exists()


def _poisoned(client: MlflowClient, model_id: str, folder: Path) -> Path:
    """The registered archive with its example inputs replaced by a pickle that runs a command."""
    location = client.get_logged_model(model_id).artifact_location
    original = mlflow.artifacts.download_artifacts(
        f"{location}/data/model.pt2", dst_path=str(folder / "original"), tracking_uri=client.tracking_uri
    )
    content = io.BytesIO()
    torch.save(Malicious(folder / "canary"), content, pickle_module=pickle)
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(folder / "model.pt2", "w") as target:
        for item in source.infolist():
            poison = item.filename.endswith("sample_inputs/model.pt")
            target.writestr(item, content.getvalue() if poison else source.read(item))
    return folder / "model.pt2"


def test_download_brings_what_was_registered(
    register: Callable[..., ModelVersion],
    mlflow_server: MlflowServer,
    own_files: Path,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    files = download(f"{name}@candidate", tmp_path / "a" / "b")
    assert files == tmp_path / "a" / "b" / "udt"
    assert {path.name: path.read_bytes() for path in files.iterdir()} == {
        path.name: path.read_bytes() for path in own_files.iterdir()
    }


def test_changed_files_are_found_out(
    register: Callable[..., ModelVersion], client: MlflowClient, tracker: Tracker, name: str, tmp_path: Path
) -> None:
    version = register()
    (output,) = client.get_run(str(version.run_id)).outputs.model_outputs
    (tmp_path / "spec.json").write_text("{}")
    client.log_model_artifact(output.model_id, str(tmp_path / "spec.json"), "udt")
    with pytest.raises(CorruptError, match=f"models:/{name}/1"):
        download(name, tmp_path / "got", tracker=tracker)


def test_mlflow_still_makes_two_versions_by_itself(client: MlflowClient, name: str, run_id: str) -> None:
    """Why :func:`register_model` looks before it creates; when this fails, MLflow has mended it."""
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, f"runs:/{run_id}/model", run_id)
    assert len(client.search_model_versions(f"name = '{name}'")) == 2
    with pytest.raises(MlflowException):
        client.create_registered_model(name)
