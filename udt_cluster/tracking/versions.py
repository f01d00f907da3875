"""Versions of registered models: listed, found by a reference, fetched, removed."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from udt_cluster.errors import CorruptError, RefusedError, UsageError
from udt_cluster.storage import in_threads
from udt_cluster.tracking.address import default_uri
from udt_cluster.tracking.runs import Tracker

DATA_VERSION = "data_version"
"""Tag of a version with the version of the data that it was trained on."""
CHECKSUM = "udt.checksum"
"""Tag of a version with the checksum of its own files."""
METRIC = "metric."
"""What the tags with a version's scores begin with: metric.dice = 0.91."""

_PAGE = 1000
_SHOWN = 20  # names or versions in a message
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@:\s]+)(?:@(?P<alias>[^/@\s]+)|/(?:latest|(?P<version>\d+)))?")
_FORMS = "NAME, NAME@ALIAS, NAME/3, models:/NAME@ALIAS, models:/NAME/3"
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


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


def list_models(tracker: Tracker | None = None, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Versions of registered models: see :meth:`ModelVersion.summary`.

    Args:
        tracker: The server; by default that of :func:`~udt_cluster.tracking.default_uri`.
        limit: Only so many, those that were made last, the newest first. By default all, by name, each name's newest
            version first.
    """
    with _open(tracker).calls() as client:
        if limit is not None:
            order = ["creation_timestamp DESC", "name ASC", "version_number DESC"]
            page = client.search_model_versions(max_results=limit, order_by=order)
            # A search brings no aliases, and a registered model brings all of its versions: each is asked for itself.
            whole = in_threads(lambda version: client.get_model_version(version.name, version.version), list(page))
            return [_whole(version).summary() for version in whole]
        aliases = _all_aliases(client)
        found = [as_version(version, aliases.get(version.name, {})) for version in versions(client)]
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
    name, alias, number = _parsed(reference)
    with _open(tracker).calls() as client:
        try:
            if alias is not None:
                return _whole(client.get_model_version_by_alias(name, alias))
            if number is None:
                number = _newest(client, name)
            return _whole(client.get_model_version(name, str(number)))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
        raise _not_found(client, name, alias, number)


def delete_version(reference: str, *, tracker: Tracker | None = None, force: bool = False) -> ModelVersion:
    """Remove a version with its files, which go to MLflow's trash (see `mlflow gc`); its number is not used again.

    Args:
        reference: As for :func:`resolve`; a name alone only where the model has one version.
        tracker: The server; by default that of :func:`~udt_cluster.tracking.default_uri`.
        force: Also where an alias stands for the version. The alias goes with it.

    Returns:
        What was removed.

    Raises:
        UsageError: unknown reference, or a name alone that could mean several versions.
        RefusedError: an alias stands for it.
    """
    tracker = _open(tracker)
    name, alias, number = _parsed(reference)
    found = resolve(reference, tracker=tracker)
    with tracker.calls() as client:
        if alias is None and number is None:
            there = sorted(int(version.version) for version in versions(client, f"name = '{name}'"))
            if len(there) > 1:
                raise UsageError(f"{name} has the versions {_listed(there)}; say which one: {name}/{there[-1]}")
        if found.aliases and not force:
            names = " and ".join(f"{name}@{alias}" for alias in found.aliases)
            raise RefusedError(
                f"{found.uri} is what {names} stands for, and may be in use; train a model that takes its place, or "
                "remove it all the same with --force"
            )
        source = client.get_model_version(name, str(found.version)).source or ""
        client.delete_model_version(name, str(found.version))
        _delete_files(client, source)
    return found


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


def _open(tracker: Tracker | None) -> Tracker:
    return tracker or Tracker(default_uri())


def versions(client: MlflowClient, condition: str | None = None) -> Iterator[MlflowVersion]:
    """All versions that a condition holds for, a page at a time."""
    token: str | None = None
    while True:
        page = client.search_model_versions(condition, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def aliases_of(client: MlflowClient, name: str) -> dict[str, int]:
    """The aliases of one registered model, and what they stand at."""
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _all_aliases(client: MlflowClient) -> dict[str, dict[str, int]]:
    """The aliases of every registered model, and what they stand at."""
    found: dict[str, dict[str, int]] = {}
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        found.update({model.name: {a: int(v) for a, v in model.aliases.items()} for model in page})
        token = page.token
        if not token:
            return found


def as_version(version: MlflowVersion, aliases: Mapping[str, int]) -> ModelVersion:
    """MLflow's entry as ours."""
    number = int(version.version)
    scores = {key.removeprefix(METRIC): float(text) for key, text in version.tags.items() if key.startswith(METRIC)}
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
    shown = [str(item) for item in items[:_SHOWN]]
    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return ", ".join([*shown, *more]) if items else "none yet"


def _location(client: MlflowClient, version: ModelVersion) -> str:
    """Where the files are, through the server."""
    location = str(client.get_model_version_download_uri(version.name, str(version.version)))
    if location.startswith("models:/"):
        location = str(client.get_logged_model(location.removeprefix("models:/")).artifact_location)
    return location.rstrip("/")


def _parsed(reference: str) -> tuple[str, str | None, int | None]:
    """Name, alias, version of a reference."""
    match = _REFERENCE.fullmatch(reference.strip())
    if match is None:
        raise UsageError(f"{reference!r} is no model reference; allowed: {_FORMS}")
    return match["name"], match["alias"], int(match["version"]) if match["version"] else None


def _whole(version: MlflowVersion) -> ModelVersion:
    """An entry that came with its aliases."""
    return as_version(version, dict.fromkeys(version.aliases, int(version.version)))


def _newest(client: MlflowClient, name: str) -> int:
    """Number of a model's newest version; 0 where it has none."""
    page = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
    return int(page[0].version) if page else 0


def _not_found(client: MlflowClient, name: str, alias: str | None, number: int | None) -> UsageError:
    """What is missing of a reference, and what there is instead."""
    try:
        aliases = aliases_of(client, name)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        there = sorted(model.name for model in client.search_registered_models(max_results=_PAGE))
        return UsageError(f"no registered model is called {name!r}; there are: {_listed(there)}")
    if alias is not None and alias not in aliases:
        return UsageError(f"{name} has no alias {alias!r}; it has: {_listed(sorted(aliases))}")
    there = sorted(int(version.version) for version in versions(client, f"name = '{name}'"))
    return UsageError(f"{name} has no version {aliases[alias] if alias else number}; it has: {_listed(there)}")


def _delete_files(client: MlflowClient, source: str) -> None:
    """Move the files of a version to the trash unless another version has the same ones."""
    if source.startswith("models:/m-") and not client.search_model_versions(f"source_path = '{source}'", max_results=1):
        client.delete_logged_model(source.removeprefix("models:/"))
