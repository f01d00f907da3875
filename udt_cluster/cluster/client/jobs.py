"""Jobs as a person asks for them: submit, list, find, follow, read, stop, remove."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from udt_cluster.cluster.client import joblogs, local, resumption
from udt_cluster.cluster.client import submit as submission
from udt_cluster.cluster.client.connection import api_errors, connect
from udt_cluster.cluster.client.handover import job_state
from udt_cluster.cluster.client.reaper import Ended, reap
from udt_cluster.cluster.client.states import ClusterView, judge, look, look_at
from udt_cluster.cluster.client.submit import Purpose, plan
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import (
    LOST,
    PENDING,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    TERMINAL,
    JobRecord,
    list_records,
    matching_records,
    now,
)
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, RefusedError, UnreachableError, UsageError, VersionError
from udt_cluster.storage import Location, in_threads

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
    "resume",
    "stop",
    "submit",
]

NEWER = "NEWER"
"""State of a job whose record this version cannot read."""
_OPEN = frozenset({PENDING, RUNNING, LOST})
_POLL_SECONDS = 1.0
_NEWEST = 50
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class JobStatus:
    """A job as people see it.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, LOST when neither the cluster knows it nor its driver gives
            a sign of life, or NEWER when another version of this package recorded it.
        progress: Of the last epoch: epoch, epochs, val_dice, eta_seconds, fold, seed, message.
        note: What puts the state in doubt; else empty.
        results: What each stage found.
        life: How often it was resumed.
        attempts: At its runs, in order; see :class:`udt_cluster.cluster.record.Attempt`. Only of one job.
    """

    id: str
    name: str
    state: str
    message: str
    stage: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    submitted_at: str = ""
    finished_at: str = ""
    note: str = ""
    dashboard_url: str = ""
    mlflow_url: str = ""
    run_id: str = ""
    target: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    life: int = 0
    run_ended: bool = False
    attempts: list[dict[str, Any]] = field(default_factory=list)


def submit(job: Job, *, target: Target, job_text: str, on_event: Callable[[str], None]) -> JobStatus:
    """Submit a job; see :func:`udt_cluster.cluster.client.submit.submit`."""
    record = submission.submit(job, target=target, job_text=job_text, say=on_event)
    return _handed_over(target, record)


def verify_resume(
    job: Job, workers: tuple[int, ...], *, target: Target, job_text: str, on_event: Callable[[str], None]
) -> JobStatus:
    """Submit a proof that the job's training survives a kill; see :mod:`udt_cluster.cluster.driver.verify`.

    Args:
        job: The job.
        workers: Of those that are killed, then of those that go on.
        target: Where.
        job_text: The file as the user wrote it.
        on_event: Told of each step.
    """
    most = job.changed(resources={"workers": max(workers)}, stages=["prepare", "train"])
    purpose = Purpose(verifies=workers)
    record = submission.submit(most, target=target, job_text=job_text, say=on_event, purpose=purpose)
    return _handed_over(target, record)


def resume(target: Target, job_id: str, *, overrides: Sequence[str], on_event: Callable[[str], None]) -> JobStatus:
    """Let a job that failed, was stopped or is lost go on; see :func:`udt_cluster.cluster.client.resumption.resume`.

    Raises:
        RefusedError: it still runs, or it has succeeded.
    """
    status = find_job(target, job_id)
    if status.state not in TERMINAL:
        told = f" ({status.note})" if status.note else ""
        raise RefusedError(
            f"{status.id} is {status.state}{told}; stop it first: udt-cluster stop {status.id}"
            + ("; without a sign of life it counts as LOST in less than a minute" if status.note else "")
        )
    if status.state == SUCCEEDED:
        raise RefusedError(
            f"{status.id} has finished: there is nothing to go on with. Submit a new job to train longer"
        )
    record = _record(target, status.id)
    return _handed_over(target, resumption.resume(record, target=target, overrides=overrides, say=on_event))


def _handed_over(target: Target, record: JobRecord) -> JobStatus:
    """Status of a job that Ray has just taken; runs that older jobs have left open in MLflow are ended on the way."""
    list_jobs(target, limit=_NEWEST)
    job = record.submission_id(record.state().life)
    return _status(record, _known(target), ClusterView({job: RUNNING}))


def evaluate(target: Target, job_id: str, *, test: bool, on_event: Callable[[str], None]) -> JobStatus:
    """Score the models of a finished job again, with its test cases if `test`."""
    record = _record(target, job_id)
    job = record.trained_job()
    if "train" not in job.stages or "train" not in record.state().results:
        raise RefusedError(
            f"{record.id} has trained nothing that could be scored; it stands at {record.state().stage or 'the start'}"
        )
    job = submission.with_test(job) if test else job
    text = (record.folder / "job.yaml").read_bytes().decode()
    purpose = Purpose(evaluates=record.id)
    scored = submission.submit(job, target=target, job_text=text, say=on_event, purpose=purpose)
    return _handed_over(target, scored)


def list_jobs(target: Target, *, limit: int | None = None) -> list[JobStatus]:
    """Jobs of the target's storage, the newest first; what their drivers did not tell MLflow is told now.

    Args:
        target: Where.
        limit: Only so many.
    """
    known = _known(target)
    return _judged(known, list_records(_storage(known), limit))


def find_job(target: Target, wanted: str) -> JobStatus:
    """One job, by its id, a unique prefix of it, or `last`; with its attempts.

    Raises:
        UsageError: no job, or several, answer to that.
        VersionError: a newer version of this package has written its record.
    """
    known = _known(target)
    record = _record(target, wanted)
    record.record()
    status = _judged(known, [record])[0]
    return replace(status, attempts=[asdict(attempt) for attempt in record.attempts()])


def _judged(target: Target, records: list[JobRecord]) -> list[JobStatus]:
    """The jobs that are there; the cluster is asked when one of them may still run, and its record then read again."""
    found = in_threads(lambda record: _status_if_there(record, target, ClusterView()), records)
    if any(status is not None and status.state in _OPEN for status in found):
        view = look(target)
        found = [
            _status_if_there(record, target, view) if status is not None and status.state in _OPEN else status
            for record, status in zip(records, found, strict=True)
        ]
    pairs = [(record, status) for record, status in zip(records, found, strict=True) if status is not None]
    ended = [Ended(record, status.run_id, status.state, status.life, status.run_ended) for record, status in pairs]
    reap(ended, target.tracking)
    return [status for _, status in pairs]


def follow(target: Target, job_id: str, *, on_update: Callable[[JobStatus], None]) -> JobStatus:
    """Report every change until the job has ended; one whose cluster has gone ends as LOST, in less than a minute."""
    known = _known(target)
    record = _record(target, job_id)
    last: JobStatus | None = None
    while True:
        status = _status(record, known, look_at(known, record.submission_id(record.state().life)))
        if status != last:
            on_update(status)
            last = status
        if status.state in TERMINAL:
            return find_job(target, record.id)
        time.sleep(_POLL_SECONDS)


def logs(target: Target, job_id: str, *, follow: bool, rank: int | None = 0) -> Iterator[str]:
    """What a job has written; see :func:`udt_cluster.cluster.client.joblogs.read`."""
    return joblogs.read(_record(target, job_id), _known(target), follow=follow, rank=rank)


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
        _stop_on_cluster(known, record.submission_id(status.life))
    stopped = replace(record.state(), state=STOPPED, message="stopped by the user", finished_at=now())
    record.write_state(stopped)
    if known.tracking:
        with suppress(UnreachableError):  # whoever looks at the job next tells MLflow
            tracker = Tracker(known.tracking)
            tracker.finish_tree(status.run_id, "KILLED")
            discard_unfinished(tracker, status.run_id)
            record.write_state(replace(stopped, run_ended=True))
    return find_job(target, status.id)


def _stop_on_cluster(target: Target, submission_id: str) -> None:
    client = connect(target)
    with api_errors(target):
        client.stop_job(submission_id)
        deadline = time.monotonic() + _STOP_SECONDS
        while job_state(client, submission_id) in {"PENDING", "RUNNING"} and time.monotonic() < deadline:
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
    """The target's addresses without starting anything; of a local one that is down, its storage only."""
    return local.known(target) if target.is_local else target


