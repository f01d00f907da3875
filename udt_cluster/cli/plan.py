"""The verb plan: what a job would train, and what it would take."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from udt_cluster.cli.options import AsJson, JobFile, Overrides, TargetName
from udt_cluster.cli.output import duration, say, show_json, show_pairs, show_table

if TYPE_CHECKING:
    from udt_cluster.cluster.client.forecasts import Pace
    from udt_cluster.config.job import Job
    from udt_cluster.search.forecast import Forecast

_SECONDS_AN_HOUR = 3600.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(plan)


def plan(
    file: JobFile,
    overrides: Overrides = None,
    workers: Annotated[
        int | None,
        typer.Option("--at-a-time", metavar="N", min=1, help="Trials or arms at a time.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many configurations are listed.")] = 20,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job would train, and what it would take.

    The trials of a sweep, the arms of a study, or folds and seeds, with the size of each network. Hours follow from the
    newest job on the same data in the target's storage. Nothing is started.
    """
    from udt_cluster.cluster.client.forecasts import forecast_of, pace_of
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.config.load import load_job

    job = load_job(file, overrides or ())
    found, pace = forecast_of(job), pace_of(job, current_target(target))
    at_a_time = workers or (job.tune.concurrency if job.tune else None) or 1
    if as_json:
        show_json(_plain(found, pace, at_a_time))
        return
    show_table(["CONFIGURATION", "PARAMETERS", "GMAC", "RUNS", "SETTINGS"], [_row(one) for one in found.planned[:top]])
    if len(found.planned) > top:
        say(f"and {len(found.planned) - top} more; all of them: --top {len(found.planned)}")
    show_pairs(_summary(job, found, pace, at_a_time))
    if pace is None:
        say(f"How long that takes is not known: no job has trained on this data here. One epoch tells: "
            f"udt-cluster submit {file} --set train.epochs=1")  # fmt: skip


def _row(planned: Any) -> tuple[str, ...]:
    settings = ", ".join(f"{name}={_short(value)}" for name, value in planned.settings.items()) or "the job as it is"
    return planned.name, f"{planned.parameters / 1e6:.2f} M", f"{planned.gmac:.2f}", str(planned.runs), settings


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _summary(job: "Job", found: "Forecast", pace: "Pace | None", at_a_time: int) -> list[tuple[str, str]]:
    what = "trials" if job.tune else "arms" if job.study else "runs"
    count = sum(one.runs for one in found.planned) if what == "runs" else found.count
    shown = (
        str(count) if count is not None else f"until the budget is used up; the first {len(found.planned)} are counted"
    )
    rows = [(what, shown + (", later ones follow from the scores of earlier ones" if found.follows_scores else ""))]
    rows.append(("epochs", f"{found.most_epochs:.0f} at most" + _about(f"{found.expected_epochs:.0f}", found)))
    if pace is not None:
        most, expected = found.most_work * pace.seconds, found.expected_work * pace.seconds
        hours = f"{most / _SECONDS_AN_HOUR:.2f} at most" + _about(f"{expected / _SECONDS_AN_HOUR:.2f}", found)
        rows.append(("worker-hours", f"{hours}; GPU-hours where each worker has a GPU"))
        rows.append(("takes", f"{duration(expected / at_a_time)} with {at_a_time} at a time"))
        rows.append(("measured by", f"{pace.job}: {pace.seconds:.2f} s an epoch for each GMAC of an image"))
    return rows


def _about(text: str, found: "Forecast") -> str:
    return f", about {text} with early stopping" if found.expected_epochs < found.most_epochs else ""


def _plain(found: "Forecast", pace: "Pace | None", at_a_time: int) -> dict[str, Any]:
    seconds = None if pace is None else pace.seconds
    return {
        "planned": [{**vars(one), "settings": dict(one.settings)} for one in found.planned],
        "count": found.count,
        "follows_scores": found.follows_scores,
        "epochs": {"most": found.most_epochs, "expected": round(found.expected_epochs, 1)},
        "worker_hours": None
        if seconds is None
        else {
            "most": round(found.most_work * seconds / _SECONDS_AN_HOUR, 4),
            "expected": round(found.expected_work * seconds / _SECONDS_AN_HOUR, 4),
        },
        "seconds": None if seconds is None else round(found.expected_work * seconds / at_a_time, 1),
        "measured_by": None if pace is None else pace.job,
    }
