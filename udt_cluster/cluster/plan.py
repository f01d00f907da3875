"""A run as driver and workers know it: plain values that any process can read."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from udt_cluster.cluster.record import JobRecord
from udt_cluster.config.job import Job
from udt_cluster.storage import Location

if TYPE_CHECKING:
    from udt_cluster.tracking.runs import ChildRun

PATIENCE_SECONDS = 600.0
"""How long a job that has hours of training behind it waits for an MLflow server that is away."""


@dataclass(frozen=True)
class RunPlan:
    """Everything that the worker of one run needs, as plain values that any process can read."""

    storage: str
    job_id: str
    run: str
    fold: int
    seed: int
    number: int
    """Which of the job's runs this is, counted from 1."""
    total: int
    store: str
    splits: str
    tracking: str
    """Address of MLflow; empty: metrics are not kept."""
    run_id: str
    """In MLflow; empty when MLflow was away when the run was planned: then `parent_id` leads to it."""
    attempt: int = 0
    """Which attempt at the run this is, counted from 0 over all lives of the job."""
    faults: str = ""
    """See :mod:`udt_cluster.cluster.worker.failpoints`."""
    trace: str = ""
    """Folder for the samples of every step; see :mod:`udt_cluster.cluster.worker.trace`."""
    train_cases: int = 0
    """So many cases of the fold, the first ones; 0: all."""
    validation_cases: int = 0
    """Likewise."""
    job_json: str = ""
    """The job to train with; empty: the record's."""

    parent_id: str = ""
    """The job's run in MLflow."""

    @property
    def record(self) -> JobRecord:
        """The job's record."""
        return JobRecord(Location.parse(self.storage), self.job_id)

    @property
    def folder(self) -> Location:
        """Checkpoints, scores and model of the run."""
        return self.record.runs / self.run

    def job(self) -> Job:
        """What to train."""
        return Job.from_json(self.job_json) if self.job_json else self.record.job()

    def child(self) -> "ChildRun":
        """The run in MLflow, for who has to make or to find it."""
        from udt_cluster.tracking.runs import ChildRun

        data_version, _, split_hash = Location.parse(self.splits).name.removesuffix(".json").rpartition("-")
        tags = {"data_version": data_version, "split_hash": split_hash}
        which = {"fold": self.fold, "seed": self.seed}
        return ChildRun(self.parent_id, self.run, tags={"job": self.job_id, **which, **tags}, params=which)


def scratch_folder() -> Path:
    """A folder of this process for files on their way to storage."""
    return Path(tempfile.mkdtemp(prefix=f"udt-{os.getpid()}-"))
