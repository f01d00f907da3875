"""Data sets and models of a target, as a person asks for them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from udt_cluster.cluster import jobs, local
from udt_cluster.cluster.connection import check
from udt_cluster.cluster.record import data_folder
from udt_cluster.cluster.submit import look_at_source
from udt_cluster.cluster.targets import LOCAL, Target
from udt_cluster.config.job import Job
from udt_cluster.errors import UsageError
from udt_cluster.storage import Location, read_commit

COMMIT = "COMMIT"


def prepare_data(job: Job, *, target: Target, to: str | None, on_event: Callable[[str], None]) -> dict[str, Any]:
    """Prepare the job's data set, into the target's storage or `to`; with `to` on this machine, which sees the source.

    A version that is there already is only looked at, and no server is started.

    Returns:
        location, version, already_there, seconds, warnings, cases, samples.

    Raises:
        DataError: the source is refused; every finding is listed.
    """
    began = time.monotonic()
    if to is not None:
        target = Target(LOCAL, storage=to)
    version = look_at_source(job).version
    storage = Location.parse(target.storage or str(local.default_storage()))
    location = data_folder(storage, job) / version if version else None
    there = location is not None and read_commit(location) is not None
    if location is None or not there:
        location = _prepare(job, target, on_event)
    return {**_facts(location), "already_there": there, "seconds": round(time.monotonic() - began, 2)}


def _prepare(job: Job, target: Target, say: Callable[[str], None]) -> Location:
    """Run a job that has the first stage only, and wait for it."""
    only = Job.from_json(job.model_copy(update={"stages": ("prepare",)}).to_json())
    submitted = jobs.submit(only, target=target, job_text=only.to_json(), on_event=say)
    said = ""

    def tell(status: jobs.JobStatus) -> None:
        nonlocal said
        if status.message != said:
            said = status.message
            say(said)

    status = jobs.follow(target, submitted.id, on_update=tell)
    jobs.raise_for(status)
    return Location.parse(status.results["prepare"]["uri"])


def data_sets(target: Target) -> list[dict[str, Any]]:
    """Every committed version in the target's storage."""
    root = Location.parse(target.storage or str(local.default_storage())) / "data"
    keys = [entry.key for entry in root.entries()]
    return [_facts(root / key.removesuffix(f"/{COMMIT}")) for key in keys if key.endswith(f"/{COMMIT}")]


def show_data(target: Target, uri: str, *, preview: Path | None) -> dict[str, Any]:
    """One data set in detail; with `preview` also a picture of eight augmented training tiles.

    Args:
        target: Where `DATASET/VERSION` (or a unique prefix of it) is looked up.
        uri: A URI, or `DATASET/VERSION` as `data ls` shows it.
        preview: The PNG to write.
    """
    from udt_cluster.data import DataStore, Normalization, render_preview

    store = DataStore.open(_find(target, uri))
    info = store.info
    if preview is not None:
        normalization = Normalization.from_fingerprint("auto", info.fingerprint, info.dtype)
        preview.write_bytes(render_preview(store, normalization))
    facts = _facts(store.location)
    return {**facts, "info": info.to_attrs(), **({"preview": str(preview)} if preview else {})}


def _find(target: Target, uri: str) -> Location:
    if "://" in uri or uri.startswith(("/", ".")):
        return Location.parse(uri)
    matching = [entry for entry in data_sets(target) if f"{entry['dataset']}/{entry['version']}".startswith(uri)]
    if len(matching) == 1:
        return Location.parse(matching[0]["uri"])
    known = ", ".join(f"{entry['dataset']}/{entry['version']}" for entry in data_sets(target)) or "none"
    raise UsageError(f"{len(matching)} data sets answer to {uri!r}; there are: {known}")


def _facts(location: Location) -> dict[str, Any]:
    from udt_cluster.data import DataStore

    store = DataStore.open(location)
    return {
        "uri": location.uri,
        "dataset": store.info.dataset,
        "version": store.info.version,
        "cases": len(store.cases.ids),
        "samples": int(store.cases.num_samples.sum()),
        "size": list(store.info.size),
        "classes": list(store.info.class_names),
        "bytes": sum(record.size for record in store.commit.objects),
        "warnings": list(store.info.provenance.get("warnings", [])),
    }


def models(target: Target) -> list[dict[str, Any]]:
    """Every model version: name, version, aliases, metrics, data_version, run_id."""
    from udt_cluster.tracking import Tracker, list_models

    found: list[dict[str, Any]] = list_models(Tracker(_tracking(target)))
    return found


def show_model(target: Target, reference: str) -> dict[str, Any]:
    """One model version with its tags."""
    from udt_cluster.tracking import Tracker, show

    found: dict[str, Any] = show(reference, tracker=Tracker(_tracking(target)))
    return found


def _tracking(target: Target) -> str:
    if target.is_local:
        target = local.ensure(target, need_ray=False)
    assert target.tracking is not None
    return target.tracking


def dashboards(target: Target) -> dict[str, str]:
    """URLs of Ray's and MLflow's pages; the local servers are started if need be."""
    if target.is_local:
        target = local.ensure(target)
    check(target)
    return {"ray": target.jobs_api or "", "mlflow": target.tracking or ""}
