"""Jobs as a person asks for them: submit, list, find, follow, read, stop, remove."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from udt_cluster.cluster import local
from udt_cluster.cluster import submit as submission
from udt_cluster.cluster.connection import api_errors, connect
from udt_cluster.cluster.record import (
    FAILED,
    LOST,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    TERMINAL,
    JobRecord,
    State,
    list_records,
    now,
)
from udt_cluster.cluster.submit import job_state, plan
from udt_cluster.cluster.targets import Target
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, RefusedError, UsageError
from udt_cluster.storage import Location

__all__ = [
    "JobStatus",
    "evaluate",
    "find_job",
    "follow",
    "list_jobs",
    "logs",
    "plan",
    "raise_for",
    "remove",
    "stop",
    "submit",
]

_POLL_SECONDS = 1.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class JobStatus:
    """A job as people see it.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, or LOST when the cluster does not know it any more.
        progress: Of the last epoch: epoch, epochs, val_dice, eta_seconds, fold, seed, message.
        results: What each stage found.
    """

    id: str
    name: str
    state: str
    stage: str
    progress: dict[str, Any]
    submitted_at: str
    finished_at: str
    message: str
    dashboard_url: str
    mlflow_url: str
    run_id: str
    target: str
    results: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def submit(job: Job, *, target: Target, job_text: str, on_event: Callable[[str], None]) -> JobStatus:
    """Submit a job; see :func:`udt_cluster.cluster.submit.submit`."""
    record = submission.submit(job, target=target, job_text=job_text, say=on_event)
    return _status(record, _known(target), alive=RUNNING)


def evaluate(target: Target, job_id: str, *, test: bool, on_event: Callable[[str], None]) -> JobStatus:
    """Score the models of a finished job again, with its test cases if `test`."""
    record = _record(target, job_id)
    job = record.job()
    if "train" not in job.stages or "train" not in record.state().results:
        raise RefusedError(
            f"{record.id} has trained nothing that could be scored; it stands at {record.state().stage or 'the start'}"
        )
    job = submission.with_test(job) if test else job
    text = (record.folder / "job.yaml").read_bytes().decode()
    scored = submission.submit(job, target=target, job_text=text, say=on_event, evaluates=record.id)
    return _status(scored, _known(target), alive=RUNNING)


def list_jobs(target: Target) -> list[JobStatus]:
    """Every job of the target's storage, newest first."""
    known = _known(target)
    records = list_records(_storage(known))
    states = _ray_states(known)
    found = [_status(record, known, alive=states.get(record.id)) for record in records]
    return sorted(found, key=lambda status: status.submitted_at, reverse=True)


def find_job(target: Target, wanted: str) -> JobStatus:
    """One job, by its id, a unique prefix of it, or `last`.

    Raises:
        UsageError: no job, or several, answer to that.
    """
    known = _known(target)
    record = _record(target, wanted)
    return _status(record, known, alive=_ray_states(known).get(record.id))


def follow(target: Target, job_id: str, *, on_update: Callable[[JobStatus], None]) -> JobStatus:
    """Report every change until the job has ended."""
    known = _known(target)
    record = _record(target, job_id)
    client = connect(known)
    last: JobStatus | None = None
    while True:
        with api_errors(known):
            alive = job_state(client, record.id)
        status = _status(record, known, alive=alive)
        if status != last:
            on_update(status)
            last = status
        if status.state in TERMINAL:
            return status
        time.sleep(_POLL_SECONDS)


def logs(target: Target, job_id: str, *, follow: bool) -> Iterator[str]:
    """The driver's and workers' output, as pieces of text; with `follow` until the job ends.

    Raises:
        RefusedError: the cluster that ran the job is gone, and its log with it.
    """
    known = _known(target)
    record = _record(target, job_id)
    if known.jobs_api is None:
        raise RefusedError(
            f"the log of {record.id} went with its local cluster; its record: udt-cluster status {record.id}"
        )
    client = connect(known)
    if job_state(client, record.id) is None:
        raise RefusedError(f"no log of {record.id}: the cluster was restarted; udt-cluster status {record.id}")
    seen = 0
    while True:
        with api_errors(known):
            running = job_state(client, record.id) in {"PENDING", "RUNNING"}
            text = client.get_job_logs(record.id)
        if len(text) > seen:
            yield text[seen:]
            seen = len(text)
        if not follow or not running:
            return
        time.sleep(_POLL_SECONDS)


