"""The verb that proves on a user's own job that nothing is lost: verify-resume."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from udt_cluster.cli import reports
from udt_cluster.cli.following import follow_to_end
from udt_cluster.cli.options import AsJson, JobFile, Overrides, TargetName
from udt_cluster.cli.output import coloured, say, show, show_json, show_table
from udt_cluster.errors import UsageError

if TYPE_CHECKING:
    from udt_cluster.config.job import Job

_MOST_WORKERS = 64


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("verify-resume")(verify_resume)


def verify_resume(
    file: JobFile,
    overrides: Overrides = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=_MOST_WORKERS,
            metavar="N",
            help="Workers that are killed. Default: the job's resources.workers.",
            show_default=False,
        ),
    ] = None,
    resume_with: Annotated[
        list[int] | None,
        typer.Option(
            "--resume-with",
            min=1,
            max=_MOST_WORKERS,
            metavar="M",
            help="Workers that go on; may be given several times. Default: N, and one number more or less.",
            show_default=False,
        ),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Prove on a job that a killed training loses nothing.

    Trains the job's network with its recipe for two epochs on a few of its cases; then again, kills a worker, goes on,
    and compares: weights bit for bit, global batches sample by sample. Exit code 1 when they differ.
    """
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.config.load import load_job

    job = load_job(file, overrides or ())
    place = current_target(target)
    counts = worker_counts(job, workers=workers, resume_with=resume_with)
    text = file.read_text(encoding="utf-8-sig")
    status = jobs.verify_resume(job, counts, target=place, job_text=text, on_event=say)
    if not as_json:
        reports.submitted(status, target)
    final = follow_to_end(status, place, target)
    found: Mapping[str, Any] | None = final.results.get("verify")
    if found is None:
        raise reports.failure(final, target)
    if as_json:
        show_json(asdict(final))
    else:
        show_verdict(found)
    if not found["passed"]:
        raise reports.failure(final, target)


def worker_counts(job: "Job", *, workers: int | None, resume_with: list[int] | None) -> tuple[int, ...]:
    """The number of workers that are killed, and the numbers that go on.

    Raises:
        UsageError: a number that cannot share the job's global batch.
    """
    from udt_cluster.config.combinations import sharing

    first = workers or job.worker_counts[-1]
    possible = sharing(job.train, range(1, _MOST_WORKERS + 1))
    others = [number for number in possible if number < first][-1:] or [number for number in possible if number > first]
    counts = (first, *(resume_with or (first, *others[:1])))
    for number in counts:
        if number not in possible:
            raise UsageError(
                f"{number} workers cannot share train.global_batch_size={job.train.global_batch_size} with 2 samples "
                f"or more for each; possible: {', '.join(map(str, possible))}"
            )
    return counts


def show_verdict(found: Mapping[str, Any]) -> None:
    """The checks as a table, and the verdict."""
    rows = [(check["check"], _word(check["passed"]), check["detail"]) for check in found["checks"]]
    show_table(["CHECK", "", "FOUND"], rows)
    show("")
    show(f"verdict  {_word(found['passed'])}")


def _word(passed: bool) -> str:
    return coloured("passed", "green") if passed else coloured("FAILED", "red")
