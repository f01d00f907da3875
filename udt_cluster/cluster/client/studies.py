"""Studies of a target, as far as they have come."""

from typing import TYPE_CHECKING

from udt_cluster.cluster.client import jobs, local
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.study import analyse
from udt_cluster.cluster.record import JobRecord
from udt_cluster.errors import JobFailedError, UsageError
from udt_cluster.storage import Location

if TYPE_CHECKING:
    from udt_cluster.studies import Findings, ScoreTable


def find_study(target: Target, wanted: str) -> "tuple[str, Findings, ScoreTable]":
    """The id of a job, what its study has found from the scores that there are, and those scores.

    Args:
        target: Where.
        wanted: The job's id, a unique prefix of it, or `last`.

    Raises:
        UsageError: no job, or several, answer to that; it studies nothing; or no run has been scored yet.
    """
    status = jobs.find_job(target, wanted)
    storage = local.known(target).storage if target.is_local else target.storage
    assert storage is not None
    record = JobRecord(Location.parse(storage), status.id)
    job = record.job()
    if job.study is None:
        raise UsageError(
            f"job {status.id} studies nothing: its file has no section study; jobs/studies/ has examples. "
            f"What this job does: udt-cluster status {status.id}"
        )
    try:
        findings, table = analyse(record, job, record.trials())
    except JobFailedError as error:
        raise UsageError(f"{status.id}: no run has been scored yet; udt-cluster status {status.id}") from error
    return status.id, findings, table
