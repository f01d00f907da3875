"""Data sets of a target, as a person asks for them: prepare, list, show, remove what nothing uses."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.client import jobs, local
from udt_cluster.cluster.client.catalog import models
from udt_cluster.cluster.client.submit import leaves_here, look_at_source
from udt_cluster.cluster.client.targets import LOCAL, Target
from udt_cluster.cluster.record import LOST, TERMINAL, JobRecord, data_folder
from udt_cluster.config.job import Job
from udt_cluster.errors import DataError, RefusedError, UsageError
from udt_cluster.storage import Location, read_commit

if TYPE_CHECKING:
    from data_prep.check import CheckReport
    from udt_cluster.config.data import DataConfig
    from udt_cluster.data import DataStore

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
    version = look_at_source(job, upload=leaves_here(target)).version
    storage = storage_of(target)
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


def check_data(
    config: "DataConfig", *, target: Target, pictures: bool, on_progress: Callable[[int, int, str], None]
) -> "CheckReport":
    """Look at every case of a source, on the cores of this machine; nothing is written.

    Args:
        config: The `data` section of a job.
        target: Where its storage is not on this machine, names that tell who somebody is are refused.
        pictures: Also draw what the page of the report shows.
        on_progress: Told of done, total and what.
    """
    from data_prep.check import check_source
    from data_prep.processes import ProcessExecutor

    report: CheckReport = check_source(
        config, executor=ProcessExecutor(), on_progress=on_progress, upload=leaves_here(target), pictures=pictures
    )
    return report


def in_use(target: Target) -> dict[str, str]:
    """Versions of data sets that must stay: version -> which job or model needs it.

    Jobs that have not ended (a lost one may be resumed), and every registered model.
    """
    used = {}
    storage = storage_of(target)
    for status in jobs.list_jobs(target):
        if status.state in TERMINAL - {LOST}:
            continue
        record = JobRecord(storage, status.id)
        for version in (record.record().data_version, status.results.get("prepare", {}).get("version", "")):
            used[version] = f"job {status.id} ({status.state})"
    for model in models(target):
        used[model["data_version"] or ""] = f"model {model['name']} version {model['version']}"
    used.pop("", None)
    return used


def remove_data(target: Target, uri: str) -> dict[str, Any]:
    """Remove one version; a damaged one too, since that is what is to be done with it.

    Raises:
        DataError: that is no finished version of a data set.
        RefusedError: a job that has not ended, or a registered model, needs it.
    """
    from udt_cluster.data.versions import remove_version

    location = find_data(target, uri)
    if reason := in_use(target).get(location.name):
        raise RefusedError(f"{location.parent.name}/{location.name} is used by {reason}; remove that first")
    commit = read_commit(location)
    if commit is None or all(record.key != "images/zarr.json" for record in commit.objects):
        raise DataError(
            f"{location} holds no finished data set; nothing was removed. `udt-cluster data ls` lists them."
        )
    remove_version(location)
    return {"uri": location.uri, "dataset": location.parent.name, "version": location.name}


def collect_data(target: Target, *, older_than: timedelta, dry_run: bool) -> list[dict[str, Any]]:
    """Remove versions that no job and no model uses, and what broken-off preparations have left.

    Args:
        target: Where.
        older_than: A finished version stays so long after it was last written to.
        dry_run: Only say what would be removed.
    """
    from udt_cluster.data.versions import collect

    kept, seconds = set(in_use(target)), older_than.total_seconds()
    return [vars(found) for found in collect(storage_of(target), keep=kept, older_than=seconds, dry_run=dry_run)]


def data_sets(target: Target) -> list[dict[str, Any]]:
    """Every committed version in the target's storage."""
    return [_facts(location) for location in _committed(target).values()]


def _committed(target: Target) -> dict[str, Location]:
    """Committed versions by `DATASET/VERSION`; none is opened, so one that is damaged is there, too."""
    root = storage_of(target) / "data"
    names = (e.key.removesuffix(f"/{COMMIT}") for e in root.entries() if e.key.endswith(f"/{COMMIT}"))
    return {name: root / name for name in names}


def show_data(target: Target, uri: str, *, preview: Path | None, augment: str = "released") -> dict[str, Any]:
    """One data set in detail; with `preview` also a picture of eight augmented training tiles.

    Args:
        target: Where `DATASET/VERSION` (or a unique prefix of it) is looked up.
        uri: A URI, or `DATASET/VERSION` as `data ls` shows it.
        preview: The PNG to write.
        augment: The recipe that it shows.
    """
    from udt_cluster.data import DataStore, Normalization, render_preview

    store = DataStore.open(find_data(target, uri))
    info = store.info
    if preview is not None:
        normalization = Normalization.from_fingerprint("auto", info.fingerprint, info.dtype)
        preview.write_bytes(render_preview(store, normalization, recipe=augment))
    return {**_facts_of(store), "info": info.to_attrs(), **({"preview": str(preview)} if preview else {})}


def storage_of(target: Target) -> Location:
    """Under which the target's data sets lie."""
    return Location.parse(target.storage or str(local.default_storage()))


def find_data(target: Target, uri: str) -> Location:
    """The data-set version that a URI, `DATASET/VERSION` or a unique beginning of that means.

    Raises:
        UsageError: none or several answer to it.
    """
    if "://" in uri or uri.startswith(("/", ".")):
        return Location.parse(uri)
    committed = _committed(target)
    matching = [location for name, location in committed.items() if name.startswith(uri)]
    if len(matching) == 1:
        return matching[0]
    raise UsageError(f"{len(matching)} data sets answer to {uri!r}; there are: {', '.join(committed) or 'none'}")


def _facts(location: Location) -> dict[str, Any]:
    from udt_cluster.data import DataStore

    return _facts_of(DataStore.open(location))


def _facts_of(store: "DataStore") -> dict[str, Any]:
    return {
        "uri": store.location.uri,
        "dataset": store.info.dataset,
        "version": store.info.version,
        "cases": len(store.cases.ids),
        "samples": int(store.cases.num_samples.sum()),
        "size": list(store.info.size),
        "classes": list(store.info.class_names),
        "bytes": sum(record.size for record in store.commit.objects),
        "warnings": list(store.info.provenance.get("warnings", [])),
    }
