"""A registered model is explained, and what was found is in its run; looked up with MLflow's own client."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from tests.factories import make_store
from tests.servers.mlflow import MlflowServer
from udt_cluster.cluster.client.explaining import ExplainRequest, explain_model
from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.data import SplitsConfig
from udt_cluster.config.job import ModelConfig
from udt_cluster.data import DataStore, Normalization, make_splits, save_splits
from udt_cluster.errors import TrackingUnreachableError, UsageError
from udt_cluster.evaluation import ModelSpec, SegmentationModel, exported_program
from udt_cluster.evaluation.explain import ExplainSettings
from udt_cluster.models import build_model
from udt_cluster.tracking import Tracker, register_model

pytestmark = [pytest.mark.component, pytest.mark.mlflow]
CASES = 7


@pytest.fixture
def target(mlflow_server: MlflowServer, tmp_path: Path) -> Target:
    return Target("cluster", jobs_api="http://127.0.0.1:1", tracking=mlflow_server.uri, storage=str(tmp_path / "s"))


def registered(target: Target, folder: Path) -> tuple[str, str, DataStore]:
    """The name of a registered U-Net of random weights, its run, and the store of its data."""
    store = make_store(Path(str(target.storage)), slices=(1,) * CASES)
    config = SplitsConfig(scheme="group_kfold", k=2, seed=1)
    splits = make_splits(store.cases, config, group_by="case", data_version="v0")
    info = store.info
    spec = ModelSpec.for_store(
        ModelConfig(architecture="unet"),
        info,
        normalization=Normalization.from_fingerprint("auto", info.fingerprint, info.dtype),
        lineage={
            "dataset": info.dataset,
            "data_version": info.version,
            "splits": save_splits(store.location, splits).name,
            "fold": 0,
        },
    )
    torch.manual_seed(0)
    model = SegmentationModel(spec, [build_model(spec.model, in_channels=1, num_classes=1)])
    model.save_folder(folder)
    tracker = Tracker(str(target.tracking))
    run_id = tracker.start_parent("glands", "a run")
    register_model(
        tracker,
        name="glands",
        run_id=run_id,
        folder=folder,
        program=exported_program(model),
        example=np.zeros((2, *spec.size, 1), np.float32),
        tags={"data_version": info.version},
        metrics={"dice": 0.5},
        alias="candidate",
    )
    return "glands@candidate", run_id, store


def artifacts(client: MlflowClient, run_id: str, path: str) -> set[str]:
    found: set[str] = set()
    for entry in client.list_artifacts(run_id, path):
        found |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def test_what_was_found_is_in_the_run(target: Target, tmp_path: Path, mlflow_server: MlflowServer) -> None:
    name, run_id, store = registered(target, tmp_path / "model")
    request = ExplainRequest(model=name, output=tmp_path / "out")
    found = explain_model(target, request, settings=ExplainSettings(pictures=1), on_event=lambda _: None)
    assert (found["run_id"], found["about"]["model"]) == (run_id, "glands/1")
    assert found["about"]["data"] == f"tiny/{store.info.version}"
    client = MlflowClient(tracking_uri=mlflow_server.uri)
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {f"explain/validation/{name}" for name in written} == artifacts(client, run_id, "explain")
    assert {"explain.html", "zeroed.csv", "shuffled.csv", "cka.csv", "channels.csv", "network.png"} < written
    page = client.download_artifacts(run_id, "explain/validation/explain.json", str(tmp_path))
    report = json.loads(Path(page).read_text())
    drops = {f"explain_validation_{row['kind']}_{row['level']}": row["drop"] for row in report["effects"]}
    logged = client.get_run(run_id).data.metrics
    assert {key: logged[key] for key in drops} == pytest.approx(drops)
    assert len(drops) == 10

    with pytest.raises(UsageError, match="champion"):
        explain_model(
            target,
            ExplainRequest(model="glands@champion", output=tmp_path / "other"),
            settings=ExplainSettings(),
            on_event=lambda _: None,
        )
    assert not (tmp_path / "other").exists()


def test_a_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    away = Target("cluster", jobs_api="http://127.0.0.1:1", tracking="http://127.0.0.1:9", storage=str(tmp_path))
    with pytest.raises(TrackingUnreachableError):
        explain_model(
            away,
            ExplainRequest(model="glands@candidate", output=tmp_path / "out"),
            settings=ExplainSettings(),
            on_event=lambda _: None,
        )
