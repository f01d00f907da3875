"""Arguments and options that several commands have, each with one name and one help text everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from udt_cluster.errors import UsageError

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.", show_default=False)]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of a job, the beginning of one, or `last`.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the job, for example train.epochs=10. May be given several times.",
        show_default=False,
    ),
]
TargetName = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="Where. Default: the target in use.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", "--follow", "-w", help="Show live progress until the job has ended; exit with its result."),
]


def rank_of(text: str | None) -> int | None:
    """What `--rank` says: a rank, 0 when nothing is said, None for all.

    Raises:
        UsageError: neither a number nor `all`.
    """
    if text == "all":
        return None
    if text is None or text.isdecimal():
        return int(text or 0)
    raise UsageError(f"--rank takes a number from 0, or all; got {text!r}")
