"""`udt-cluster`: the commands put together, and the one place where an error becomes an exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from udt_cluster import __version__
from udt_cluster.cli import data, explain, files, jobs, models, plan, servers, sources, study, target, tune, verify
from udt_cluster.cli.following import LeftError
from udt_cluster.cli.output import coloured, say, show, show_json
from udt_cluster.errors import INTERRUPTED_EXIT_CODE, UdtError, UsageError

_BROKEN_PIPE_EXIT_CODE = 141
app = typer.Typer(
    name="udt-cluster",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        show(f"udt-cluster {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a folder of medical images and masks to a registered segmentation model.

    Begin with: udt-cluster init --template acdc
    """


for _verbs in (files, plan, jobs, verify, explain, servers):
    _verbs.register(app)
sources.register(data.app)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(target.app, name="target")
app.add_typer(tune.app, name="tune")
app.add_typer(study.app, name="study")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or the error's (see :mod:`udt_cluster.errors`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(words, standalone_mode=False, prog_name="udt-cluster")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_EXIT_CODE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED_EXIT_CODE
    except LeftError as error:
        say(f"\n{error}")
        return error.exit_code
    except UdtError as error:
        return _refused(error, words)
    except typer.TyperException as error:
        return _misused(error, words)
    except Exception as error:  # noqa: BLE001 - the last door: a person gets a line, the file gets the traceback
        return _unexpected(error, words)
    if code == INTERRUPTED_EXIT_CODE:
        say("interrupted")
    return code if isinstance(code, int) else 0


def _refused(error: UdtError, words: Sequence[str]) -> int:
    if "--json" in words:
        kind, problems = type(error).__name__, list(error.problems)
        body = {"kind": kind, "message": error.message, "problems": problems, "exit_code": error.exit_code}
        show_json({"error": body})
    say(f"{coloured('error:', 'red', err=True)} {error}")
    return error.exit_code


def _misused(error: typer.TyperException, words: Sequence[str]) -> int:
    """Typer's own findings, in the form of ours; without a command, its help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "udt-cluster"
    if type(error).__name__ == "NoArgsIsHelpError":
        say(error.format_message())
        return UsageError.exit_code
    return _refused(UsageError(f"{error.format_message().rstrip('.')}. See: {path} --help"), words)


def _unexpected(error: Exception, words: Sequence[str]) -> int:
    """One line for the person; the traceback, without the values of variables, goes to a file of theirs alone."""
    summary = str(error).strip().splitlines() or [""]
    try:
        kept = f"The traceback is in {_keep(error)}; please report it with the command that you typed."
    except OSError as failure:
        kept = f"The traceback could not be written ({failure.strerror})."
    return _refused(UdtError(f"this is a fault of udt-cluster: {type(error).__name__}: {summary[0]}. {kept}"), words)


def _keep(error: Exception) -> Path:
    import tempfile
    from datetime import datetime

    from udt_cluster.config.home import udt_home

    try:
        folder = udt_home() / "logs"
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    name = f"traceback-{datetime.now():%Y%m%d-%H%M%S}-"
    handle, path = tempfile.mkstemp(prefix=name, suffix=".txt", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    return Path(path)


if __name__ == "__main__":
    sys.exit(main())
