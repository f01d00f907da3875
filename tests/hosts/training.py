"""A job on a lab, submitted by the command line and watched in its record."""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from botocore.config import Config
from mlflow import MlflowClient
from PIL import Image

from tests.e2e.conftest import CommandLine
from tests.hosts.lab import Lab
from tests.waiting import wait_for

T = TypeVar("T")
ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}


def write_pictures(folder: Path, *, count: int) -> Path:
    """Pictures of coarse squares with their masks, for `image_folder`; a tenth of a second a picture to prepare."""
    for index in range(count):
        squares = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
        pixels = np.kron(squares, np.ones((8, 8), np.uint8))
        for name, values in (("images", pixels), ("masks", (pixels > 128).astype(np.uint8))):
            path = folder / name / f"case{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return folder


class Training:
    """One job: submitted when made.

    Args:
        lab: Where.
        line: The command line of a person who uses that lab.
        folder: For the job file; on every host at the same place.
        pictures: How many there are to learn from.
        settings: `KEY=VALUE` each, beside those of a small network.
    """

    def __init__(self, lab: Lab, line: CommandLine, *settings: str, pictures: int = 48) -> None:
        self.lab, self.line = lab, line
        self._s3 = lab.server.boto3(Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2}))
        self._bucket, _, self._prefix = lab.storage.removeprefix("s3://").partition("/")
        source = lab.folder / f"pictures-{pictures}"
        if not source.exists():
            write_pictures(source, count=pictures)
        file = lab.folder / "job.json"
        file.write_text(json.dumps(_job(str(source))))
        line("submit", str(file), *(part for setting in settings for part in ("--set", setting)))
        self.id: str = line.json("status", "last")["id"]

    def status(self) -> dict[str, Any]:
        """What `udt-cluster status` says."""
        found: dict[str, Any] = self.line.json("status", self.id)
        return found

    def read(self, key: str) -> Any:
        """An object of the job's record, or None."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=f"{self._prefix}/jobs/{self.id}/{key}")
        except self._s3.exceptions.NoSuchKey:
            return None
        return json.loads(answer["Body"].read())

    def keys(self, folder: str) -> list[str]:
        """Names of the record's objects below a folder, ascending."""
        prefix = f"{self._prefix}/jobs/{self.id}/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{prefix}{folder}")
        return sorted(entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", []))

    def attempts(self) -> list[dict[str, Any]]:
        """The attempts so far, in order."""
        return [self.read(key) for key in self.keys("attempts/")]

    def checkpoints(self) -> int:
        """How many checkpoints are complete."""
        prefix = f"{self._prefix}/runs/{self.id}/"
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix).get("Contents", [])
        return sum(entry["Key"].endswith("/COMMIT") for entry in found)

    def step(self) -> int:
        """Steps done in the newest attempt, as far as its ranks have said; 0 before the first."""
        signs = self.keys("signs/")
        newest = [key for key in signs if key.rpartition("/")[0] == signs[-1].rpartition("/")[0]]
        return max(((self.read(key) or {"step": 0})["step"] for key in newest), default=0)

    def wait_for_step(self, step: int, *, seconds: float = 400) -> int:
        """Wait until that many steps are done; how many are."""
        return wait_for(lambda: self._reached(step), seconds=seconds, what=f"step {step} of {self.id}")

    def _reached(self, step: int) -> int:
        state = (self.read("state.json") or {}).get("state")
        assert state not in ENDED, f"{self.id} is {state} before step {step}\n{self.last_words()}"
        now = self.step()
        return now if now >= step else 0

    def wait(self, *, seconds: float) -> dict[str, Any]:
        """Wait for the end and insist on success; its status."""
        wait_for(
            lambda: (self.read("state.json") or {}).get("state") in ENDED, seconds=seconds, what=f"the end of {self.id}"
        )
        status = self.status()
        assert status["state"] == "SUCCEEDED", self.last_words()
        return status

    def metrics(self, key: str) -> list[int]:
        """Epochs for which MLflow has a value of a metric, in the order of the values."""
        client = MlflowClient(self.lab.mlflow.uri)
        parent = self.status()["run_id"]
        experiment = client.get_run(parent).info.experiment_id
        [child] = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
        return [point.step for point in client.get_metric_history(child.info.run_id, key)]

    def last_words(self) -> str:
        """The end of the job's log and its record, for a failed test."""
        log = self.line("logs", self.id).stdout[-3000:]
        return f"{json.dumps(self.read('state.json'), indent=1)}\n{json.dumps(self.attempts(), indent=1)}\n{log}"


def _job(source: str) -> dict[str, Any]:
    return {
        "name": "hosts",
        "data": {
            **{"source": source, "adapter": "image_folder", "group_by": "case", "size": [64, 64]},
            "splits": {"k": 4},
        },
        "model": {"architecture": "unet"},
        "train": {"epochs": 6, "global_batch_size": 4, "lr": 1e-3},
        "resources": {"workers": 2},
        "evaluate": {"worst": 1},
    }
