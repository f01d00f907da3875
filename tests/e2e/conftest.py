"""One local target for all end-to-end tests: a real Ray head and MLflow server, driven by the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.swift import S3Server

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [str(Path(sys.executable).parent / "udt-cluster")]
CANARY = "canary-6f1c9a7e"  # part of a secret that must be found nowhere


@dataclass(frozen=True)
class CommandLine:
    """The `udt-cluster` command with an environment of its own."""

    environment: dict[str, str]
    home: Path

    def __call__(self, *arguments: str, code: int = 0, timeout: float = 420) -> subprocess.CompletedProcess[str]:
        """Run to the end and insist on the exit code."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, timeout: float = 420) -> Any:
        """Run with `--json` and read what it prints."""
        return json.loads(self(*arguments, "--json", timeout=timeout).stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start and do not wait. A test run in the background ignores SIGINT, and a child would inherit that."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def with_environment(self, **values: str) -> "CommandLine":
        """The same command with more in its environment."""
        return CommandLine({**self.environment, **values}, self.home)

    def at_home(self, home: Path) -> "CommandLine":
        """The same command with another home, where its servers make their temporary files too."""
        (home / "tmp").mkdir(exist_ok=True)
        return CommandLine({**self.environment, "UDT_HOME": str(home), "TMPDIR": str(home / "tmp")}, home)

    @property
    def tracking(self) -> str:
        """URI of the MLflow server."""
        return str(json.loads((self.home / "local.json").read_text())["tracking"])


@pytest.fixture(scope="session")
def udt(s3_server: S3Server) -> Iterator[CommandLine]:
    """The command line on a home of its own; S3 credentials are in the environment that the servers start with."""
    home = Path(tempfile.mkdtemp(prefix="udt-", dir="/tmp"))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "UDT_", "RAY_", "MLFLOW_"))}
    environment = {
        **inherited,
        **s3_server.environment,
        "UDT_E2E_SECRET": CANARY,
        "NO_COLOR": "1",
        "COLUMNS": "160",
    }
    line = CommandLine(environment, home).at_home(home)
    try:
        yield line
    finally:
        line("down")
        shutil.rmtree(home, ignore_errors=True)


SMALL = [
    *("--set", "data.size=[64,64]", "--set", "model.num_layers=1", "--set", "model.num_heads=2"),
    *("--set", "model.embed_dim=32", "--set", "train.epochs=1", "--set", "model.architecture=udtransnet"),
]
TINY = [
    *("--set", "data.size=[32,32]", "--set", "model.architecture=unet", "--set", "train.epochs=1"),
    *("--set", "evaluate.worst=1"),
]
