"""What a run needs of MLflow's client: looked for before it is made, and written in pieces that MLflow takes."""

import json
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from udt_cluster.errors import UsageError

RUN_KEY = "udt.run"
"""Tag with the key under which a run is looked up before it is made."""
PARENT = "mlflow.parentRunId"

_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow shows the pages of language models
_BATCH = 100  # params or tags in one request
_LONGEST_PARAM = 6000
_LONGEST_TAG = 8000


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """A nested mapping as MLflow's params: keys joined with dots, lists as JSON, everything else as text."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[f"{prefix}{key}"] = _cut(text, _LONGEST_PARAM)
    return flat


def experiment_of(client: MlflowClient, name: str) -> str:
    """Id of the experiment, made or restored when needed."""
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, tags=_TRAINING))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            known = client.get_experiment_by_name(name)  # another submission was faster
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    return str(known.experiment_id)


def run_of(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    identity: Mapping[str, str],
    tags: Mapping[str, object],
    params: Mapping[str, object],
) -> str:
    """The one run with these tags: found, or made. When two were made (an answer was lost), the younger ones go."""
    found = search(client, [experiment_id], identity)
    if not found:
        client.create_run(experiment_id, run_name=name, tags={**as_tags(tags), **identity})
        found = search(client, [experiment_id], identity)
    first, *others = sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))
    for run in others:
        client.delete_run(run.info.run_id)
    if first.info.status != "RUNNING":
        client.update_run(first.info.run_id, "RUNNING")
    changed = {key: value for key, value in as_tags(tags).items() if first.data.tags.get(key) != value}
    log_in_batches(client, first.info.run_id, tags=changed)
    log_missing_params(client, first, params)
    return str(first.info.run_id)


def search(
    client: MlflowClient, experiment_ids: list[str], tags: Mapping[str, str], *, status: str = ""
) -> list[MlflowRun]:
    """All live runs with these tags, and this status if one is given, newest first."""
    runs: list[MlflowRun] = []
    token: str | None = None
    conditions = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
    condition = " and ".join([*conditions, *([f"attributes.status = '{status}'"] if status else [])])
    while experiment_ids:
        page = client.search_runs(
            experiment_ids, condition, order_by=["attributes.start_time DESC"], max_results=1000, page_token=token
        )
        runs.extend(page)
        token = page.token
        if not token:
            break
    return runs


def all_experiments(client: MlflowClient) -> dict[str, str]:
    """Names of all live experiments, by id."""
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(max_results=1000, page_token=token)
        found.update({experiment.experiment_id: experiment.name for experiment in page})
        token = page.token
        if not token:
            return found


def _quoted(value: str) -> str:
    if "'" in value and '"' in value:
        raise UsageError(f"{value!r} cannot be looked up in MLflow: it has both kinds of quotes")
    return f'"{value}"' if "'" in value else f"'{value}'"


def log_missing_params(client: MlflowClient, run: MlflowRun, params: Mapping[str, object]) -> None:
    """Set the params that the run has not got; MlflowClient would refuse to change the others."""
    missing = {key: value for key, value in flatten(params).items() if key not in run.data.params}
    log_in_batches(client, run.info.run_id, params=missing)


def log_in_batches(
    client: MlflowClient, run_id: str, *, tags: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
) -> None:
    """Set tags and params, as many with each request as MLflow takes."""
    for chunk in _chunks(list((tags or {}).items())):
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk], synchronous=True)
    for chunk in _chunks(list((params or {}).items())):
        client.log_batch(run_id, params=[Param(key, value) for key, value in chunk], synchronous=True)


def _chunks(items: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def as_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Tags as text: None is left out."""
    return {key: _cut(str(value), _LONGEST_TAG) for key, value in tags.items() if value is not None}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
