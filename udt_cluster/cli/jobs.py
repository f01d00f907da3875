"""Verbs about jobs: submit, evaluate, ls, status, logs, stop, resume, rm."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from udt_cluster.cli import reports
from udt_cluster.cli.following import follow_to_end, left
from udt_cluster.cli.options import AsJson, JobFile, JobId, Overrides, TargetName, Wait, rank_of
from udt_cluster.cli.output import ago, confirmed, number, say, show, show_json, show_pairs, show_table

if TYPE_CHECKING:
    from udt_cluster.cluster.client.jobs import JobStatus
    from udt_cluster.cluster.client.targets import Target
    from udt_cluster.config.job import Job

_SUCCEEDED = "SUCCEEDED"
_LAST = "last"
_NEWEST = 50


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(submit)
    app.command("ls")(list_all)
    app.command()(status)
    app.command()(logs)
    app.command()(stop)
    app.command()(resume)
    app.command("rm")(remove)
    app.command()(evaluate)


def submit(
    file: JobFile,
    overrides: Overrides = None,
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages", metavar="A,B", help="Only these stages, for example prepare,train.", show_default=False
        ),
    ] = None,
    wait: Wait = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; touch nothing.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Check a job, start it, and print its id.

    The job file is checked first, then the target: its versions, storage, MLflow, and whether its nodes can read
    the data. Nothing is started while there is a problem.
    """
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.config.load import load_job

    chosen = [*(overrides or ()), *([f"stages=[{stages}]"] if stages else [])]
    job = load_job(file, chosen)
    place = current_target(target)
    if dry_run:
        _show_plan(job, place, as_json)
        return
    from udt_cluster.cluster.client import jobs

    status = jobs.submit(job, target=place, job_text=file.read_text(encoding="utf-8-sig"), on_event=say)
    if not as_json:
        reports.submitted(status, target)
    if wait:
        scale_up = reports.scale_up(job, str(file), chosen, target)
        _wait_for(status, place, target=target, as_json=as_json, scale_up=scale_up)
    elif as_json:
        show_json(asdict(status))


def _show_plan(job: "Job", place: "Target", as_json: bool) -> None:
    from udt_cluster.cluster.client.jobs import plan

    steps = plan(job, place)
    if as_json:
        show_json({"hash": job.hash, "plan": [{"what": what, "how": how} for what, how in steps]})
        return
    show_pairs(steps)
    reports.source_seen(job)
    say("Nothing was started, read or written.")


def _wait_for(status: "JobStatus", place: "Target", *, target: str | None, as_json: bool, scale_up: str = "") -> None:
    """Follow to the end and exit with the job's result."""
    final = follow_to_end(status, place, target)
    if final.state != _SUCCEEDED:
        if not as_json:
            reports.scores(final.results)
        raise reports.failure(final, target)
    if as_json:
        show_json(asdict(final))
    else:
        reports.finished(final, scale_up=scale_up, target=target)


def list_all(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All of them, not the newest 50 only.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a target, the newest first."""
    from udt_cluster.cluster.client.jobs import list_jobs
    from udt_cluster.cluster.client.targets import current_target

    found = list_jobs(current_target(target), limit=None if everything else _NEWEST)
    if as_json:
        show_json([asdict(status) for status in found])
        return
    if not found:
        say("There is no job yet. Submit one: udt-cluster submit JOB.yaml")
        return
    rows = [_row(status) for status in found]
    show_table(["ID", "NAME", "STATE", "PROGRESS", "DICE", "SUBMITTED"], rows)
    for note in dict.fromkeys(status.note for status in found if status.note):
        say(f"note: {note}")
    if len(found) == _NEWEST and not everything:
        say(f"These are the newest {_NEWEST}; all: udt-cluster ls --all")


def _row(status: "JobStatus") -> tuple[str, ...]:
    scored = status.results.get("evaluate", {}).get("mean", {}).get("dice")
    dice = scored if scored is not None else status.progress.get("val_dice")
    doing = "" if status.state == _SUCCEEDED else reports.progress_line(status)
    doing = doing if len(doing) <= 60 else f"{doing[:57]}..."
    return reports.short(status.id), status.name, status.state, doing, number(dice), ago(status.submitted_at)


def status(
    job: JobId = _LAST,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show live progress until the job has ended.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show a job: state, progress, attempts, scores, model.

    Of each attempt: what it cost, and why it ended. A job whose driver gives no sign of life, and that no cluster
    knows, is LOST.
    """
    from udt_cluster.cluster.client.jobs import find_job
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = find_job(place, job)
    if follow and not found.finished_at:
        _wait_for(found, place, target=target, as_json=as_json)
    elif as_json:
        show_json(asdict(found))
    else:
        reports.detailed(found, target)


def logs(
    job: JobId = _LAST,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[
        str | None,
        typer.Option("--rank", metavar="N|all", help="Of which workers. Default: rank 0.", show_default=False),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Print what a job and its workers have written.

    It is read from the target's storage, where it is within seconds: it outlives workers, cluster and network.
    """
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = jobs.find_job(place, job)
    pieces = jobs.logs(place, found.id, follow=follow, rank=rank_of(rank))
    if as_json:
        show_json({"id": found.id, "text": "".join(pieces)})
        return
    try:
        for piece in pieces:
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        raise left(found.id, target) from None


def stop(job: JobId, target: TargetName = None, as_json: AsJson = False) -> None:
    """Stop a job. Its checkpoints and what it has logged stay."""
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    stopped = jobs.stop(place, jobs.find_job(place, job).id)
    if as_json:
        show_json(asdict(stopped))
    else:
        show(f"{stopped.id} is {stopped.state}")


def resume(
    job: JobId,
    overrides: Overrides = None,
    wait: Wait = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Let a job that has ended go on from its last checkpoint.

    It may have failed, been stopped, or be lost with its cluster. It keeps its id and its runs in MLflow, and may go on
    on another cluster with the same storage. Only resources, retry, train.epochs, train.early_stopping,
    train.checkpoint_every and train.keep may change. A job whose data is not what it was is refused, with the
    difference.
    """
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = jobs.find_job(place, job)
    again = jobs.resume(place, found.id, overrides=overrides or (), on_event=say)
    if not as_json:
        reports.submitted(again, target)
    if wait:
        _wait_for(again, place, target=target, as_json=as_json)
    elif as_json:
        show_json(asdict(again))


def remove(
    job: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Delete a job's record and checkpoints.

    Its scores go with them. Its MLflow runs and registered models stay.
    """
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = jobs.find_job(place, job)
    confirmed(f"Delete {found.id} with its checkpoints and scores?", yes=yes)
    jobs.remove(place, found.id)
    if as_json:
        show_json({"removed": found.id})
    else:
        show(f"{found.id} is deleted; its MLflow runs and registered models stay")


def evaluate(
    job: JobId,
    test: Annotated[bool, typer.Option("--test", help="Score the data set's own test cases, too.")] = False,
    wait: Wait = False,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Score the models of a finished job again.

    This is a job of its own, with an id of its own. The test cases of the data set are scored only with --test.
    """
    from udt_cluster.cluster.client import jobs
    from udt_cluster.cluster.client.targets import current_target

    place = current_target(target)
    found = jobs.find_job(place, job)
    scoring = jobs.evaluate(place, found.id, test=test, on_event=say)
    if not as_json:
        reports.submitted(scoring, target)
    if wait:
        _wait_for(scoring, place, target=target, as_json=as_json)
    elif as_json:
        show_json(asdict(scoring))
