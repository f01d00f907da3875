"""The hand-over of a job to Ray: however often it is said, and whatever reply is lost, the job is there once.

The submission's id is made by the client before anything is sent. Ray takes each id once (a second time it answers
500), so a request whose reply was lost is looked up, and made again if it did not arrive.
"""

import re
import secrets
import time
from typing import TYPE_CHECKING

from udt_cluster.cluster.client.code import shipped_code
from udt_cluster.cluster.client.connection import api_errors, connect
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import JOB_VARIABLE, LIFE_VARIABLE, STORAGE_VARIABLE, JobRecord
from udt_cluster.errors import JobFailedError, RefusedError, TargetUnreachableError
from udt_cluster.storage import patient_environment

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ENTRYPOINT = "python -m udt_cluster.cluster.driver.run"
_SECONDS = 40.0
_PAUSE = 0.5
_KEY = "udt_key"
_LATER = re.compile(r"No available agent|status code 5\d\d")
"""Signs of a cluster that will take the job soon; a fresh one has no agent for some 7 s."""


class InDoubtError(TargetUnreachableError):
    """The request was sent, and nobody has said whether it arrived."""


def hand_over(target: Target, record: JobRecord, *, life: int) -> None:
    """Submit one life of a job; returns when Ray has it.

    Raises:
        TargetUnreachableError: nobody took it, for 40 s.
        InDoubtError: it may have been taken; the cluster does not answer any more.
        RefusedError: somebody else has resumed the job in this moment.
        JobFailedError: Ray refuses it.
    """
    job, key = record.submission_id(life), secrets.token_hex(8)
    deadline, sent = time.monotonic() + _SECONDS, False
    while True:
        try:
            client = connect(target)
            with api_errors(target):
                if sent and _has(client, job, key):
                    return
                sent = True
                _submit(client, record, target, job=job, key=key, life=life)
                return
        except TargetUnreachableError as error:
            if not sent:
                raise
            if time.monotonic() > deadline:
                raise InDoubtError(_doubt(target, record)) from error
        except RuntimeError as error:
            _raise_unless_later(error, target, overdue=time.monotonic() > deadline)
        time.sleep(_PAUSE)


def _submit(client: "JobSubmissionClient", record: JobRecord, target: Target, *, job: str, key: str, life: int) -> None:
    environment = {
        JOB_VARIABLE: record.id,
        STORAGE_VARIABLE: record.storage.uri,
        LIFE_VARIABLE: str(life),
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
        "PYTHONUNBUFFERED": "1",
        **patient_environment(),
        **target.environment(),
    }
    client.submit_job(
        entrypoint=ENTRYPOINT,
        submission_id=job,
        runtime_env={**shipped_code(), "env_vars": environment},
        metadata={"udt_job": record.id, _KEY: key},
    )


def _has(client: "JobSubmissionClient", job: str, key: str) -> bool:
    """Whether Ray has the submission, by our own request."""
    if job_state(client, job) is None:
        return False
    found = (client.get_job_info(job).metadata or {}).get(_KEY)
    if found != key:
        raise RefusedError(f"{job} was handed over by somebody else in this moment; udt-cluster status {job}")
    return True


def _raise_unless_later(error: RuntimeError, target: Target, *, overdue: bool) -> None:
    """Go on asking only where that can help; what arrived although the answer was an error is found by the next look.

    Raises:
        TargetUnreachableError, JobFailedError: it cannot.
    """
    if not _LATER.search(str(error)):
        raise JobFailedError(f"{target.jobs_api} does not take the job: {error}") from error
    if overdue:
        raise TargetUnreachableError(
            f"{target.jobs_api} answers, but takes no job for {_SECONDS:.0f} s: {error}"
        ) from error


def _doubt(target: Target, record: JobRecord) -> str:
    return (
        f"{record.id} was sent to {target.jobs_api}, which has not answered since; whether it runs will be seen:\n"
        f"  udt-cluster status {record.id}    its state; LOST if it did not arrive\n"
        f"  udt-cluster resume {record.id}    begin it then"
    )


def job_state(client: "JobSubmissionClient", job_id: str) -> str | None:
    """Ray's word for the job's state, or None when Ray does not know the job."""
    try:
        return str(client.get_job_status(job_id).value)
    except RuntimeError as error:
        if "404" in str(error) or "does not exist" in str(error):
            return None
        raise
