"""The numbers of a sweep as tables, exactly as they were recorded: what the figures draw and the CSV files hold."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from udt_cluster.search.report.sweep import Sweep, score, spread
from udt_cluster.search.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Table:
    """Names of columns, and rows of plain values; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """RFC 4180 with a line of names; numbers have all their digits, lists are JSON."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([[_cell(value) for value in row] for row in self.rows])
        return text.getvalue()

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def trials_table(sweep: Sweep) -> Table:
    """A row for each trial, the best first, with a column for each setting; what a trial has not is empty."""
    columns = (
        *("rank", "trial", "state", "score", "spread", "runs", "epochs", "parameters", "gmac", "seconds"),
        *("gpu_hours", "memory_gb", "began_at", "ended_at", "message", "run_id"),
        *(parameter.field for parameter in sweep.parameters),
    )
    ranks = {trial.number: rank for rank, trial in enumerate(sweep.finished, start=1)}
    return Table(columns=columns, rows=tuple(_trial_row(trial, sweep, ranks) for trial in sweep.ranked))


def runs_table(sweep: Sweep) -> Table:
    """A row for each run of each trial: what paired statistics need."""
    columns = ("trial", "run", "fold", "seed", "value", "epochs", "best_epoch", "parameters", "memory_gb", "run_id")
    rows = tuple(
        (trial.number, *(getattr(run, name) for name in columns[1:])) for trial in sweep.trials for run in trial.runs
    )
    return Table(columns=columns, rows=rows)


def rungs_table(sweep: Sweep) -> Table:
    """A row for each comparison of each trial."""
    columns = ("trial", "state", "rung", "epochs", "value")
    rows = tuple(
        (trial.number, trial.state, rung.index, rung.epochs, rung.value)
        for trial in sweep.trials
        for rung in trial.rungs
    )
    return Table(columns=columns, rows=rows)


def _trial_row(trial: Trial, sweep: Sweep, ranks: dict[int, int]) -> tuple[Any, ...]:
    return (
        *(ranks.get(trial.number), trial.number, trial.state, score(trial), spread(trial), len(trial.runs)),
        *(trial.epochs, trial.parameters or None, trial.gmac or None, trial.seconds, trial.gpu_hours, trial.memory_gb),
        *(trial.began_at or None, trial.ended_at or None, trial.message or None, trial.run_id or None),
        *(parameter.of(trial) for parameter in sweep.parameters),
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of lists."""
    return Table(columns=tuple(columns), rows=tuple(tuple(row) for row in rows))
