"""Sweeps of a target, as a person looks at them."""

from udt_cluster.cluster.client import jobs, local
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import FAILED, LOST, STOPPED, SUCCEEDED, JobRecord
from udt_cluster.errors import UsageError
from udt_cluster.search.report import Sweep, sweep_of_job
from udt_cluster.search.report.sweep import SweepState
from udt_cluster.storage import Location

_ENDS: dict[str, SweepState] = {SUCCEEDED: "finished", FAILED: "failed", STOPPED: "stopped", LOST: "stopped"}


def find_sweep(target: Target, wanted: str) -> Sweep:
    """The sweep of one job, as its record in storage has it now.

    Args:
        target: Where.
        wanted: The job's id, a unique prefix of it, or `last`.

    Raises:
        UsageError: no job, or several, answer to that; or it does not search.
    """
    status = jobs.find_job(target, wanted)
    storage = local.known(target).storage if target.is_local else target.storage
    assert storage is not None
    record = JobRecord(Location.parse(storage), status.id)
    job = record.job()
    if job.tune is None:
        raise UsageError(
            f"job {status.id} searches nothing: its file has no section tune. Add one, for example\n"
            "  tune: {search: {model.num_heads: {choice: [1, 2, 4, 8]}}, budget: {trials: 8}}\n"
            f"and submit it again. What this job does: udt-cluster status {status.id}"
        )
    has_searched = "tune" in status.results
    state: SweepState = "finished" if has_searched else _ENDS.get(status.state, "running")
    return sweep_of_job(job, record.trials(), state=state, job_id=status.id, seconds=record.sweep_seconds())
