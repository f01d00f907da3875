"""The model registry: versions that are made once, and aliases that are moved to them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from udt_cluster.tracking.runs import Tracker
from udt_cluster.tracking.versions import CHECKSUM, METRIC, ModelVersion, resolve, versions

if TYPE_CHECKING:
    import numpy as np
    import torch

COMPLETE = "udt.complete"
"""Tag that a version gets last, when tags, metrics and alias are in place."""


def register_model(
    tracker: Tracker,
    *,
    name: str,
    run_id: str,
    folder: Path,
    program: "torch.export.ExportedProgram",
    example: "np.ndarray[Any, Any]",
    tags: Mapping[str, object],
    metrics: Mapping[str, float],
    alias: str | None = None,
) -> ModelVersion:
    """Make a version of a registered model, once for each (model, run, content of `folder`).

    A version appears when all its files are in place. The call may be repeated whatever became of the one before: what
    is there is found by its tags, and what is missing is added.

    Args:
        tracker: The server.
        name: Registered model; made when needed.
        run_id: The run that trained it. The metrics are logged there too, as `registered_<name>`.
        folder: Our own form of the model; becomes `udt/` in the artifact.
        program: The network with all that belongs around it: (B, H, W, C) numbers in, (B, H, W) integer mask out.
        example: Raw input, (B, H, W, C), float32, B >= 2.
        tags: `data_version`, `job_hash`, `split_hash`, `git_sha`, and what else describes the version.
        metrics: Scores of the version.
        alias: Moved to the version at the very end.
    """
    from udt_cluster.tracking.artifact import checksum

    content = checksum(folder)
    with tracker.calls() as client:
        version = _existing(client, name, run_id, content)
        if version is None:
            model = _logged_model(client, name, run_id, content, tags)
            if model.status != "READY":
                _upload(client, model, run_id=run_id, folder=folder, program=program, example=example)
            _log_scores(client, model, run_id, metrics)
            version = _create_version(client, name, run_id, content, model)
        _describe(client, version, tags, metrics)
        if alias is not None:
            client.set_registered_model_alias(name, alias, version.version)
        if COMPLETE not in version.tags:
            client.set_model_version_tag(name, version.version, COMPLETE, "true")
    return resolve(f"{name}/{version.version}", tracker=tracker)


def discard_unfinished(tracker: Tracker, run_id: str) -> list[str]:
    """Delete the versions of a job that was stopped while it registered: those that :func:`register_model` left midway.

    Args:
        tracker: The server.
        run_id: The job's parent run.

    Returns:
        `name/version` of what was deleted.
    """
    runs = [run_id, *(child.run_id for child in tracker.list_runs(parent_id=run_id))]
    discarded = []
    with tracker.calls() as client:
        for run in runs:
            for version in list(versions(client, f"run_id = '{run}'")):
                if CHECKSUM in version.tags and COMPLETE not in version.tags:
                    client.delete_model_version(version.name, version.version)
                    discarded.append(f"{version.name}/{version.version}")
    return discarded


def _existing(client: MlflowClient, name: str, run_id: str, content: str) -> MlflowVersion | None:
    """The version of this run with this content; when an answer was lost and there are several, the first stays."""
    made = versions(client, f"name = '{name}' and run_id = '{run_id}'")
    found = sorted((v for v in made if v.tags.get(CHECKSUM) == content), key=lambda version: int(version.version))
    for other in found[1:]:
        client.delete_model_version(name, other.version)
    return found[0] if found else None


def _logged_model(
    client: MlflowClient, name: str, run_id: str, content: str, tags: Mapping[str, object]
) -> LoggedModel:
    """MLflow's entry for the files, found again after a lost answer."""
    experiment = client.get_run(run_id).info.experiment_id
    condition = f"source_run_id = '{run_id}' and tags.`{CHECKSUM}` = '{content}'"
    if found := client.search_logged_models([experiment], filter_string=condition):
        return min(found, key=lambda model: (model.status != "READY", model.creation_timestamp, model.model_id))
    described = {key: str(value) for key, value in tags.items() if value is not None}
    return client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=described | {CHECKSUM: content}, model_type="segmentation"
    )


def _upload(
    client: MlflowClient,
    model: LoggedModel,
    *,
    run_id: str,
    folder: Path,
    program: "torch.export.ExportedProgram",
    example: "np.ndarray[Any, Any]",
) -> None:
    from udt_cluster.tracking.artifact import write_model

    with tempfile.TemporaryDirectory(prefix="udt-model-") as scratch:
        written = Path(scratch) / "model"
        write_model(written, program=program, example=example, own_files=folder, model_id=model.model_id, run_id=run_id)
        client.log_model_artifacts(model.model_id, str(written))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def _log_scores(client: MlflowClient, model: LoggedModel, run_id: str, metrics: Mapping[str, float]) -> None:
    """Metrics of the run that point at the model; the time is the model's, so that a repetition changes nothing.

    They have names of their own, because `val_dice` is also what the run logged after each of its epochs.
    """
    points = [
        Metric(f"registered_{key}", float(value), model.creation_timestamp, 0, model_id=model.model_id, run_id=run_id)
        for key, value in metrics.items()
    ]
    if points:
        client.log_batch(run_id, metrics=points, synchronous=True)


def _create_version(client: MlflowClient, name: str, run_id: str, content: str, model: LoggedModel) -> MlflowVersion:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id,
        tags={CHECKSUM: content},
        model_id=model.model_id,
        await_creation_for=0,
    )
    version = _existing(client, name, run_id, content)
    assert version is not None
    return version


def _describe(
    client: MlflowClient, version: MlflowVersion, tags: Mapping[str, object], metrics: Mapping[str, float]
) -> None:
    wanted = {key: str(value) for key, value in tags.items() if value is not None}
    wanted |= {f"{METRIC}{key}": repr(float(value)) for key, value in metrics.items()}
    for key, value in wanted.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)