def _storage(target: Target) -> Location:
    assert target.storage is not None
    return Location.parse(target.storage)


def _record(target: Target, wanted: str) -> JobRecord:
    found = matching_records(_storage(_known(target)), wanted)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{wanted!r} could be any of {', '.join(sorted(record.id for record in found))}; type more of it"
        )
    if wanted == "last":
        raise UsageError("there is no job yet; submit one: udt-cluster submit JOB.yaml")
    raise UsageError(f"no job {wanted!r} on target {target.name!r}; udt-cluster ls shows them")


def _status_if_there(record: JobRecord, target: Target, view: ClusterView) -> JobStatus | None:
    """None for a job that is just being removed; one that a newer version wrote shows that it did."""
    try:
        return _status(record, target, view)
    except FileNotFoundError:
        return None
    except VersionError as error:
        name = record.id.rpartition("-")[0]
        return JobStatus(id=record.id, name=name, state=NEWER, message=error.message)


def _status(record: JobRecord, target: Target, view: ClusterView) -> JobStatus:
    facts, state = record.record(), record.state()
    judged = judge(record, state, view)
    job = record.submission_id(state.life)
    return JobStatus(
        id=record.id,
        name=facts.name,
        state=judged.state,
        stage=state.stage,
        progress={**record.progress(), "message": state.message},
        submitted_at=facts.submitted_at,
        finished_at=state.finished_at,
        message=judged.message,
        note=judged.note,
        dashboard_url=f"{target.jobs_api}/#/jobs/{job}" if target.jobs_api else "",
        mlflow_url=facts.run_url,
        run_id=facts.run_id,
        target=facts.target,
        results=state.results,
        seconds=state.seconds,
        life=state.life,
        run_ended=state.run_ended,
    )
