"""The command line of somebody whose machine reaches a lab."""

import os

from tests.e2e.conftest import CommandLine
from tests.hosts.lab import Lab

_OURS = ("AWS_", "UDT_", "RAY_", "MLFLOW_")


def command_line(lab: Lab) -> CommandLine:
    """An environment that leads to the lab and nowhere else."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    home = lab.folder / "home"
    environment = {**inherited, **lab.environment, "UDT_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "160"}
    return CommandLine(environment, home)
