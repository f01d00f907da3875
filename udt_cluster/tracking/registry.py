"""The model registry: versions that are made once, aliases that are moved, and the way back to the files."""

import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from udt_cluster.errors import CorruptError, RefusedError, UsageError
from udt_cluster.tracking.address import default_uri
from udt_cluster.tracking.runs import Tracker

if TYPE_CHECKING:
    import numpy as np
    import torch

DATA_VERSION = "data_version"
"""Tag of a version with the version of the data that it was trained on."""
CHECKSUM = "udt.checksum"
"""Tag of a version with the checksum of its own files."""

COMPLETE = "udt.complete"
"""Tag that a version gets last, when tags, metrics and alias are in place."""

_METRIC = "metric."  # tags of a version: metric.dice = 0.91
_PAGE = 1000
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@:\s]+)(?:@(?P<alias>[^/@\s]+)|/(?:latest|(?P<version>\d+)))?")
_FORMS = "NAME, NAME@ALIAS, NAME/3, models:/NAME@ALIAS, models:/NAME/3"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model. `created` is in milliseconds since 1970."""

    name: str
    version: int
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    run_id: str | None
    created: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.name}/{self.version}"

    @property
    def data_version(self) -> str | None:
        """Version of the data that it was trained on."""
        return self.tags.get(DATA_VERSION)

    def summary(self) -> dict[str, Any]:
        """Name, version, aliases, metrics (None where undefined), data_version, run_id; all of it JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "aliases": list(self.aliases),
            "metrics": {key: None if math.isnan(value) else value for key, value in self.metrics.items()},
            "data_version": self.data_version,
            "run_id": self.run_id,
        }


def list_models(tracker: Tracker | None = None) -> list[dict[str, Any]]:
    """Every version of every model, by name, newest version first: see :meth:`ModelVersion.summary`."""
    with _open(tracker).calls() as client:
        aliases = _aliases(client)
        found = [_as_version(version, aliases.get(version.name, {})) for version in _versions(client)]
    return [version.summary() for version in sorted(found, key=lambda found: (found.name, -found.version))]


def show(reference: str, *, tracker: Tracker | None = None) -> dict[str, Any]:
    """One version: its summary, and `uri`, `created`, `tags`."""
    found = resolve(reference, tracker=tracker)
    return found.summary() | {"uri": found.uri, "created": found.created, "tags": dict(found.tags)}


def resolve(reference: str, *, tracker: Tracker | None = None) -> ModelVersion:
    """The version that a reference means; a name alone means its newest version.

    Raises:
        UsageError: not a reference, or nothing has this name, version or alias; the message lists what there is.
    """
    match = _REFERENCE.fullmatch(reference.strip())
    if match is None:
        raise UsageError(f"{reference!r} is no model reference; allowed: {_FORMS}")
    name, alias, number = match["name"], match["alias"], match["version"]
    with _open(tracker).calls() as client:
        aliases = _aliases(client)
        if name not in aliases:
            raise UsageError(f"no registered model is called {name!r}; there are: {_listed(sorted(aliases))}")
        versions = {int(found.version): found for found in _versions(client, f"name = '{name}'")}
    if alias is not None and alias not in aliases[name]:
        raise UsageError(f"{name} has no alias {alias!r}; it has: {_listed(sorted(aliases[name]))}")
    newest = max(versions, default=0)
    wanted = aliases[name][alias] if alias else int(number or newest)
    if wanted not in versions:
        raise UsageError(f"{name} has no version {wanted}; it has: {_listed(sorted(versions))}")
    return _as_version(versions[wanted], aliases[name])


def download(reference: str, folder: Path, *, tracker: Tracker | None = None) -> Path:
    """Fetch the files that this package wrote for a version.

    Args:
        reference: As for :func:`resolve`.
        folder: Made when needed.
        tracker: The server; by default that of :func:`~udt_cluster.tracking.default_uri`.

    Returns:
        `folder/udt`, with spec.json and the weights.

    Raises:
        UsageError: unknown reference.
        RefusedError: the version was registered by something else.
        CorruptError: the files are not those that were registered.
    """
    from mlflow.artifacts import download_artifacts

    from udt_cluster.tracking.artifact import OWN_FOLDER, checksum

    tracker = _open(tracker)
    found = resolve(reference, tracker=tracker)
    if CHECKSUM not in found.tags:
        raise RefusedError(f"{found.uri} is not of udt-cluster's making: use mlflow.pyfunc.load_model({found.uri!r})")
    folder.mkdir(parents=True, exist_ok=True)
    with tracker.calls() as client:
        location = _location(client, found)
        download_artifacts(f"{location}/{OWN_FOLDER}", dst_path=str(folder), tracking_uri=tracker.uri)
    files = folder / OWN_FOLDER
    if (got := checksum(files)) != found.tags[CHECKSUM]:
        raise CorruptError(
            f"the files of {found.uri} are not those that were registered: their checksum is {got[:16]}..., not "
            f"{found.tags[CHECKSUM][:16]}...; use another version, or register the run again"
        )
    return files


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
            for version in list(_versions(client, f"run_id = '{run}'")):
                if CHECKSUM in version.tags and COMPLETE not in version.tags:
                    client.delete_model_version(version.name, version.version)
                    discarded.append(f"{version.name}/{version.version}")
    return discarded


def _open(tracker: Tracker | None) -> Tracker:
    return tracker or Tracker(default_uri())


def _versions(client: MlflowClient, condition: str | None = None) -> Iterator[MlflowVersion]:
    token: str | None = None
    while True:
        page = client.search_model_versions(condition, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _aliases(client: MlflowClient) -> dict[str, dict[str, int]]:
    """The aliases of every registered model, and what they stand at."""
    found: dict[str, dict[str, int]] = {}
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        found.update({model.name: {a: int(v) for a, v in model.aliases.items()} for model in page})
        token = page.token
        if not token:
            return found


def _as_version(version: MlflowVersion, aliases: Mapping[str, int]) -> ModelVersion:
    number = int(version.version)
    scores = {key.removeprefix(_METRIC): float(text) for key, text in version.tags.items() if key.startswith(_METRIC)}
    return ModelVersion(
        name=version.name,
        version=number,
        aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
        metrics=scores,
        run_id=version.run_id or None,
        created=version.creation_timestamp,
        tags=dict(version.tags),
    )


def _listed(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items) if items else "none yet"


def _location(client: MlflowClient, version: ModelVersion) -> str:
    """Where the files are, through the server."""
    location = str(client.get_model_version_download_uri(version.name, str(version.version)))
    if location.startswith("models:/"):
        location = str(client.get_logged_model(location.removeprefix("models:/")).artifact_location)
    return location.rstrip("/")


def _existing(client: MlflowClient, name: str, run_id: str, content: str) -> MlflowVersion | None:
    """The version of this run with this content; when an answer was lost and there are several, the first stays."""
    versions = _versions(client, f"name = '{name}' and run_id = '{run_id}'")
    found = sorted((v for v in versions if v.tags.get(CHECKSUM) == content), key=lambda version: int(version.version))
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
    wanted |= {f"{_METRIC}{key}": repr(float(value)) for key, value in metrics.items()}
    for key, value in wanted.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)
