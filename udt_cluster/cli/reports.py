"""A job's status and results in words; every function is given what it prints and asks nobody."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from udt_cluster.cli.output import ago, between, coloured, counted, duration, number, say, show, show_pairs, show_table

if TYPE_CHECKING:
    from udt_cluster.cluster.client.jobs import JobStatus
    from udt_cluster.config.job import Job
    from udt_cluster.errors import UdtError

_COLOUR = {"SUCCEEDED": "green", "FAILED": "red", "LOST": "red", "STOPPED": "magenta", "PENDING": "yellow"}

_GOING_ON = frozenset({"PENDING", "RUNNING"})
_RESUMABLE = frozenset({"FAILED", "STOPPED", "LOST"})
_STAGES = ("preflight", "prepare", "tune", "study", "train", "evaluate", "register")


def short(job_id: str) -> str:
    """The end of an id, by which a job can be named: `1a2b3c4d` of `acdc-udtransnet-1a2b3c4d`."""
    return job_id.rpartition("-")[2]


def where(target: str | None) -> str:
    """The option that makes a next command talk to the same target."""
    return f" --target {quote(target)}" if target else ""


def progress_line(status: "JobStatus") -> str:
    """`train  fold 0 seed 1  epoch 3/10  Dice 0.812  2 min 10 s left`."""
    progress = status.progress
    parts = [status.stage or status.state.lower()]
    if status.stage == "train" and progress.get("epoch") is not None:
        parts += [f"{name} {progress[name]}" for name in ("fold", "seed") if progress.get(name) is not None]
        parts.append(f"epoch {progress['epoch']}/{progress.get('epochs', '?')}")
        if progress.get("val_dice") is not None:
            parts.append(f"Dice {number(progress['val_dice'])}")
        if isinstance(left := progress.get("eta_seconds"), int | float) and left > 0:
            parts.append(f"{duration(left)} left")
    elif message := status.message or progress.get("message"):
        parts.append(str(message).splitlines()[0])
    return "  ".join(parts)


def submitted(status: "JobStatus", target: str | None) -> None:
    """What a person needs after a submission: the id, two pages, and the next commands to type."""
    show_pairs([("job", status.id), ("dashboard", status.dashboard_url), ("mlflow", status.mlflow_url)])
    name, on = short(status.id), where(target)
    say("Next:")
    say(f"  udt-cluster status {name} --follow{on}    live progress")
    say(f"  udt-cluster logs -f {name}{on}            its output")
    say(f"  udt-cluster stop {name}{on}               end it")


def source_seen(job: "Job") -> None:
    """A warning where this machine does not see the job's source; a target's nodes may."""
    from udt_cluster.cluster.driver.preflight import local_source_problem

    if problem := local_source_problem(job.data.source):
        sentence = problem if problem.endswith("?") else f"{problem}."
        say(f"{coloured('warning:', 'yellow', err=True)} {sentence} The target's nodes must see it.")


def detailed(status: "JobStatus", target: str | None = None) -> None:
    """One job, with all that it has found so far."""
    show_pairs(
        [
            ("job", status.id),
            ("state", coloured(status.state, _COLOUR.get(status.state, "cyan"))),
            ("note", status.note),
            ("progress", "" if status.finished_at else progress_line(status)),
            ("message", status.message if status.finished_at or status.state not in _GOING_ON else ""),
            ("resumed", counted(status.life, "time") if status.life else ""),
            ("submitted", ago(status.submitted_at)),
            ("target", status.target),
            ("dashboard", status.dashboard_url),
            ("mlflow", status.mlflow_url),
            *_times(status),
            *_found(status.results),
        ]
    )
    attempts(status.attempts, status.id)
    scores(status.results)
    for line in _next(status, target):
        say(line)


def _next(status: "JobStatus", target: str | None) -> Iterator[str]:
    """What a person would type now."""
    name, on = short(status.id), where(target)
    if status.state in _RESUMABLE:
        yield "\nNext:"
        yield f"  udt-cluster logs {name}{on}      what it wrote"
        yield f"  udt-cluster resume {name}{on}    go on from its last checkpoint"


def attempts(found: Sequence[Mapping[str, Any]], job_id: str) -> None:
    """The table of attempts, where there was more than one or one failed, and why each of them ended."""
    if len({entry["run"] for entry in found}) == len(found) and not any(_failed(entry) for entry in found):
        return
    show("")
    columns = ["RUN", "ATTEMPT", "WORKERS", "STEPS", "ENDED", "LOST STEPS", "RECOVERY"]
    runs = [str(entry["run"]).removeprefix(f"{job_id}-") for entry in found]
    show_table(columns, [(run, *_attempt_row(entry)) for run, entry in zip(runs, found, strict=True)])
    for run, entry in zip(runs, found, strict=True):
        if _failed(entry) and entry["cause"]:
            show(f"{run} attempt {entry['number']}: {str(entry['cause']).strip().splitlines()[0]}")


def _failed(entry: Mapping[str, Any]) -> bool:
    return entry["kind"] not in ("", "finished")


def _attempt_row(entry: Mapping[str, Any]) -> Sequence[str]:
    recovery = entry["recovery_seconds"]
    return (
        str(entry["number"]),
        str(entry["workers"]),
        f"{entry['resumed_step']}-{entry['step']}",
        str(entry["kind"]).replace("_", " ") or "goes on",
        str(entry["lost_steps"]) if _failed(entry) else "",
        "" if recovery is None else duration(recovery),
    )


def _times(status: "JobStatus") -> Iterator[tuple[str, str]]:
    yield "took", between(status.submitted_at, status.finished_at)
    known = sorted(status.seconds, key=lambda stage: _STAGES.index(stage) if stage in _STAGES else len(_STAGES))
    yield "stages", ", ".join(f"{stage} {duration(status.seconds[stage])}" for stage in known)


def _found(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if data := results.get("prepare"):
        counts = f"{data.get('cases', '?')} cases, {data.get('samples', '?')} samples"
        yield "data", f"{data.get('dataset', '?')}/{data.get('version', '?')} ({counts})"
        yield "warning", "\n".join(data.get("warnings", ()))
    if found := results.get("tune"):
        best = found["best"]
        settings = ", ".join(f"{name}={_brief(value)}" for name, value in best["settings"].items())
        yield "sweep", f"{counted(found['trials'], 'trial')}: {found['ended_because']}"
        yield "best", f"trial {best['number']}, {number(best['score'])} with {settings}"
    if found := results.get("study"):
        yield "study", "\n".join(found["conclusion"])
    if model := results.get("register"):
        yield "model", f"{model.get('name')} version {model.get('version')}, {model.get('name')}@{model.get('alias')}"


def _brief(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def scores(results: Mapping[str, Any]) -> None:
    """The table of scores: a row for each run and set of cases, the baseline to beat beside the Dice."""
    by_run: Mapping[str, Mapping[str, Any]] = results.get("evaluate", {}).get("runs", {})
    entries = [(run, kind, summary) for run, kinds in by_run.items() for kind, summary in kinds.items()]
    if not entries:
        return
    units = {str(summary.get("unit") or "") for _, _, summary in entries} - {""}
    unit = f" ({units.pop()})" if len(units) == 1 else ""
    rows = [_score_row(run, kind, summary) for run, kind, summary in entries]
    show("")
    show_table(["RUN", "CASES", "OF", "DICE", "BASELINE", "IOU", f"HD95{unit}"], rows)
    for warning in dict.fromkeys(text for _, _, summary in entries for text in summary.get("warnings", ())):
        say(f"{coloured('warning:', 'yellow', err=True)} {warning}")


def _score_row(run: str, kind: str, summary: Mapping[str, Any]) -> Sequence[str]:
    mean, baseline = summary.get("mean", {}), summary.get("baseline", {})
    return (
        "-".join(run.split("-")[-2:]),
        str(summary.get("cases", "-")),
        kind,
        number(mean.get("dice")),
        number(baseline.get("dice")),
        number(mean.get("iou")),
        number(mean.get("hd95"), 2),
    )


def finished(status: "JobStatus", *, scale_up: str, target: str | None) -> None:
    """The end of a job that went well: scores, the model, where to look, and how to scale it up."""
    state = coloured(status.state, _COLOUR.get(status.state, "cyan"))
    show_pairs([("state", state), *_times(status), *_found(status.results)])
    scores(status.results)
    name, on = short(status.id), where(target)
    say("\nNext:")
    if "tune" in status.results:
        say(f"  udt-cluster tune show {name}{on} --report FOLDER    all trials, and a page about them")
    if "study" in status.results:
        say(f"  udt-cluster study show {name}{on} --report FOLDER    the page, its figures and tables")
    if "train" in status.results:
        say(f"  {status.mlflow_url}    curves; below it, in each child run: pictures, every case's scores")
    elif data := _only_prepared(status.results):
        say(f"  udt-cluster data show {data.get('dataset')}/{data.get('version')} --preview tiles.png{on}")
    if model := status.results.get("register"):
        reference = f"{model.get('name')}@{model.get('alias')}"
        say(f"  udt-cluster models show {reference}{on}")
        say(f'  in Python: udt_cluster.load_model("{reference}").predict(array)')
    if "evaluate" in status.results and status.results.get("prepare", {}).get("test_cases"):
        say(f"  udt-cluster evaluate {name} --test{on}    the test cases, once, at the end of a study")
    if scale_up and "train" in status.results:
        say(f"  {scale_up}    more runs, for numbers to trust")


def _only_prepared(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return results.get("prepare", {}) if set(results) <= {"prepare"} else {}


def scale_up(job: "Job", file: str, overrides: Sequence[str], target: str | None) -> str:
    """The command that does the same with all folds, or, when they are there already, with three seeds."""
    folds = list(range(job.data.splits.k))
    more = f"repeat.folds={_listed(folds)}" if list(job.repeat.folds) != folds else "repeat.seeds=[1,2,3]"
    if more.startswith("repeat.seeds") and len(job.repeat.seeds) > 1:
        return ""
    kept = [text for text in overrides if text.partition("=")[0].strip() != more.partition("=")[0]]
    options = " ".join(f"--set {quote(text)}" for text in (*kept, more))
    return f"udt-cluster submit {quote(file)} {options}{where(target)}"


def _listed(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def failure(status: "JobStatus", target: str | None) -> "UdtError":
    """The error that a job which did not succeed ends a waiting command with: the driver's own, if it left one."""
    from udt_cluster.errors import JobFailedError, RefusedError, UnreachableError, UsageError

    found = status.results.get("error", {})
    kinds = {2: UsageError, 3: RefusedError, 4: UnreachableError}
    kind = kinds.get(found.get("exit_code", 1), JobFailedError) if status.state == "FAILED" else JobFailedError
    reason = status.message.splitlines()[0] if status.message else "no reason was given"
    stage = f" in stage {status.stage}" if status.stage else ""
    name, on = short(status.id), where(target)
    look = f"Its output: udt-cluster logs {name}{on}"
    again = f"; to go on from its last checkpoint: udt-cluster resume {name}{on}" if status.state in _RESUMABLE else ""
    text = f"job {status.id} is {status.state}{stage}: {reason.rstrip('.')}. {look}{again}"
    return kind(text, found.get("problems", ()))
