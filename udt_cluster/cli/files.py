"""Verbs that touch nothing but job files: init, schema, validate."""

from pathlib import Path
from typing import Annotated

import typer

from udt_cluster.cli import reports, templates
from udt_cluster.cli.options import AsJson, JobFile, Overrides
from udt_cluster.cli.output import counted, say, show, show_json, show_pairs, show_table
from udt_cluster.errors import UsageError

_DEFAULT_TEMPLATE = "image_folder"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(init)
    app.command()(schema)
    app.command()(validate)


def init(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="A folder of images and masks to look at, or the job file to write."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template", "-t", metavar="NAME", help="Begin from this job; --list names them.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="JOB.yaml", help="The file to write for a folder.", show_default=False),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the templates and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a job file to begin from.

    For a folder of images and masks the job is made to fit it: layout, classes and size are looked up there.
    """
    if listed:
        _list_templates(as_json)
    elif path is not None and path.is_dir() and template is None:
        _init_for_folder(path, output, force=force, as_json=as_json)
    else:
        if output is not None and path is not None:
            raise UsageError(f"--output names the file for a folder; {path} is none, so it is the file to write")
        _init_from_template(output or path, template or _DEFAULT_TEMPLATE, force=force, as_json=as_json)


def _init_from_template(path: Path | None, template: str, *, force: bool, as_json: bool) -> None:
    text = templates.text(template)
    chosen = path or Path(f"{template}.yaml")
    chosen = chosen / f"{template}.yaml" if chosen.is_dir() else chosen
    _refuse_existing(chosen, force)
    _write(chosen, text.replace(f"jobs/{template}.yaml", str(chosen)))
    if as_json:
        show_json({"path": str(chosen), "template": template})
        return
    show(str(chosen))
    say(
        "Next: put your folder behind `source:`, then\n"
        f"  udt-cluster validate {chosen}\n"
        f"  udt-cluster submit {chosen} --wait"
    )


def _init_for_folder(folder: Path, output: Path | None, *, force: bool, as_json: bool) -> None:
    from udt_cluster.cli.drafts import draft

    chosen = output or Path(f"{folder.resolve().name}.yaml")
    _refuse_existing(chosen, force)
    found = draft(folder, chosen)
    _write(chosen, found.text)
    if as_json:
        show_json({"path": str(chosen), "adapter": found.adapter, "cases": found.cases, "found": list(found.found)})
        return
    for sentence in found.found:
        say(f"found: {sentence}")
    show(str(chosen))
    say(
        "Next: look at the numbers marked with <- in it, then\n"
        f"  udt-cluster data check {chosen}\n"
        f"  udt-cluster submit {chosen} --wait"
    )


def _refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; give another name, or --force to replace it")


def _list_templates(as_json: bool) -> None:
    found = [(name, templates.what(name)) for name in templates.names()]
    if as_json:
        show_json([{"name": name, "what": what} for name, what in found])
    else:
        show_table(["TEMPLATE", "WHAT"], found)


def _write(path: Path, text: str) -> None:
    """Write the job file, and beside it the schema that its first line shows to editors."""
    from udt_cluster.config.schema import schema_text

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        beside = path.parent / templates.SCHEMA
        if not beside.exists():
            beside.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of a job file, for editors."""
    from udt_cluster.config.schema import schema_text

    show(schema_text().rstrip("\n"))


def validate(file: JobFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check a job file: every problem at once.

    Nothing is run or touched. Each problem has its line, what was found, and what is allowed.
    """
    from udt_cluster.config.job import Job
    from udt_cluster.config.load import check_job, load_job

    found = check_job(file, overrides or ())
    if as_json and not isinstance(found, Job):
        show_json({"valid": False, "problems": [vars(problem) for problem in found]})
        for problem in found:
            say(str(problem))
        raise typer.Exit(UsageError.exit_code)
    job = found if isinstance(found, Job) else load_job(file, overrides or ())
    if as_json:
        show_json({"valid": True, "hash": job.hash, "job": job.model_dump(mode="json", by_alias=True)})
        return
    runs = len(job.repeat.folds) * len(job.repeat.seeds)
    show_pairs(
        [
            ("ok", f"{file} is a valid job file"),
            ("name", job.name),
            ("hash", job.hash),
            ("data", f"{job.data.adapter} from {job.data.source}, {job.data.size[0]}x{job.data.size[1]}"),
            ("model", job.model.summary),
            ("runs", f"{runs} of at most {job.train.epochs} epochs on {counted(job.resources.workers.max, 'worker')}"),
            ("stages", " > ".join(job.stages)),
        ]
    )
    reports.source_seen(job)
    say(f"Next: udt-cluster submit {file} --dry-run")
