"""From a job to a running one: check, record, hand over to the cluster, wait until its nodes agree."""

import getpass
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from udt_cluster.cluster.client import local
from udt_cluster.cluster.client.connection import api_errors, check, connect
from udt_cluster.cluster.client.handover import InDoubtError, hand_over, job_state
from udt_cluster.cluster.client.joblogs import readable
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.driver.preflight import local_source_problem, versions
from udt_cluster.cluster.record import FAILED, FORMAT, TERMINAL, JobRecord, Record, now_exactly
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, RefusedError, UdtError, UnreachableError
from udt_cluster.storage import Location, probe

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from udt_cluster.tracking import Tracker

Say = Callable[[str], None]

_PREFLIGHT_SECONDS = 180.0
_END_SECONDS = 15.0
_POLL_SECONDS = 0.3


def resolve(target: Target, say: Say) -> Target:
    """The target with every address filled in; the local one's servers are started if need be."""
    if not target.is_local:
        return target
    if local.running(target) is None:
        say("starting Ray and MLflow on this machine (stop them with: udt-cluster down)")
    return local.ensure(target)


def plan(job: Job, target: Target) -> list[tuple[str, str]]:
    """What a submission would do, as label and text; nothing is started, read or written."""
    runs = [f"fold {fold} seed {seed}" for fold in job.repeat.folds for seed in job.repeat.seeds]
    train = job.train
    return [
        ("job", f"{job.name} (hash {job.hash})"),
        ("target", target.name if target.is_local else f"{target.name}: {target.jobs_api}"),
        ("storage", target.storage or str(local.default_storage())),
        (
            "data",
            f"{job.data.adapter} from {job.data.source}, {job.data.size[0]}x{job.data.size[1]}, {job.data.resize}",
        ),
        ("model", job.model.summary),
        ("takes", _takes(job)),
        (
            "training",
            f"at most {train.epochs} epochs, batches of {train.global_batch_size} over {job.resources.workers} "
            f"worker{'s' if job.resources.workers.max > 1 else ''}, ZeRO {train.zero_stage}",
        ),
        ("runs", f"{len(runs)}: {', '.join(runs)}" if job.study is None else ""),
        ("compares", "many configurations; which: udt-cluster plan" if job.tune or job.study else ""),
        ("stages", " > ".join(job.stages)),
        ("registers", f"{job.model_name}@{job.register_.alias}" if "register" in job.stages else "nothing"),
    ]


def _takes(job: Job) -> str:
    """What the network takes; channels and classes are taken for granted where only the data can tell them."""
    from udt_cluster.models import cost, output_channels

    classes = output_channels(1 + (job.data.foreground_count or 1))
    taken = cost(job.model, in_channels=3 * job.data.channels_per_image, num_classes=classes, size=job.data.size)
    return f"{taken} of {job.data.size[0]}x{job.data.size[1]}"


@dataclass(frozen=True)
class Purpose:
    """What a submission is for when it is not a training: the fields of the same names in the record."""

    evaluates: str = ""
    verifies: tuple[int, ...] = ()


def submit(job: Job, *, target: Target, job_text: str, say: Say, purpose: Purpose = Purpose()) -> JobRecord:
    """Hand a job over and wait until its nodes have agreed to run it.

    Args:
        job: The resolved job.
        target: Where.
        job_text: The file as the user wrote it, kept with the record.
        say: Called with each step, for people.
        purpose: Scoring the models of another job again, or a verification.

    Returns:
        The record of the job that runs now.

    Raises:
        RefusedError: the nodes cannot run it; every reason is listed, and nothing of the job is left.
        UnreachableError: the target, its storage or MLflow does not answer. Of a job that was handed over before that
            the record stays.
    """
    _refuse_unseen_source(job, target)
    source = look_at_source(job, upload=leaves_here(target))
    target, tracker = ready(target, say)
    storage = Location.parse(str(target.storage))
    record = _record(job, storage, tracker, target=target, text=job_text, purpose=purpose, source=source)
    try:
        say(f"handing {record.id} to {target.jobs_api}")
        hand_over(target, record, life=0)
    except InDoubtError:
        raise
    except (UdtError, KeyboardInterrupt):
        _forget(record, tracker)
        raise
    try:
        await_preflight(target, record)
    except RefusedError:
        _await_end(target, record)
        _forget(record, tracker)
        raise
    except UnreachableError:
        say(f"{record.id} was handed over; what became of it: udt-cluster status {record.id}")
        raise
    except KeyboardInterrupt:
        say(f"{record.id} was handed over and lives on; return to it: udt-cluster status {record.id} --follow")
        raise
    return record


def ready(target: Target, say: Say) -> tuple[Target, "Tracker"]:
    """The target with its servers up, each of which has answered just now.

    Raises:
        UnreachableError: the cluster, its storage or MLflow does not answer.
        AuthError: it refuses the credentials, or asks for none.
    """
    from udt_cluster.tracking import Tracker

    target = resolve(target, say)
    assert target.storage is not None
    assert target.tracking is not None
    check(target)
    probe(Location.parse(target.storage) / "probes")
    tracker = Tracker(target.tracking)
    tracker.ping()
    return target, tracker


def _refuse_unseen_source(job: Job, target: Target) -> None:
    """The local target's node is this machine: what is not here is nowhere."""
    if target.is_local and (problem := local_source_problem(job.data.source)):
        raise RefusedError(problem)


