"""The record of a job, in the target's storage: what was asked, what it is doing, how it ended.

::

    <storage>/jobs/<id>/record.json     written once by the submitter
    <storage>/jobs/<id>/job.json        the resolved job
    <storage>/jobs/<id>/job.yaml        the file as it was submitted
    <storage>/jobs/<id>/state.json      replaced by the driver at every change, and by `stop` and `resume`
    <storage>/jobs/<id>/progress.json   replaced by rank 0 after every epoch
    <storage>/jobs/<id>/alive.json      replaced by the driver every few seconds
    <storage>/jobs/<id>/reaped.json     its runs in MLflow were ended by somebody else than its driver
    <storage>/jobs/<id>/attempts/<run>/<number>.json   each attempt at a run, replaced while it goes on
    <storage>/jobs/<id>/trials/<number>.json, .plan.json, and sweep.json: its sweep
    <storage>/jobs/<id>/lives/<number>.json, .job.json each `resume`, and the job as it was from then on
    <storage>/jobs/<id>/logs/           see :mod:`udt_cluster.cluster.logship`
    <storage>/runs/<id>/<run>/          checkpoints, scores and model of each run
"""

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar, cast

from udt_cluster.cluster import job_index
from udt_cluster.config.job import Job
from udt_cluster.errors import VersionError
from udt_cluster.search.trials import Trial
from udt_cluster.storage import Location, in_threads

T = TypeVar("T")
FORMAT = 2
"""Of the record; 2 has lives, attempts, a heartbeat and logs. A newer one is refused, an older one is read."""
JOB_VARIABLE, STORAGE_VARIABLE, LIFE_VARIABLE = "UDT_JOB_ID", "UDT_STORAGE", "UDT_JOB_LIFE"
"""How the driver is told which job it runs; no value of the user's is on its command line."""

PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, LOST = "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "LOST"
TERMINAL = frozenset({SUCCEEDED, FAILED, STOPPED, LOST})
_TRIAL = re.compile(r"\d{5,}\.json")
_LATEST = 20  # looked at first for the last job; those of them without a record are no jobs


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def now_exactly() -> str:
    """The same to the millisecond: jobs and signs of life are put in order by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Record:
    """What the submitter knew."""

    id: str
    name: str
    job_hash: str
    submitted_at: str
    user: str
    target: str
    run_id: str
    versions: dict[str, str]
    run_url: str = ""
    git_sha: str = ""
    evaluates: str = ""
    """Id of the job whose models this one scores, for `udt-cluster evaluate`."""
    verifies: tuple[int, ...] = ()
    """Numbers of workers, for `udt-cluster verify-resume`: of those that are killed, then of those that go on."""
    data_version: str = ""
    """Version of the data set, when the submitter could see the source; empty otherwise."""
    group_by: str = ""
    """What its folds keep together, likewise."""
    warnings: tuple[str, ...] = ()
    """What the submitter found out about the source."""
    format: int = 1


@dataclass(frozen=True)
class Life:
    """One `resume`: what of the submission it replaced."""

    number: int
    """Counted from 1; the submission itself is 0."""
    submitted_at: str
    user: str
    versions: dict[str, str]
    data_version: str = ""
    """The data set's version that it must go on with; empty when none had been prepared."""
    group_by: str = ""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What the driver says of itself."""

    state: str = PENDING
    stage: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds of each stage that has ended."""
    results: dict[str, Any] = field(default_factory=dict)
    """What each stage found: data version, scores, registered model."""
    life: int = 0
    """Which life the job is in: how often it was resumed."""
    run_ended: bool = False
    """MLflow knows that the job has ended."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run: from the start of its workers to their end."""

    run: str
    number: int
    """Counted from 0, over all lives of the job."""
    workers: int
    started_at: str
    ended_at: str = ""
    kind: str = ""
    """How it ended: `finished`, `preempted`, `worker_died`, ...; empty while it goes on."""
    cause: str = ""
    """The same for people, in plain words."""
    resumed_step: int = 0
    """The step of the checkpoint that it began from."""
    step: int = 0
    """The last step that is known of it."""
    committed_step: int = 0
    """The step of its last committed checkpoint."""
    lost_steps: int = 0
    """Steps that a failure threw away."""
    recovery_seconds: float | None = None
    """From the failure of the attempt before to the first step of this one."""
    nodes: tuple[str, ...] = ()