def stop(target: Target, job_id: str) -> JobStatus:
    """Stop a job and everything that it runs; its checkpoints stay.

    Raises:
        RefusedError: it has ended already.
    """
    from udt_cluster.tracking import Tracker, discard_unfinished

    status = find_job(target, job_id)
    if status.state in TERMINAL - {LOST}:
        raise RefusedError(f"{status.id} has ended already: {status.state}")
    known = _known(target)
    record = _record(target, status.id)
    if status.state != LOST:
        _stop_on_cluster(known, status.id)
    record.write_state(replace(record.state(), state=STOPPED, message="stopped by the user", finished_at=now()))
    if known.tracking:
        tracker = Tracker(known.tracking)
        tracker.finish_tree(status.run_id, "KILLED")
        discard_unfinished(tracker, status.run_id)
    return find_job(target, status.id)


def _stop_on_cluster(target: Target, job_id: str) -> None:
    client = connect(target)
    with api_errors(target):
        client.stop_job(job_id)
        deadline = time.monotonic() + _STOP_SECONDS
        while job_state(client, job_id) in {"PENDING", "RUNNING"} and time.monotonic() < deadline:
            time.sleep(0.2)


def remove(target: Target, job_id: str) -> None:
    """Delete a job's record, checkpoints and scores. Its MLflow runs, and registered models, stay.

    Raises:
        RefusedError: it is still running.
    """
    status = find_job(target, job_id)
    if status.state not in TERMINAL:
        raise RefusedError(f"{status.id} is {status.state}; stop it first: udt-cluster stop {status.id}")
    _record(target, status.id).delete()


def raise_for(status: JobStatus) -> None:
    """Raise what ended the job, unless it succeeded.

    Raises:
        RefusedError: it was refused, for its data say.
        JobFailedError: it failed, was stopped, or is lost.
    """
    if status.state == SUCCEEDED:
        return
    error = status.results.get("error", {})
    kind = RefusedError if error.get("exit_code") == RefusedError.exit_code else JobFailedError
    first = status.message.partition("\n")[0]
    raise kind(f"{status.id} {status.state}: {first}", error.get("problems", []))


def _known(target: Target) -> Target:
    """The target's addresses without starting anything; a local one that is down has a storage only."""
    if not target.is_local:
        return target
    return local.running(target) or replace(target, storage=target.storage or str(local.default_storage()))


def _storage(target: Target) -> Location:
    assert target.storage is not None
    return Location.parse(target.storage)


def _record(target: Target, wanted: str) -> JobRecord:
    records = list_records(_storage(_known(target)))
    if wanted == "last":
        newest = max(records, key=lambda record: record.record().submitted_at, default=None)
        if newest is None:
            raise UsageError("there is no job yet; submit one: udt-cluster submit JOB.yaml")
        return newest
    exact = [record for record in records if record.id == wanted]
    matching = exact or [
        record for record in records if record.id.startswith(wanted) or record.id.rpartition("-")[2].startswith(wanted)
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UsageError(
            f"{wanted!r} could be any of {', '.join(sorted(record.id for record in matching))}; type more of it"
        )
    raise UsageError(f"no job {wanted!r} on target {target.name!r}; udt-cluster ls shows them")


def _ray_states(target: Target) -> dict[str, str]:
    """Ray's state of each job that it knows; empty when a local cluster is down."""
    if target.jobs_api is None:
        return {}
    client = connect(target)
    with api_errors(target):
        return {job.submission_id: str(job.status.value) for job in client.list_jobs() if job.submission_id}


def _status(record: JobRecord, target: Target, *, alive: str | None) -> JobStatus:
    facts, state = record.record(), record.state()
    name = judge(state, alive)
    return JobStatus(
        id=record.id,
        name=facts.name,
        state=name,
        stage=state.stage,
        progress={**record.progress(), "message": state.message},
        submitted_at=facts.submitted_at,
        finished_at=state.finished_at,
        message=_message(name, state),
        dashboard_url=f"{target.jobs_api}/#/jobs/{record.id}" if target.jobs_api else "",
        mlflow_url=facts.run_url,
        run_id=facts.run_id,
        target=facts.target,
        results=state.results,
        seconds=state.seconds,
    )


def judge(state: State, alive: str | None) -> str:
    """The job's state, from what its driver wrote and what the cluster says. The driver's last word counts.

    Args:
        state: The driver's.
        alive: Ray's, or None when Ray does not know the job.
    """
    if state.state in TERMINAL:
        return state.state
    if alive is None:
        return LOST
    return {"FAILED": FAILED, "STOPPED": STOPPED, "SUCCEEDED": FAILED}.get(alive, state.state)


def _message(name: str, state: State) -> str:
    if name == LOST:
        return "the cluster that ran it does not know it any more; submit it again"
    if name == FAILED and state.state != FAILED:
        return "the driver died without a word; see its log"
    return state.message
