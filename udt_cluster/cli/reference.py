"""Writes docs/cli.md from the help texts: `python -m udt_cluster.cli.reference > docs/cli.md`."""

from collections.abc import Iterator
from typing import Any

import typer

from udt_cluster import errors
from udt_cluster.cli.app import app
from udt_cluster.cli.output import show

_WIDTH = 100
_OPENING = """\
# The command line

Made by `python -m udt_cluster.cli.reference > docs/cli.md` from the help texts; a test sees that it is current.

Everywhere: the answer goes to stdout and progress to stderr; `--json` makes the answer one JSON document, errors too; a
job can be named by its id, a unique beginning of it, the hexadecimal end of it, or `last`; `NO_COLOR` is respected.
"""
_MEANINGS = {
    0: "done",
    errors.UdtError.exit_code: "the job failed",
    errors.UsageError.exit_code: "the job file or the command line is wrong",
    errors.RefusedError.exit_code: "refused: data, credentials or versions",
    errors.UnreachableError.exit_code: "target, MLflow or storage did not answer",
    errors.INTERRUPTED_EXIT_CODE: "interrupted; a job that was followed lives on",
}


def reference() -> str:
    """The whole page."""
    lines = [_OPENING, "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in _MEANINGS.items()]
    for name, text in help_texts():
        lines += ["", f"## {name}", "", "```text", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def help_texts() -> Iterator[tuple[str, str]]:
    """Name and help of the program and of every command, groups before what they hold."""
    yield from _walk(typer.main.get_command(app), "udt-cluster", None)


def _walk(command: Any, name: str, parent: typer.Context | None) -> Iterator[tuple[str, str]]:
    leaf = name.rpartition(" ")[2]
    context = typer.Context(
        command, info_name=leaf, parent=parent, terminal_width=_WIDTH, help_option_names=["-h", "--help"]
    )
    yield name, command.get_help(context)
    for inner, found in getattr(command, "commands", {}).items():
        yield from _walk(found, f"{name} {inner}", context)


if __name__ == "__main__":
    show(reference().rstrip("\n"))
