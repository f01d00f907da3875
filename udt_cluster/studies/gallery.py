"""All figures of a study, each with the numbers that it was drawn from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from udt_cluster.studies.columns import shown_skips
from udt_cluster.studies.drawing import Drawing
from udt_cluster.studies.figures import comparison_forest, interaction_forest, network
from udt_cluster.studies.findings import Findings
from udt_cluster.studies.plots import curve, scatter_plot
from udt_cluster.studies.sheets import csv_text
from udt_cluster.studies.tables import Record, raw, raw_header

_LOG_FROM = 8.0  # times that the largest position is above the smallest
_GAP = "gap"


@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """A figure, and its numbers as CSV.

    Attributes:
        name: Of its files: letters, digits and dashes.
        dataset: That it is of; empty for all.
        drawing: What is seen.
        data: Text of the CSV.
    """

    name: str
    dataset: str
    drawing: Drawing
    data: str


def study_figures(findings: Findings) -> list[StudyFigure]:
    """Those that the study has numbers for, in the order of the page."""
    figures = [figure for facts in findings.datasets for figure in _of_dataset(findings, facts.name)]
    if findings.interactions:
        figures.append(_figure(interaction_forest(findings), "", findings.interactions))
    figures += _curves(findings)
    figures += [_figure(scatter_plot(one), "", one.points) for one in findings.scatters]
    return figures


def file_name(text: str) -> str:
    """Letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "unnamed"


def _of_dataset(findings: Findings, dataset: str) -> Iterator[StudyFigure]:
    if comparisons := findings.of(dataset=dataset):
        yield _figure(comparison_forest(findings, dataset), dataset, comparisons)
    if skips := shown_skips(findings.comparisons, findings.design, dataset):
        yield _figure(network(findings, dataset, skips), dataset, skips)


def _curves(findings: Findings) -> Iterator[StudyFigure]:
    design, label = findings.design, findings.design.metric.label
    positions = [point.position for point in findings.curve]
    is_log = bool(positions) and min(positions) > 0 and max(positions) / min(positions) >= _LOG_FROM
    gaps = [point for point in findings.curve if point.series.startswith(_GAP)]
    scores = [point for point in findings.curve if point not in gaps]
    x_label = design.position_label or "arm"
    if scores:
        title = f"{label} over {x_label}"
        yield _figure(curve(scores, title=title, x_label=x_label, y_label=label, is_log=is_log), "", scores)
    if gaps:
        title = f"Gap between training and held-out cases over {x_label}"
        drawn = curve(gaps, title=title, x_label=x_label, y_label=f"{label}, gap", name="gap", is_log=is_log)
        yield _figure(drawn, "", gaps)


def _figure(drawing: Drawing, dataset: str, records: Sequence[Record]) -> StudyFigure:
    name = "-".join(part for part in (file_name(dataset) if dataset else "", file_name(drawing.name)) if part)
    return StudyFigure(name=name, dataset=dataset, drawing=drawing, data=csv_text(raw_header(records), raw(records)))
