"""Verbs about prepared data sets: data prepare, ls, show, rm, gc."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from udt_cluster.cli.options import AsJson, JobFile, Overrides, TargetName
from udt_cluster.cli.output import (
    coloured,
    confirmed,
    duration,
    number,
    say,
    show,
    show_json,
    show_pairs,
    show_table,
    size,
)
from udt_cluster.errors import UsageError


class Recipe(StrEnum):
    """As in `train.augment`."""

    RELEASED = "released"
    STRONG = "strong"
    NONE = "none"


app = typer.Typer(no_args_is_help=True, help="Prepare data sets, and look at them.")


@app.command()
def prepare(
    file: JobFile,
    overrides: Overrides = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URI", help="Storage to write to. Default: the target's.", show_default=False),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Prepare the data set of a job, nothing else.

    What is there already is not made again.
    """
    from udt_cluster.cluster.client.datasets import prepare_data
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.config.load import load_job

    job = load_job(file, overrides or ())
    found = prepare_data(job, target=current_target(target), to=to, on_event=say)
    if as_json:
        show_json(found)
        return
    _show_facts(found)
    took = duration(found.get("seconds", 0))
    show(f"already there; nothing was done ({took})" if found.get("already_there") else f"done in {took}")
    say(f"Next: udt-cluster data show {_name(found)} --preview preview.png")


@app.command("ls")
def list_all(target: TargetName = None, as_json: AsJson = False) -> None:
    """List the prepared data sets of a target."""
    from udt_cluster.cluster.client.datasets import data_sets
    from udt_cluster.cluster.client.targets import current_target

    found = data_sets(current_target(target))
    if as_json:
        show_json(found)
    elif not found:
        say("There is no prepared data set yet. Prepare one: udt-cluster data prepare JOB.yaml")
    else:
        show_table(["DATA SET", "CASES", "SAMPLES", "SIZE", "STORED", "URI"], [_row(entry) for entry in found])


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    height, width = entry["size"]
    counts = str(entry["cases"]), str(entry["samples"]), f"{height}x{width}"
    return f"{entry['dataset']}/{entry['version']}", *counts, size(entry.get("bytes", 0)), str(entry["uri"])


@app.command("show")
def show_one(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A URI, or DATASET/VERSION as `data ls` shows it.")],
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview",
            metavar="OUT.png",
            help="Draw eight augmented training tiles with their labels.",
            show_default=False,
        ),
    ] = None,
    augment: Annotated[Recipe, typer.Option("--augment", help="The recipe that the tiles show.")] = Recipe.RELEASED,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show a data set: cases, classes, values."""
    from udt_cluster.cluster.client.datasets import show_data
    from udt_cluster.cluster.client.targets import current_target

    if preview is not None and not preview.absolute().parent.is_dir():
        raise UsageError(f"--preview {preview}: there is no folder {preview.absolute().parent}")
    found = show_data(current_target(target), uri, preview=preview, augment=augment.value)
    if as_json:
        show_json(found)
        return
    _show_facts(found)
    _show_fingerprint(found.get("info", {}))
    show_pairs([("preview", str(found.get("preview", "")))])


@app.command("rm")
def remove(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A URI, or DATASET/VERSION as `data ls` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Delete a prepared data set.

    One that an unfinished job or a registered model uses is kept.
    """
    from udt_cluster.cluster.client.datasets import remove_data
    from udt_cluster.cluster.client.targets import current_target

    confirmed(f"Delete {uri}?", yes=yes)
    found = remove_data(current_target(target), uri)
    if as_json:
        show_json({"removed": found["uri"]})
    else:
        show(f"{_name(found)} is deleted; preparing it again makes the same version")


@app.command("gc")
def collect(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="7d", help="Keep what is younger, though nothing uses it.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Delete prepared data that nothing uses any more.

    That is old versions, and what broken-off preparations left. What an unfinished job or a
    registered model uses stays, and so does what is being prepared now.
    """
    from udt_cluster.cluster.client.datasets import collect_data
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.config.units import parse_duration

    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise UsageError(f"--older-than {older_than}: {error}") from error
    found = collect_data(current_target(target), older_than=age, dry_run=dry_run)
    if as_json:
        show_json(found)
        return
    if found:
        show_table(["WHAT", "SIZE", "WHY"], [(f["uri"], size(f["bytes"]), f["why"]) for f in found])
    total = size(sum(entry["bytes"] for entry in found))
    say(f"{'would delete' if dry_run else 'deleted'}: {len(found)}, {total}")


def _name(found: Mapping[str, Any]) -> str:
    return f"{found['dataset']}/{found['version']}"


def _show_facts(found: Mapping[str, Any]) -> None:
    height, width = found["size"]
    show_pairs(
        [
            ("data set", _name(found)),
            ("uri", str(found["uri"])),
            ("cases", str(found["cases"])),
            ("samples", f"{found['samples']} of {height}x{width}"),
            ("classes", ", ".join(found.get("classes", ()))),
            ("stored", size(found["bytes"]) if "bytes" in found else ""),
        ]
    )
    for warning in found.get("warnings", ()):
        say(f"{coloured('warning:', 'yellow', err=True)} {_printable(str(warning))}")


def _printable(text: str) -> str:
    """Warnings tell ids of cases, which are names of files: no control sign of one reaches the terminal."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _show_fingerprint(info: Mapping[str, Any]) -> None:
    """A row for each channel, from the attributes of the store."""
    fingerprint = info.get("fingerprint", {})
    names = ("mean", "std", "minimum", "percentile_00_5", "percentile_99_5", "maximum")
    channels = range(len(fingerprint.get("mean", ())))
    rows = [(str(channel), *(number(fingerprint[name][channel]) for name in names)) for channel in channels]
    if rows:
        show_table(["CHANNEL", "MEAN", "STD", "MIN", "0.5 %", "99.5 %", "MAX"], rows)