@dataclass(frozen=True)
class Source:
    """What this machine can say of the job's source.

    Attributes:
        version: The data set's version.
        group_by: What its folds keep together.
        warnings: What people must know of it.
        cases: How many there are.
    """

    version: str = ""
    group_by: str = ""
    warnings: tuple[str, ...] = ()
    cases: int = 0


def leaves_here(target: Target) -> bool:
    """Whether the target's storage is not on this machine's disk."""
    return target.storage is not None and not Location.parse(target.storage).is_local


def look_at_source(job: Job, *, upload: bool) -> Source:
    """The data set's version, where this machine sees the source; empty where it does not.

    Args:
        job: The job.
        upload: Whether what is prepared leaves this machine.

    Raises:
        DataError: the source is incomplete; every finding is listed.
    """
    from data_prep import FileIndex, choose_groups, find_version
    from data_prep.privacy import privacy_gate
    from udt_cluster.config.home import udt_home

    if local_source_problem(job.data.source) is not None:
        return Source()
    gate = privacy_gate(home=udt_home(), dataset=job.data.dataset, pseudonymize=job.data.pseudonymize, upload=upload)
    index = FileIndex(udt_home() / "files.sqlite")
    version, discovery = find_version(job.data, job.data.dataset, index, rename=gate)
    group_by, warnings = choose_groups(job.data, discovery)
    return Source(version, group_by, (*discovery.warnings, *warnings), len(discovery.cases))


def _record(
    job: Job, storage: Location, tracker: "Tracker", *, target: Target, text: str, purpose: Purpose, source: Source
) -> JobRecord:
    job_id = f"{job.name}-{secrets.token_hex(4)}"
    git_sha = _git_sha()
    tags = {"job": job_id, "job_hash": job.hash, "git_sha": git_sha, "target": target.name}
    params = job.model_dump(mode="json", by_alias=True)
    run_id = tracker.start_parent(job.name, job_id, tags=tags, params=params, key=job_id)
    tracker.log_text(run_id, text, "job.yaml")
    tracker.log_text(run_id, job.to_json(), "job.json")
    record = JobRecord(storage, job_id)
    facts = Record(
        id=job_id,
        name=job.name,
        job_hash=job.hash,
        submitted_at=now_exactly(),
        user=getpass.getuser(),
        target=target.name,
        run_id=run_id,
        versions=versions(),
        run_url=tracker.run_url(run_id),
        git_sha=git_sha,
        evaluates=purpose.evaluates,
        verifies=purpose.verifies,
        data_version=source.version,
        group_by=source.group_by,
        warnings=source.warnings,
        format=FORMAT,
    )
    record.create(facts, job, text)
    return record


def _git_sha() -> str:
    """Commit of the checkout that this code runs from; empty when it was installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if re.fullmatch(r"[0-9a-f]{40}\n", answer.stdout) else ""


def await_preflight(target: Target, record: JobRecord, *, life: int = 0) -> None:
    """Wait until the driver is past preflight; its refusal becomes ours.

    Raises:
        RefusedError: the nodes cannot run the job; every reason is listed.
        JobFailedError: it ended before it began, or did not begin in time.
        TargetUnreachableError: the cluster stopped answering.
    """
    client, job = connect(target), record.submission_id(life)
    deadline = time.monotonic() + _PREFLIGHT_SECONDS
    while time.monotonic() < deadline:
        state = record.state()
        if state.state == FAILED and "preflight" not in state.seconds:
            error = state.results.get("error", {})
            kind = RefusedError if error.get("exit_code") == 3 else JobFailedError
            message, _, _ = state.message.partition("\n")
            raise kind(message, error.get("problems", []))
        if "preflight" in state.seconds or state.state in TERMINAL:
            return
        with api_errors(target):
            if job_state(client, job) in {"FAILED", "STOPPED"} and record.state().state not in TERMINAL:
                raise JobFailedError(_died_early(client, record, job))
        time.sleep(_POLL_SECONDS)
    raise JobFailedError(
        f"{record.id} was handed over but had not started after {_PREFLIGHT_SECONDS:.0f} s; is the cluster full? "
        f"Look with: udt-cluster status {record.id}; take it back with: udt-cluster stop {record.id}"
    )


def _await_end(target: Target, record: JobRecord) -> None:
    """Wait for a driver that has refused: it still writes its last lines, which are to be removed too."""
    deadline = time.monotonic() + _END_SECONDS
    with suppress(UdtError):
        client = connect(target)
        while job_state(client, record.id) in {"PENDING", "RUNNING"} and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _died_early(client: "JobSubmissionClient", record: JobRecord, job: str) -> str:
    lines = [line for line in readable(client.get_job_logs(job)).splitlines() if line.strip()]
    message = client.get_job_info(job).message or ""
    return "\n".join([f"{record.id} ended before it began: {message}", *lines[-8:]])


def _forget(record: JobRecord, tracker: "Tracker") -> None:
    """A refused job leaves nothing: neither a record nor a run."""
    tracker.delete(record.record().run_id)
    record.delete()


def with_test(job: Job) -> Job:
    """The job, changed to score the test cases as well and to register nothing."""
    stages = [stage for stage in job.stages if stage != "register"]
    return job.changed(evaluate={"test": True}, stages=stages)
