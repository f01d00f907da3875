"""Verbs about sources, before anything is made of them: data check, data unpack."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udt_cluster.cli.options import AsJson, Overrides, TargetName
from udt_cluster.cli.output import coloured, counted, say, show, show_json, size
from udt_cluster.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from data_prep.check import CheckReport
    from udt_cluster.config.data import DataConfig

_JOB_SUFFIXES = (".yaml", ".yml", ".json")
_COLOURS = {"refused": "red", "warning": "yellow", "note": "cyan"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("check")(check)
    app.command("unpack")(unpack)


def check(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE|JOB.yaml", help="A job file, or a folder of images and masks.")
    ],
    overrides: Overrides = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT.html", help="Write a page with pictures, too.", show_default=False),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a source.

    Every case is read, by the code that prepares it. Nothing is prepared or uploaded.
    Exit code 3 when training must not start.
    """
    from udt_cluster.cluster.client.datasets import check_data
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.cluster.driver.prep import ProgressLine

    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {html}: there is no folder {html.absolute().parent}")
    config = _config(source, overrides)
    report = check_data(config, target=current_target(target), pictures=html is not None, on_progress=ProgressLine(say))
    if html is not None:
        html.write_text(report.to_html(), encoding="utf-8")
    if as_json:
        show_json({**report.to_dict(), **({"html": str(html)} if html else {})})
    else:
        _show(report, html)
    if report.blocks:
        raise typer.Exit(RefusedError.exit_code)


def _config(source: str, overrides: list[str] | None) -> "DataConfig":
    """The `data` section of a job file, or the one that fits a folder."""
    from udt_cluster.config.load import load_job

    if source.endswith(_JOB_SUFFIXES):
        return load_job(source, overrides or ()).data
    if overrides:
        raise UsageError(f"--set changes a job; {source} is a folder. Write its job first: udt-cluster init {source}")
    from udt_cluster.cli.drafts import look_at

    found = look_at(source)
    for sentence in found.guess.found:
        say(f"found: {sentence}")
    return found.config


def _show(report: "CheckReport", html: Path | None) -> None:
    for line in report.to_lines():
        word, rest = line[:8], line[8:]
        colour = _COLOURS.get(word.strip())
        show(f"{coloured(word, colour)}{rest}" if colour else line)
    if html is not None:
        say(f"The page with pictures: {html}")
    elif report.findings:
        say("With pictures: --html check.html")


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="zip or tar, also compressed.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for what is in it.")],
    as_json: AsJson = False,
) -> None:
    """Unpack an archive wholly, or not at all.

    Names that lead out of the folder, links, devices, and archives that grow beyond measure are refused.
    """
    from data_prep.archive import unpack as unpack_archive

    found = unpack_archive(archive, folder)
    if as_json:
        show_json({"folder": str(found.folder), "files": found.files, "bytes": found.size})
        return
    show(f"{found.folder}: {counted(found.files, 'file')}, {size(found.size)}")
    say(f"Next: udt-cluster init {folder}")
