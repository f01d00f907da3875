"""A job's state, from what its driver wrote, what the cluster says of it, and how long the driver has been silent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from udt_cluster.cluster.client.connection import api_errors, connect
from udt_cluster.cluster.client.handover import job_state
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.heartbeat import LOST_SECONDS, silence
from udt_cluster.cluster.record import FAILED, LOST, PENDING, STOPPED, TERMINAL, JobRecord, State
from udt_cluster.errors import TargetUnreachableError

_DISBELIEF_SECONDS = 120.0
"""A driver that was silent for so long counts as dead, whatever the cluster says of it."""


@dataclass(frozen=True)
class ClusterView:
    """What a cluster says of jobs.

    Attributes:
        states: Ray's word for each submission that it knows.
        silent: Why it says nothing; empty when it has answered.
    """

    states: Mapping[str, str] = field(default_factory=dict)
    silent: str = ""


def look(target: Target) -> ClusterView:
    """Ask for all jobs. A cluster that does not answer is a view too, after some seconds.

    Raises:
        AuthError: it answers, and refuses the token.
    """
    if target.jobs_api is None:
        return ClusterView(silent=_NOT_RUNNING)
    try:
        client = connect(target)
        with api_errors(target):
            jobs = client.list_jobs()
    except TargetUnreachableError:
        return ClusterView(silent=_unanswered(target))
    return ClusterView({job.submission_id: str(job.status.value) for job in jobs if job.submission_id})


def look_at(target: Target, submission_id: str) -> ClusterView:
    """Ask for one job; see :func:`look`."""
    if target.jobs_api is None:
        return ClusterView(silent=_NOT_RUNNING)
    try:
        client = connect(target)
        with api_errors(target):
            state = job_state(client, submission_id)
    except TargetUnreachableError:
        return ClusterView(silent=_unanswered(target))
    return ClusterView({submission_id: state} if state else {})


_NOT_RUNNING = "its local cluster is not running"


def _unanswered(target: Target) -> str:
    return f"the cluster at {target.jobs_api} does not answer"


@dataclass(frozen=True)
class Judged:
    """A job's state as people see it.

    Attributes:
        state: PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED or LOST.
        message: The driver's last word, or why there is none.
        note: What puts the state in doubt; else empty.
    """

    state: str
    message: str
    note: str = ""


def judge(record: JobRecord, state: State, view: ClusterView) -> Judged:
    """The job's state. The driver's last word counts; without one, the cluster's; without that, its signs of life.

    A head that was restarted with its tables says of jobs that died with it that they run: after a while of silence it
    is not believed.
    """
    if state.state in TERMINAL:
        return Judged(state.state, state.message)
    alive, seconds = view.states.get(record.submission_id(state.life)), silence(record)
    name = {"FAILED": FAILED, "STOPPED": STOPPED, "SUCCEEDED": FAILED}.get(alive or "", state.state)
    if name in TERMINAL or alive == PENDING or (alive is not None and seconds <= _DISBELIEF_SECONDS):
        return Judged(name, "the driver died without a word; see its log" if name == FAILED else state.message)
    why = view.silent or "the cluster does not know it (it was restarted, or is another one)"
    if alive is not None:
        why = "the cluster says that it runs"
    if seconds <= LOST_SECONDS:
        return Judged(state.state, state.message, f"{why}; its driver was alive a moment ago")
    return Judged(LOST, f"{why}, and its driver has given no sign of life for {_spoken(seconds)}")


def _spoken(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
