"""Verbs about studies: study show."""

from pathlib import Path
from typing import Annotated

import typer

from udt_cluster.cli.options import AsJson, JobId, TargetName
from udt_cluster.cli.output import number, say, show, show_json, show_table

app = typer.Typer(no_args_is_help=True, help="Look at studies.")


@app.callback()
def _group() -> None:
    """Look at studies."""


@app.command("show")
def show_one(
    job: JobId = "last",
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Write figures, tables and a page there.", show_default=False),
    ] = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study has found, finished or not."""
    import json

    from udt_cluster.cluster.client.studies import find_study
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.studies import write_report

    job_id, findings, table = find_study(current_target(target), job)
    if as_json:
        show_json(json.loads(findings.to_json()))
    else:
        show(findings.design.question)
        for sentence in findings.conclusion:
            show(f"- {sentence}")
        rows = [
            (arm.dataset, arm.arm, number(arm.mean), f"{number(arm.low)} to {number(arm.high)}", str(arm.groups))
            for arm in findings.arms
            if arm.metric == findings.design.metrics[0] and not arm.class_name
        ]
        show_table(["DATA", "ARM", findings.design.metric.label.upper(), "95 %", "GROUPS"], rows)
    if report is not None:
        say(f"the report: {write_report(findings, report, table=table)}")
    elif not as_json:
        say(f"figures, tables and a page: udt-cluster study show {job_id} --report FOLDER")
