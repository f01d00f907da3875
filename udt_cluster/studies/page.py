"""The page of a study: one HTML file that needs nothing else, the answer first, everything escaped."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

from udt_cluster.studies.conclusion import is_shown
from udt_cluster.studies.design import metric_named
from udt_cluster.studies.findings import Findings
from udt_cluster.studies.gallery import StudyFigure, study_figures
from udt_cluster.studies.method import method_text
from udt_cluster.studies.page_style import CSS
from udt_cluster.studies.sheets import Sheet
from udt_cluster.studies.tables import (
    arm_sheet,
    choice_sheet,
    comparison_sheet,
    interaction_sheet,
    noise_sheet,
    order_sheet,
    regression_sheet,
    skip_sheet,
)
from udt_cluster.studies.wording import counted, listed

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MOST_MISSING = 40


def render(findings: Findings) -> str:
    """The page."""
    figures = study_figures(findings)
    body = "".join(
        [
            _header(findings),
            '<main id="main">',
            *(_dataset(findings, facts.name, figures) for facts in findings.datasets),
            *_across(findings, figures),
            *_columns(findings, figures),
            _method(findings),
            _missing(findings),
            "</main>",
            "<footer>udt-cluster study. Scores are of cases that the scored network was not trained on; the test split "
            "takes no part.</footer>",
        ]
    )
    title = escape(f"Study: {findings.design.name}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        f"<style>{CSS}</style></head><body>{body}</body></html>\n"
    )


def study_sheets(findings: Findings) -> list[tuple[str, Sheet]]:
    """All tables with the data set that each is of (empty for all), in the order of the page."""
    sheets = [(facts.name, sheet) for facts in findings.datasets for _, sheet in _sheets(findings, facts.name)]
    return [*sheets, *(("", sheet) for sheet in _across_sheets(findings))]


def _header(findings: Findings) -> str:
    design, missing, facts_of = findings.design, findings.missing, findings.datasets
    answer, *rest = findings.conclusion
    comparisons = findings.of()
    kind = "passed" if any(is_shown(one) for one in comparisons) else "note"
    if not any(one.verdict not in ("too few cases", "no data") for one in comparisons):
        kind = "warning"
    tiles = [
        (len(design.arms), "arm"),
        (len(facts_of), "data set"),
        (sum(facts.cases for facts in facts_of), "case"),
        (sum(facts.groups for facts in facts_of), design.group),
        (max((facts.folds for facts in facts_of), default=0), "fold"),
        (max((facts.seeds for facts in facts_of), default=0), "seed"),
    ]
    shown = [tuple(counted(value, label).split(" ", 1)) for value, label in tiles]
    shown.append((f"{missing.runs_found} of {missing.runs_expected}", "trainings with scores"))
    items = "".join(f"<li><b>{value}</b><span>{escape(label)}</span></li>" for value, label in shown)
    also = "".join(f"<li>{escape(sentence)}</li>" for sentence in rest)
    return (
        '<header><a class="skip" href="#main">Skip to the results</a>'
        f'<h1>{escape(design.question)}</h1><p class="study">Study {escape(design.name)}</p>'
        f'<p class="verdict {kind}" role="status">{escape(answer)}</p>'
        f'{f"<ul class=also>{also}</ul>" if also else ""}<ul class="tiles">{items}</ul></header>'
    )


def _dataset(findings: Findings, dataset: str, figures: Sequence[StudyFigure]) -> str:
    drawn = "".join(_card(figure) for figure in figures if figure.dataset == dataset)
    tables = "".join(
        _folded(sheet) if is_folded else f'<div class="card"><h3>{escape(sheet.title)}</h3>{sheet.to_html()}</div>'
        for is_folded, sheet in _sheets(findings, dataset)
    )
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings.details.get(dataset, ()))
    told = f'<ul class="also">{told}</ul>' if told else ""
    return f"<section><h2>{escape(dataset)}</h2>{told}{drawn}{tables}</section>"


def _sheets(findings: Findings, dataset: str) -> Iterator[tuple[bool, Sheet]]:
    """Tables of one data set, and whether each is folded away at first."""
    design, unit = findings.design, findings.facts(dataset).unit
    if findings.arms_of(dataset):
        yield False, arm_sheet(findings, dataset)
    if found := findings.of(dataset=dataset):
        title = f"{dataset}: comparisons, {design.metric.label}"
        yield False, comparison_sheet(findings, found, name="comparisons", title=title, unit=unit)
    if skips := skip_sheet(findings, dataset):
        yield False, skips
    others = [one for metric in design.metrics[1:] for one in findings.of(dataset=dataset, metric=metric)]
    if others:
        labels = listed([metric_named(name).label for name in design.metrics[1:]])
        title = f"{dataset}: {labels} (secondary: corrected by themselves)"
        yield True, comparison_sheet(findings, others, name="secondary", title=title, unit=unit)
    classes = [one for name in findings.facts(dataset).classes for one in findings.of(dataset=dataset, class_name=name)]
    if classes:
        title = f"{dataset}: each class, {design.metric.label} (secondary: corrected by themselves)"
        yield True, comparison_sheet(findings, classes, name="classes", title=title, unit=unit)
    if worst := regression_sheet(findings, dataset):
        yield True, worst
    if noise := noise_sheet(findings, dataset):
        yield True, noise


def _across(findings: Findings, figures: Sequence[StudyFigure]) -> Iterator[str]:
    sheets = _across_sheets(findings)
    if not sheets:
        return
    drawn = "".join(_card(figure) for figure in figures if figure.drawing.name == "interaction")
    yield f"<section><h2>Between data sets</h2>{drawn}{''.join(_folded(sheet) for sheet in sheets)}</section>"


def _across_sheets(findings: Findings) -> list[Sheet]:
    sheets = [interaction_sheet(findings)] if findings.interactions else []
    if findings.orders:
        sheets.append(order_sheet(findings))
    if tuned := findings.of("tuned"):
        title = "One arm tuned on each data set against one arm for all"
        shown = [replace(one, name=one.dataset) for one in tuned]
        sheets += [comparison_sheet(findings, shown, name="tuned", title=title), choice_sheet(findings)]
    return sheets


def _columns(findings: Findings, figures: Sequence[StudyFigure]) -> Iterator[str]:
    drawn = [figure for figure in figures if not figure.dataset and figure.drawing.name != "interaction"]
    if drawn:
        title = "Over the arms" if findings.curve else "Columns against each other"
        yield f"<section><h2>{title}</h2>{''.join(_card(figure) for figure in drawn)}</section>"


def _card(figure: StudyFigure) -> str:
    return f'<div class="card"><figure>{figure.drawing.to_svg()}</figure></div>'


def _folded(sheet: Sheet) -> str:
    return f"<details><summary>{escape(sheet.title)}</summary>{sheet.to_html()}</details>"


def _method(findings: Findings) -> str:
    shown = "".join(f"<p>{escape(text)}</p>" for text in method_text(findings))
    return f'<section><h2>How this was measured</h2><div class="card">{shown}</div></section>'


def _missing(findings: Findings) -> str:
    notes = findings.missing.notes
    if not notes:
        return '<section><h2>What is missing</h2><p class="faint">Nothing: every training has its scores.</p></section>'
    items = "".join(f"<li>{escape(note)}</li>" for note in notes[:_MOST_MISSING])
    more = f"<li>and {len(notes) - _MOST_MISSING} more</li>" if len(notes) > _MOST_MISSING else ""
    return f'<section><h2>What is missing</h2><div class="card"><ul class="also">{items}{more}</ul></div></section>'
