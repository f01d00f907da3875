"""Verbs about targets, the places where jobs run: target add, ls, use."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from udt_cluster.cli.options import AsJson
from udt_cluster.cli.output import say, show, show_json, show_table
from udt_cluster.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Say where jobs run.\n\nOn this machine (local), or on a cluster whose addresses are kept.",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RESERVED = {"local": "this machine's own servers", "environment": "the addresses in UDT_JOBS_API and its companions"}
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the target.", show_default=False)]


def _url(option: str, help_text: str, metavar: str) -> object:
    return typer.Option(option, metavar=metavar, help=help_text, show_default=False)


@app.command()
def add(
    name: Name,
    jobs_api: Annotated[
        str | None, _url("--jobs-api", "Ray's dashboard and Jobs API: http://head:8265.", "URL")
    ] = None,
    tracking: Annotated[str | None, _url("--tracking", "MLflow, as the nodes reach it.", "URL")] = None,
    storage: Annotated[
        str | None, _url("--storage", "Where data and jobs are kept: s3://BUCKET/PREFIX.", "URI")
    ] = None,
    endpoint: Annotated[str | None, _url("--endpoint", "S3 endpoint, if not Amazon's.", "URL")] = None,
    region: Annotated[str | None, _url("--region", "S3 region.", "NAME")] = None,
    token_file: Annotated[Path | None, _url("--token-file", "File with Ray's token.", "FILE")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Use a cluster on the network although it asks for no token.")
    ] = False,
    use: Annotated[bool, typer.Option("--use", help="Also make it the target in use.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep the addresses of a cluster under a name.

    No secret is kept: credentials are found on the nodes, and Ray's token is read from its file.
    """
    from udt_cluster.cluster.client.targets import Target, add_target, use_target

    _check_name(name)
    if token_file is not None and not token_file.is_file():
        raise UsageError(f"--token-file {token_file}: there is no such file")
    token_path = str(token_file.absolute()) if token_file else None
    target = Target(name, jobs_api, tracking, storage, endpoint, region, token_path, insecure)
    add_target(target)
    if use:
        use_target(name)
    if as_json:
        show_json(asdict(target))
        return
    show(name)
    say(f"Kept. {'It is in use now.' if use else f'Use it: udt-cluster target use {name}'}")


def _check_name(name: str) -> None:
    if name in _RESERVED:
        raise UsageError(f"the name {name!r} stands for {_RESERVED[name]}; choose another")
    if not _NAME.fullmatch(name):
        raise UsageError(
            "a target's name has 1 to 63 lower-case letters, digits and dashes, beginning with a letter or digit; "
            f"got {name!r}"
        )


@app.command("ls")
def list_all(as_json: AsJson = False) -> None:
    """List the targets; a star marks the one in use."""
    from udt_cluster.cluster.client.targets import current_name, load_targets

    current, found = current_name(), load_targets()
    if as_json:
        show_json([{**asdict(entry), "current": name == current} for name, entry in found.items()])
        return
    rows = [
        (
            "*" if name == current else "",
            name,
            entry.jobs_api or "this machine",
            entry.tracking or "-",
            entry.storage or "-",
        )
        for name, entry in found.items()
    ]
    show_table(["", "NAME", "JOBS API", "MLFLOW", "STORAGE"], rows)
    if current not in found:
        say(f"In use: {current}, from the environment.")


@app.command()
def use(name: Name, as_json: AsJson = False) -> None:
    """Make a target the one that commands take."""
    from udt_cluster.cluster.client.targets import current_name, use_target

    use_target(name)
    if as_json:
        show_json({"current": current_name()})
        return
    show(name)
    if current_name() != name:
        say(f"Kept, but the environment (UDT_TARGET or UDT_JOBS_API) chooses {current_name()}.")
