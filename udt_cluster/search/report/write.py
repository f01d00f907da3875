"""The report of a sweep as a folder: page, figures and their numbers."""

from pathlib import Path

from udt_cluster.search.report.canvas import house_style, png
from udt_cluster.search.report.drawings import drawings
from udt_cluster.search.report.page import render
from udt_cluster.search.report.sweep import Sweep
from udt_cluster.search.report.tables import runs_table, trials_table


def write_report(sweep: Sweep, folder: Path) -> Path:
    """Write the report of a sweep, also of one that goes on.

    ::

        <folder>/index.html         the page, written last
        <folder>/trials.csv         a row for each trial
        <folder>/runs.csv           a row for each fold and seed of each trial
        <folder>/figures/<name>.png
        <folder>/data/<name>.csv    what the figure of that name draws

    Returns:
        The page.
    """
    for part in ("figures", "data"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _write(folder / "trials.csv", trials_table(sweep).csv())
    _write(folder / "runs.csv", runs_table(sweep).csv())
    with house_style():
        drawn = drawings(sweep)
        page = render(sweep, drawn)
        for chart in drawn:
            _write(folder / "data" / f"{chart.name}.csv", chart.table.csv())
            (folder / "figures" / f"{chart.name}.png").write_bytes(png(chart))
    _write(folder / "index.html", page)
    return folder / "index.html"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
