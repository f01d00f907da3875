"""`resume`: a job that ended goes on from its checkpoints, under the same id and in the same runs of MLflow."""

import getpass
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from udt_cluster.cluster.client.handover import InDoubtError, hand_over
from udt_cluster.cluster.client.submit import Say, await_preflight, leaves_here, look_at_source, ready
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.preflight import versions
from udt_cluster.cluster.record import FAILED, PENDING, TERMINAL, JobRecord, Life, State, now
from udt_cluster.config.job import Job
from udt_cluster.config.load import load_job
from udt_cluster.errors import JobFileError, RefusedError, UdtError

MAY_CHANGE = ("train.epochs", "train.early_stopping", "train.checkpoint_every", "train.keep", "resources", "retry")
"""What may be another value when a job goes on; all else decides what its checkpoints mean."""


def resume(record: JobRecord, *, target: Target, overrides: Sequence[str], say: Say) -> JobRecord:
    """Hand a job that has ended over again and wait until its nodes have agreed to run it.

    Args:
        record: Of a job that does not run any more.
        target: Where; need not be where it ran before, as long as the storage is the same.
        overrides: `train.epochs=20`: see :data:`MAY_CHANGE`.
        say: Called with each step, for people.

    Raises:
        RefusedError: the data, the model or the number of ZeRO workers would be another one; every difference is
            listed.
        JobFileError: the overrides are wrong.
        UnreachableError: the target, its storage or MLflow does not answer.
    """
    facts, before = record.record(), record.state()
    job = changed(record.job(), overrides, trained=bool(record.attempts()), compares=_compares(record, before))
    began_with = pinned(record, before)
    _refuse_other_source(job, began_with, target)
    place, _ = ready(target, say)
    newest = record.life(before.life)
    _say_versions(newest.versions if newest else facts.versions, say)
    life = Life(
        number=before.life + 1,
        submitted_at=now(),
        user=getpass.getuser(),
        versions=versions(),
        data_version=began_with.get("version", ""),
        group_by=began_with.get("group_by", ""),
        overrides=tuple(overrides),
    )
    _begin(record, life, job, before)
    say(f"handing {record.id} to {place.jobs_api} again (life {life.number})")
    try:
        hand_over(place, record, life=life.number)
    except InDoubtError:
        raise
    except (UdtError, KeyboardInterrupt):
        _take_back(record, life, before)
        raise
    await_preflight(place, record, life=life.number)
    return record


def _compares(record: JobRecord, state: State) -> bool:
    """Whether trials or arms of the job are still to be compared with those that have ended."""
    job = record.job()
    stage = "tune" if job.tune else "study" if job.study else ""
    return bool(stage) and stage not in state.results


def changed(job: Job, overrides: Sequence[str], *, trained: bool, compares: bool = False) -> Job:
    """The job with the overrides put over it.

    Args:
        job: As it was.
        overrides: `KEY=VALUE`.
        trained: It has begun to train, so there may be checkpoints.
        compares: It has begun to compare trainings, which must be alike.

    Raises:
        RefusedError: they change what must stay; each difference is listed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{job.name}.yaml"
        path.write_text(job.to_json(), encoding="utf-8")
        try:
            new = load_job(path, overrides)
        except JobFileError as error:
            raise JobFileError("the job cannot run with these changes", error.problems) from error
    differing = differences(job.model_dump(mode="json", by_alias=True), new.model_dump(mode="json", by_alias=True))
    if foreign := [line for line in differing if not line.startswith(_prefixes())]:
        raise RefusedError(
            f"a job goes on with the data and the model that it began with; only {', '.join(MAY_CHANGE)} may change. "
            "Submit a new job for the rest (train.init_from starts from a registered model)",
            foreign,
        )
    unlike = [line for line in differing if line.startswith(("train.epochs:", "train.early_stopping:"))]
    if compares and unlike:
        raise RefusedError(
            "what has been trained so far would not be comparable with the rest; resume without these changes, or "
            "submit a new job",
            unlike,
        )
    if trained and job.train.zero_stage and job.resources.workers != new.resources.workers:
        raise RefusedError(
            f"checkpoints of train.zero_stage={job.train.zero_stage} fit {job.resources.workers} workers only, not "
            f"{new.resources.workers}; resume with resources.workers={job.resources.workers}, or submit a new job with "
            "train.zero_stage=0, which any number can go on with"
        )
    return new


def _prefixes() -> tuple[str, ...]:
    return tuple(f"{key}{end}" for key in MAY_CHANGE for end in (":", "."))


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """What differs between two nested mappings, a line each: `train.epochs: 10 -> 20`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        below = f"{prefix}." if prefix else ""
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{below}{key}")]
    return [] if old == new else [f"{prefix}: {old} -> {new}"]


def pinned(record: JobRecord, state: State) -> dict[str, Any]:
    """The data set that the job began with: `version`, `group_by`, `cases`; empty if it never came so far."""
    prepared: dict[str, Any] = state.results.get("prepare", {})
    life, facts = record.life(state.life), record.record()
    before = {"version": life.data_version, "group_by": life.group_by} if life else {}
    submitted = {"version": facts.data_version, "group_by": facts.group_by}
    chosen = next((found for found in (prepared, before, submitted) if found.get("version")), {})
    return {key: chosen[key] for key in ("version", "group_by", "cases") if chosen.get(key)}


def _refuse_other_source(job: Job, began_with: dict[str, Any], target: Target) -> None:
    """Where this machine sees the source, it must still be what it was."""
    old = began_with.get("version", "")
    if not old:
        return
    source = look_at_source(job, upload=leaves_here(target))
    if source.version in ("", old):
        return
    lines = [f"data version: {old} -> {source.version}"]
    if began_with.get("cases") not in (None, source.cases):
        lines.append(f"cases: {began_with['cases']} prepared -> {source.cases} found")
    raise RefusedError(
        f"{job.data.source} is not what it was when the job began, and a job does not go on with other data. Bring it "
        "back as it was, or submit a new job",
        lines,
    )


def _say_versions(old: dict[str, str], say: Say) -> None:
    for package, version in versions().items():
        if old.get(package, version) != version:
            say(f"note: it began with {package} {old[package]} and goes on with {version}: no bit-exact continuation")


def _begin(record: JobRecord, life: Life, job: Job, before: State) -> None:
    """Write the new life; the sign of life comes first, so that nobody takes the job for lost meanwhile."""
    record.add_life(life, job)
    record.write_alive(life.number)
    kept = {"prepare": before.results["prepare"]} if "prepare" in before.results else {}
    record.write_state(State(state=PENDING, life=life.number, results=kept))


def _take_back(record: JobRecord, life: Life, before: State) -> None:
    """The job stays as it had ended; the life's number is used up, since a late request may still carry it."""
    name = before.state if before.state in TERMINAL else FAILED
    message = before.message or "it was lost, and could not be resumed"
    finished = before.finished_at or now()
    record.write_state(replace(before, state=name, message=message, finished_at=finished, life=life.number))
