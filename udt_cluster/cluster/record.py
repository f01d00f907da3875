"""The record of a job, in the target's storage: what was asked, what it is doing, how it ended.

::

    <storage>/jobs/<id>/record.json     written once by the submitter
    <storage>/jobs/<id>/job.json        the resolved job
    <storage>/jobs/<id>/job.yaml        the file as it was submitted
    <storage>/jobs/<id>/state.json      replaced by the driver at every change, and by `stop`
    <storage>/jobs/<id>/progress.json   replaced by rank 0 after every epoch
    <storage>/jobs/<id>/attempts/<run>/<number>.json   each attempt at a run, replaced while it goes on
    <storage>/runs/<id>/<run>/          checkpoints, scores and model of each run
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from udt_cluster.config.job import Job
from udt_cluster.storage import Location

T = TypeVar("T")
JOB_VARIABLE, STORAGE_VARIABLE = "UDT_JOB_ID", "UDT_STORAGE"
"""How the driver is told which job it runs; no value of the user's is on its command line."""

PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED, LOST = "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "LOST"
TERMINAL = frozenset({SUCCEEDED, FAILED, STOPPED, LOST})


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
    data_version: str = ""
    """Version of the data set, when the submitter could see the source; empty otherwise."""
    group_by: str = ""
    """What its folds keep together, likewise."""
    warnings: tuple[str, ...] = ()
    """What the submitter found out about the source."""


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
        (self.folder / "job.json").write_bytes(job.to_json().encode())
        (self.folder / "job.yaml").write_bytes(text.encode())
        self.write_state(State())
        (self.folder / "record.json").write_bytes(_encode(asdict(record)))

    def record(self) -> Record:
        """What the submitter wrote.

        Raises:
            FileNotFoundError: there is no such job.
        """
        return Record(**json.loads((self.folder / "record.json").read_bytes()))

    def job(self) -> Job:
        """The resolved job."""
        return Job.from_json((self.folder / "job.json").read_bytes().decode())

    def state(self) -> State:
        """The newest state."""
        return State(**json.loads((self.folder / "state.json").read_bytes()))

    def write_state(self, state: State) -> None:
        """Replace the state."""
        (self.folder / "state.json").write_bytes(_encode(asdict(state)))

    def progress(self) -> dict[str, Any]:
        """What rank 0 said after its last epoch; empty before the first."""
        try:
            loaded: dict[str, Any] = json.loads((self.folder / "progress.json").read_bytes())
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

    def delete(self) -> None:
        """Remove the record, checkpoints and scores; `record.json` first, because it makes the job visible."""
        (self.folder / "record.json").delete()
        self.folder.delete_tree()
        self.runs.delete_tree()


def list_records(storage: Location) -> list[JobRecord]:
    """Every job of a storage, in no particular order."""
    keys = [entry.key for entry in (storage / "jobs").entries()]
    return [JobRecord(storage, key.split("/")[0]) for key in keys if key.endswith("/record.json")]


def _read(kind: type[T], location: Location) -> T:
    """A record as one of the dataclasses above; keys that this version does not know are passed over."""
    loaded: dict[str, Any] = json.loads(location.read_bytes())
    return kind(**{f.name: loaded[f.name] for f in fields(cast(Any, kind)) if f.name in loaded})


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
