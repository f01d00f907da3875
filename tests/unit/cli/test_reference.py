"""Every command is helped and documented, has --json, and asks the cluster for what the cluster has."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from udt_cluster.cli.app import app
from udt_cluster.cli.reference import help_texts, reference

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"
VERBS = {
    *("init", "schema", "validate", "submit", "ls", "status", "logs", "stop", "rm", "evaluate", "dashboard", "down"),
    *("resume", "verify-resume", "explain", "tune show", "study show", "plan"),
    *(
        "data check",
        "data unpack",
        "data prepare",
        "data ls",
        "data show",
        "data rm",
        "data gc",
        "models ls",
        "models show",
        "models rm",
        "target add",
        "target ls",
        "target use",
    ),
}


def commands(group: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        path = f"{prefix} {name}".strip()
        found |= commands(command, path) if hasattr(command, "commands") else {path: command}
    return found


COMMANDS = commands(typer.main.get_command(app))


def test_the_verbs_are_these() -> None:
    assert set(COMMANDS) == VERBS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_helped_and_speaks_json(name: str) -> None:
    command = COMMANDS[name]
    summary = command.help.splitlines()[0]
    assert 10 < len(summary) <= 58, "one line of the list of commands"
    assert summary.endswith(".")
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_the_page_is_current() -> None:
    assert DOCS.read_text() == reference(), "run: python -m udt_cluster.cli.reference > docs/cli.md"


def test_the_page_has_every_command() -> None:
    named = {name.removeprefix("udt-cluster").strip() for name, _ in help_texts()}
    assert named >= set(COMMANDS)
    assert all(f"\n## udt-cluster {name}\n" in DOCS.read_text() for name in COMMANDS)


def test_the_fake_cluster_has_the_signatures_of_the_real_one() -> None:
    """Otherwise the tests of this folder could pass while every command fails."""
    conftest = import_module("tests.unit.cli.conftest")
    for place, names in conftest.PLACES.items():
        real = import_module(place)
        for name in names:
            fake = inspect.signature(getattr(conftest.FakeCluster(), name)).parameters
            wanted = inspect.signature(getattr(real, name)).parameters
            assert [(p.name, p.kind) for p in fake.values()] == [(p.name, p.kind) for p in wanted.values()], name
    status = import_module("udt_cluster.cluster.client.jobs").JobStatus
    assert list(inspect.signature(conftest.FakeStatus).parameters) == list(inspect.signature(status).parameters)
