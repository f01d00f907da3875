"""A study's report as files: the page, figures with their data, tables in four forms, findings as JSON."""

from pathlib import Path

from udt_cluster.studies.findings import Findings
from udt_cluster.studies.gallery import file_name, study_figures
from udt_cluster.studies.page import render, study_sheets
from udt_cluster.studies.table import ScoreTable

PAGE_NAME = "study.html"
FINDINGS_NAME = "findings.json"
SCORES_NAME = "scores.csv"
FIGURES_NAME = "figures"
TABLES_NAME = "tables"


def write_report(findings: Findings, folder: Path, *, table: ScoreTable | None = None) -> Path:
    """Write everything into a folder; files of an earlier report of the same study are replaced.

    Args:
        findings: What the study came to.
        folder: Made if need be: `study.html`, `findings.json`, `scores.csv`, `figures/*.png|csv`,
            `tables/*.csv|md|tex`.
        table: The scores, to be kept beside the report.

    Returns:
        The page.
    """
    figures, tables = folder / FIGURES_NAME, folder / TABLES_NAME
    for place in (folder, figures, tables):
        place.mkdir(parents=True, exist_ok=True)
    _write(folder / FINDINGS_NAME, findings.to_json() + "\n")
    if table is not None:
        _write(folder / SCORES_NAME, table.to_csv())
    for figure in study_figures(findings):
        (figures / f"{figure.name}.png").write_bytes(figure.drawing.to_png())
        _write(figures / f"{figure.name}.csv", figure.data)
    for dataset, sheet in study_sheets(findings):
        name = f"{file_name(dataset)}-{sheet.name}" if dataset else sheet.name
        _write(tables / f"{name}.csv", sheet.to_csv())
        _write(tables / f"{name}.md", sheet.to_markdown())
        _write(tables / f"{name}.tex", sheet.to_latex())
    page = folder / PAGE_NAME
    _write(page, render(findings))
    return page


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
