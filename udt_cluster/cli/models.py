"""Verbs about registered models: models ls, show, rm."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from udt_cluster.cli.options import AsJson, TargetName
from udt_cluster.cli.output import confirmed, number, say, show, show_json, show_pairs, show_table

app = typer.Typer(no_args_is_help=True, help="Look at registered models, remove them.")
_TAGS_FOR_PROGRAMS = {"baseline", "data_version", "udt.checksum"}
_NEWEST = 50
_METRICS = ("dice", "val_dice", "mean_dice")


@app.command("ls")
def list_all(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All of them, not the newest 50 only.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """List versions of models, the newest first."""
    from udt_cluster.cluster.client.catalog import models
    from udt_cluster.cluster.client.targets import current_target

    found = models(current_target(target), limit=None if everything else _NEWEST)
    if as_json:
        show_json(found)
    elif not found:
        say("There is no registered model yet. Make one: udt-cluster submit JOB.yaml --wait")
    else:
        show_table(["MODEL", "VERSION", "ALIASES", "DICE", "DATA", "RUN"], [_row(entry) for entry in found])
        if len(found) == _NEWEST and not everything:
            say(f"These are the newest {_NEWEST}; all: udt-cluster models ls --all")


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    aliases = ", ".join(entry["aliases"])
    return entry["name"], str(entry["version"]), aliases, _dice(entry), str(entry["data_version"]), str(entry["run_id"])


def _dice(entry: Mapping[str, Any]) -> str:
    metrics = entry["metrics"]
    return number(next((metrics[name] for name in _METRICS if name in metrics), None))


def _tags(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where the model comes from; what is shown above already, and what is for programs only, is left out."""
    for name, value in sorted(found.get("tags", {}).items()):
        if not name.startswith("metric.") and name not in _TAGS_FOR_PROGRAMS:
            yield name, str(value)


@app.command("show")
def show_one(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME@alias, NAME, or models:/NAME/3.")],
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: its scores, data and tags."""
    from udt_cluster.cluster.client.catalog import show_model
    from udt_cluster.cluster.client.targets import current_target

    found = show_model(current_target(target), model)
    if as_json:
        show_json(found)
        return
    show_pairs(
        [
            ("model", str(found["name"])),
            ("version", str(found["version"])),
            ("aliases", ", ".join(found["aliases"])),
            ("data", str(found["data_version"] or "")),
            ("run", str(found["run_id"])),
            ("uri", str(found.get("uri", ""))),
            *((f"{name}", number(value, 4)) for name, value in sorted(found["metrics"].items())),
            *_tags(found),
        ]
    )
    reference = (
        f"{found['name']}@{found['aliases'][0]}" if found["aliases"] else f"models:/{found['name']}/{found['version']}"
    )
    say(f'Next, in Python: udt_cluster.load_model("{reference}").predict(array)')


@app.command("rm")
def remove(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME@alias, or NAME/3.")],
    force: Annotated[bool, typer.Option("--force", help="Even one that an alias stands for.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Remove one version from the registry.

    The run that made it, with its scores, stays.
    """
    from udt_cluster.cluster.client.catalog import remove_model
    from udt_cluster.cluster.client.targets import current_target

    confirmed(f"Remove {model} from the registry?", yes=yes)
    removed = remove_model(current_target(target), model, force=force)
    if as_json:
        show_json(removed)
    else:
        show(f"{removed['name']} version {removed['version']} is removed")