def data_folder(storage: Location, job: Job) -> Location:
    """Where the versions of the job's data set lie."""
    return storage / "data" / job.data.dataset


class JobRecord:
    """Reads and writes one job's record."""

    def __init__(self, storage: Location, job_id: str) -> None:
        self.id = job_id
        self.storage = storage
        self.folder = storage / "jobs" / job_id
        self.runs = storage / "runs" / job_id

    def create(self, record: Record, job: Job, text: str) -> None:
        """Write everything that the driver needs; `record.json` last, because it makes the job visible."""
        job_index.add(self.storage, self.id, record.submitted_at)
        (self.folder / "job.json").write_bytes(job.to_json().encode())
        (self.folder / "job.yaml").write_bytes(text.encode())
        self.write_state(State())
        (self.folder / "record.json").write_bytes(_encode(asdict(record)))

    def exists(self) -> bool:
        """Whether there is such a job."""
        return (self.folder / "record.json").exists()

    def record(self) -> Record:
        """What the submitter wrote.

        Raises:
            FileNotFoundError: there is no such job.
            VersionError: a newer version of this package wrote it.
        """
        facts = _read(Record, self.folder / "record.json")
        if facts.format > FORMAT:
            raise VersionError(
                f"job {self.id} was recorded by a newer udt-cluster (format {facts.format}, this one reads up to "
                f"{FORMAT}); use that version, or a newer one, here too"
            )
        return replace(facts, warnings=tuple(facts.warnings), verifies=tuple(facts.verifies))

    def job(self) -> Job:
        """The resolved job, as the newest life has it.

        Raises:
            VersionError: this version does not know such a job.
        """
        life = self.state().life
        where = self.folder / (f"lives/{life:04d}.job.json" if life else "job.json")
        try:
            return Job.from_json(where.read_bytes().decode())
        except VersionError as error:
            raise VersionError(f"job {self.id}: {error.message}", error.problems) from error

    def trained_job(self) -> Job:
        """The job as its models were trained: with the settings that its sweep has found."""
        job, found = self.job(), self.state().results.get("tune")
        return job.with_settings(found["best"]["settings"]) if found else job

    def add_life(self, life: Life, job: Job) -> None:
        """Write what a resumption of the job goes by."""
        (self.folder / f"lives/{life.number:04d}.job.json").write_bytes(job.to_json().encode())
        (self.folder / f"lives/{life.number:04d}.json").write_bytes(_encode(asdict(life)))

    def life(self, number: int) -> Life | None:
        """One resumption; None for the submission itself."""
        found = _read(Life, self.folder / f"lives/{number:04d}.json") if number else None
        return replace(found, overrides=tuple(found.overrides)) if found else None

    def submission_id(self, life: int) -> str:
        """The name under which a life of the job is known to Ray, which takes each name once."""
        return f"{self.id}-r{life}" if life else self.id

    @property
    def logs(self) -> Location:
        """What the driver and the workers have written."""
        return self.folder / "logs"

    def state(self) -> State:
        """The newest state."""
        return _read(State, self.folder / "state.json")

    def write_state(self, state: State) -> None:
        """Replace the state."""
        (self.folder / "state.json").write_bytes(_encode(asdict(state)))

    def progress(self) -> dict[str, Any]:
        """What rank 0 said after its last epoch; empty before the first."""
        return self._optional("progress.json")

    def write_alive(self, life: int) -> None:
        """Give a sign of life."""
        (self.folder / "alive.json").write_bytes(_encode({"at": now_exactly(), "life": life}))

    def alive_at(self) -> str:
        """When the driver gave its last sign of life; before the first, when the job was submitted."""
        return str(self._optional("alive.json").get("at") or self.record().submitted_at)

    def write_reaped(self, life: int) -> None:
        """Note that the runs in MLflow of this life have been ended."""
        (self.folder / "reaped.json").write_bytes(_encode({"life": life}))

    def is_reaped(self, life: int) -> bool:
        """Whether that was noted."""
        return bool(self._optional("reaped.json").get("life") == life)

    def _optional(self, name: str) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return {}
        return loaded

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Replace the progress."""
        (self.folder / "progress.json").write_bytes(_encode(progress))

    def write_attempt(self, attempt: Attempt) -> None:
        """Add an attempt, or replace it by what is known of it now."""
        (self.folder / "attempts" / attempt.run / f"{attempt.number:04d}.json").write_bytes(_encode(asdict(attempt)))

    def attempts(self, run: str | None = None) -> list[Attempt]:
        """The attempts at one run, or at all runs, in the order of their start."""
        folder = self.folder / "attempts" / run if run else self.folder / "attempts"
        found = [_read(Attempt, folder / entry.key) for entry in folder.entries() if entry.key.endswith(".json")]
        found = [replace(attempt, nodes=tuple(attempt.nodes)) for attempt in found]
        return sorted(found, key=lambda attempt: (attempt.started_at, attempt.run, attempt.number))

    def write_trial(self, trial: Trial) -> None:
        """Add a trial of the job's sweep, or replace it by what is known of it now."""
        (self.folder / "trials" / f"{trial.number:05d}.json").write_bytes(trial.to_json().encode())

    def trials(self) -> list[Trial]:
        """The trials of the job's sweep, by number; one that cannot be read is passed over, and tried again."""
        folder = self.folder / "trials"
        files = [folder / entry.key for entry in folder.entries() if _TRIAL.fullmatch(entry.key)]
        found = [trial for trial in in_threads(_trial, files) if trial is not None]
        return sorted(found, key=lambda trial: trial.number)

    def write_sweep_seconds(self, seconds: float) -> None:
        """How long the sweep has run, over all lives of the job."""
        (self.folder / "sweep.json").write_bytes(_encode({"seconds": round(seconds, 1)}))

    def sweep_seconds(self) -> float:
        """What was written last; 0 before the first."""
        return float(self._optional("sweep.json").get("seconds", 0.0))

    def delete(self) -> None:
        """Remove the record, checkpoints and scores; `record.json` first, because it makes the job visible."""
        submitted_at = self._optional("record.json").get("submitted_at")
        (self.folder / "record.json").delete()
        self.folder.delete_tree()
        self.runs.delete_tree()
        if submitted_at:
            job_index.discard(self.storage, self.id, submitted_at)


def _trial(file: Location) -> Trial | None:
    with suppress(ValueError):
        return Trial.from_json(file.read_bytes().decode())
    return None


def list_records(storage: Location, limit: int | None = None) -> list[JobRecord]:
    """Jobs of a storage, the newest first; some may lack their record, having just been removed."""
    return [JobRecord(storage, job_id) for job_id in job_index.newest(storage, limit)]


def matching_records(storage: Location, wanted: str) -> list[JobRecord]:
    """Jobs that answer to an id, the beginning or the end of one, or `last`."""
    if wanted == "last":
        few = list(islice(filter(JobRecord.exists, list_records(storage, _LATEST)), 1))
        return few or list(islice(filter(JobRecord.exists, list_records(storage)), 1))
    found = [JobRecord(storage, job_id) for job_id in job_index.matching(storage, wanted)]
    return list(filter(JobRecord.exists, found))


def _read(kind: type[T], location: Location) -> T:
    """A record as one of the dataclasses above; keys that this version does not know are passed over."""
    loaded: dict[str, Any] = json.loads(location.read_bytes())
    return kind(**{f.name: loaded[f.name] for f in fields(cast(Any, kind)) if f.name in loaded})


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
