"""Thousands of jobs, runs and model versions in a moment, written past the code that would make them one by one."""

import json
import secrets
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from udt_cluster.cluster import job_index
from udt_cluster.cluster.record import JobRecord, Record, now_exactly
from udt_cluster.config.job import Job
from udt_cluster.storage import Location
from udt_cluster.tracking import Tracker

MODELS = 20
"""Registered models (and experiments); runs and versions are shared out among them."""
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_TABLES = {
    "experiments": ("experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time"),
    "runs": (
        *("run_uuid", "name", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri"),
        "experiment_id",
    ),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
    "registered_models": ("name", "creation_time", "last_updated_time"),
    "registered_model_aliases": ("alias", "version", "name"),
    "model_versions": (
        *("name", "version", "creation_time", "last_updated_time", "current_stage", "source", "run_id", "status"),
    ),
    "model_version_tags": ("key", "value", "name", "version"),
}
_Rows = dict[str, list[tuple[Any, ...]]]


def job_id(number: int) -> str:
    """Id of a seeded job."""
    return f"job-{number % MODELS}-{number:08x}"


def run_id(number: int) -> str:
    """Id of a seeded job's run in MLflow."""
    return f"{number:032x}"


def submitted_at(number: int) -> str:
    """When it was submitted, a minute after the one before."""
    return (_BEGAN + timedelta(minutes=number)).isoformat(timespec="milliseconds")


def seed_jobs(storage: Path, count: int) -> None:
    """Records of jobs that have succeeded, with the files that a job of one fold leaves, in a local storage."""
    index = storage / "job-index"
    index.mkdir(parents=True)
    for number in range(count):
        folder = storage / "jobs" / job_id(number)
        (folder / "logs/driver").mkdir(parents=True)
        for name, content in _files(number):
            (folder / name).write_text(content)
        (index / job_index._name(job_id(number), submitted_at(number))).touch()
    (index / "0").touch()


def _files(number: int) -> Iterator[tuple[str, str]]:
    state = {
        "state": "SUCCEEDED",
        "stage": "register",
        "started_at": submitted_at(number),
        "finished_at": submitted_at(number + 1),
        "results": {"prepare": {"version": "4f" * 8}, "evaluate": {"mean": {"dice": 0.5 + number % 100 / 250}}},
        "run_ended": True,
    }
    record = {
        "id": job_id(number),
        "name": f"job-{number % MODELS}",
        "job_hash": "0" * 16,
        "submitted_at": submitted_at(number),
        "user": "seed",
        "target": "bench",
        "run_id": run_id(number),
        "versions": {"ray": "2.60.0"},
    }
    yield "record.json", json.dumps(record)
    yield "state.json", json.dumps(state)
    yield "progress.json", json.dumps({"run": f"{job_id(number)}-f0-s1", "epoch": 40, "epochs": 40, "val_dice": 0.8})
    yield "job.json", "{}"
    yield "job.yaml", "name: seed\n"
    yield "logs/driver/00000000.log", "stage prepare\n"


def record_job(job: Job, storage: Location, tracking: str) -> str:
    """What a submission writes before the job is handed over: a run in MLflow with its files, and the record."""
    tracker, name = Tracker(tracking), f"{job.name}-{secrets.token_hex(4)}"
    params = job.model_dump(mode="json", by_alias=True)
    run = tracker.start_parent(job.name, name, tags={"job": name, "job_hash": job.hash}, params=params, key=name)
    tracker.log_text(run, job.to_json(), "job.json")
    at = now_exactly()
    facts = Record(
        id=name, name=job.name, job_hash=job.hash, submitted_at=at, user="seed", target="bench", run_id=run, versions={}
    )
    JobRecord(storage, name).create(facts, job, job.to_json())
    return name


def seed_mlflow(database: Path, count: int) -> None:
    """Runs, each with a registered version, in the SQLite database of a server that is not running."""
    rows: _Rows = {table: [] for table in _TABLES}
    for model in range(MODELS):
        at = _milliseconds(0)
        rows["experiments"].append((model + 1, f"job-{model}", f"mlflow-artifacts:/{model + 1}", "active", at))
        rows["registered_models"].append((f"job-{model}", at, _milliseconds(count)))
        rows["registered_model_aliases"].append(("candidate", max(1, count // MODELS // 2), f"job-{model}"))
    for number in range(count):
        _add_run(rows, number)
        _add_version(rows, number)
    with sqlite3.connect(database) as connection:
        for table, columns in _TABLES.items():
            marks = ",".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})", rows[table])
    connection.close()


def _add_run(rows: _Rows, number: int) -> None:
    run, began = run_id(number), _milliseconds(number)
    experiment = number % MODELS + 1
    artifacts = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    rows["runs"].append(
        (run, job_id(number), "seed", "FINISHED", began, began + 60_000, "active", artifacts, experiment)
    )
    tags = {
        "udt.run": job_id(number),
        "job": job_id(number),
        "mlflow.runName": job_id(number),
        "data_version": "4f" * 8,
    }
    rows["tags"] += [(key, value, run) for key, value in tags.items()]
    rows["params"] += [(f"train.p{index}", str(index), run) for index in range(20)]
    rows["latest_metrics"] += [(key, 0.5, began, 40, 0, run) for key in ("train_loss", "val_dice", "mean_dice")]


def _add_version(rows: _Rows, number: int) -> None:
    name, version, at = f"job-{number % MODELS}", number // MODELS + 1, _milliseconds(number)
    rows["model_versions"].append((name, version, at, at, "None", f"models:/m-{number:032x}", run_id(number), "READY"))
    tags = {
        "udt.checksum": f"{number:064x}",
        "udt.complete": "true",
        "data_version": "4f" * 8,
        "job_hash": "0" * 16,
        "split_hash": "1" * 16,
        "metric.dice": "0.9",
        "metric.iou": "0.8",
        "metric.hd95": "nan",
    }
    rows["model_version_tags"] += [(key, value, name, version) for key, value in tags.items()]


def _milliseconds(number: int) -> int:
    return int((_BEGAN + timedelta(minutes=number)).timestamp() * 1000)
