"""The page of a check: one HTML file that needs nothing else, with everything that came from files escaped."""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from typing import Protocol

from data_prep.check.facts import Facts, Sample
from data_prep.check.finding import ROWS, SEVERITIES, Finding, Severity, printable
from data_prep.check.page_charts import bar, bars, histogram, ranges
from data_prep.check.page_style import CSS
from data_prep.check.pictures import CLASS_COLORS

_MOST_PICTURE_BYTES = 3_000_000
_MOST_FINDINGS = 300
_TITLES: dict[Severity, str] = {"refused": "Must be mended", "warning": "Look at these", "note": "Good to know"}
_NONE = {
    "refused": "Nothing keeps training from starting.",
    "warning": "No warnings.",
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Checked(Protocol):
    """What the page shows: a CheckReport."""

    @property
    def source(self) -> str:
        """Where the files are."""

    @property
    def adapter(self) -> str:
        """Which layout."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Of cases, slices, files and findings."""

    @property
    def facts(self) -> Facts:
        """What the data set is like."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """A few cases as they are."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def blocks(self) -> bool:
        """Whether training must not start."""

    @property
    def verdict(self) -> str:
        """One line."""

    def of(self, severity: Severity) -> list[Finding]:
        """Findings of one severity."""


def render(report: Checked) -> str:
    """The page, less than 5 MB: pictures up to 3 MB, at most 300 findings of each severity."""
    pictures = _Pictures()
    body = "".join(
        [
            _header(report),
            '<main id="main">',
            *(_findings(report, severity, pictures) for severity in SEVERITIES),
            *_facts(report),
            _samples(report, pictures),
            "</main>",
            _footer(report),
        ]
    )
    title = _text(f"Data check: {report.source}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        f"<style>{CSS}</style></head><body>{body}</body></html>\n"
    )


class _Pictures:
    """Puts pictures into the page until there are too many."""

    def __init__(self) -> None:
        self._left = _MOST_PICTURE_BYTES

    def tag(self, picture: bytes | None, alternative: str) -> str:
        """An img tag, or nothing."""
        if picture is None or len(picture) > self._left:
            return ""
        self._left -= len(picture)
        data = base64.b64encode(picture).decode()
        return f'<img alt="{_text(alternative)}" src="data:image/png;base64,{data}">'


def _text(text: str) -> str:
    return escape(printable(text), quote=True)


def _header(report: Checked) -> str:
    kind = "refused" if report.blocks else "warning" if report.of("warning") else "passed"
    counts = report.counts
    tiles = [
        ("cases", "cases"),
        ("groups", "groups"),
        ("samples", "slices"),
        ("files", "files"),
        ("bad_cases", "bad cases"),
        ("empty_cases", "empty masks"),
        ("empty_slices", "empty slices"),
    ]
    items = "".join(f"<li><b>{counts.get(key, 0):,}</b><span>{label}</span></li>" for key, label in tiles)
    items += f"<li><b>{_bytes(counts.get('bytes', 0))}</b><span>read</span></li>"
    return (
        '<header><a class="skip" href="#main">Skip to the findings</a><h1>Data check</h1>'
        f'<p class="source"><code>{_text(report.source)}</code> read by <code>{_text(report.adapter)}</code></p>'
        f'<p class="verdict {kind}" role="status">{_text(report.verdict[:1].upper() + report.verdict[1:])}</p>'
        f'<ul class="tiles">{items}</ul></header>'
    )


def _findings(report: Checked, severity: Severity, pictures: _Pictures) -> str:
    found = report.of(severity)
    count = f' <span class="faint">{len(found)}</span>' if found else ""
    title = f'<h2 id="{severity}">{_TITLES[severity]}{count}</h2>'
    if not found and severity == "note":
        return ""
    if not found:
        return f'<section>{title}<p class="faint">{_NONE[severity]}</p></section>'
    items = "".join(_finding(finding, pictures) for finding in found[:_MOST_FINDINGS])
    more = (
        f"<p>and {len(found) - _MOST_FINDINGS:,} more; --json lists them all</p>" if len(found) > _MOST_FINDINGS else ""
    )
    listed = f'<ul class="findings">{items}</ul>{more}'
    if severity == "note":
        listed = f"<details><summary>{_rows(found)}</summary>{listed}</details>"
    return f"<section>{title}{listed}</section>"


def _rows(found: list[Finding]) -> str:
    counts = Counter(finding.row for finding in found)
    return ", ".join(f"{ROWS[row]}: {counts[row]}" for row in ROWS if counts[row])


def _finding(finding: Finding, pictures: _Pictures) -> str:
    where = finding.file or finding.case
    tag = f'<span class="tag {finding.severity}" title="{ROWS[finding.row]}">{finding.row}</span>'
    times = f' <span class="faint">{finding.count:,} times</span>' if finding.count > 1 else ""
    head = (
        f'<p>{tag}<span class="where"><code>{_text(where)}</code></span>{times}</p>'
        if where
        else f"<p>{tag}{times}</p>"
    )
    if finding.case and finding.file and finding.case not in finding.file:
        head += f'<p class="faint">case <code>{_text(finding.case)}</code></p>'
    also = ""
    if finding.cases:
        more = finding.count - 1 - len(finding.cases)
        names = ", ".join(f"<code>{_text(name)}</code>" for name in finding.cases)
        also = f'<p class="faint">also {names}{f" and {more:,} more" if more > 0 else ""}</p>'
    remedy = f'<p class="remedy">{_text(finding.remedy)}</p>' if finding.remedy else ""
    picture = pictures.tag(finding.picture, f"Picture of {where}")
    return f'<li class="finding"><div>{head}<p>{_text(finding.message)}</p>{also}{remedy}</div>{picture}</li>'


def _facts(report: Checked) -> Iterator[str]:
    facts = report.facts
    if facts.classes and any(share.cases for share in facts.classes):
        yield f'<section><h2>Classes</h2><div class="card">{_classes(report)}</div></section>'
    cards = []
    if facts.sizes:
        heights, widths = Counter[int](), Counter[int]()
        for (height, width), count in facts.sizes.items():
            heights[height] += count
            widths[width] += count
        cards.append(("Width in pixels, slices", histogram(widths, title="Widths of images")))
        cards.append(("Height in pixels, slices", histogram(heights, title="Heights of images")))
    if any(depth > 1 for depth in facts.depths):
        cards.append(("Slices of a case, cases", histogram(facts.depths, title="Slices of cases")))
    if facts.intensities:
        label = "Values: all, 99 %, mean"
        cards.append((label, ranges(facts.intensities, title="Range of values of each channel at sample size")))
    if cards:
        shown = "".join(f'<div class="card"><h3>{title}</h3>{chart}</div>' for title, chart in cards)
        yield f'<section><h2>Sizes and values</h2><div class="grid">{shown}</div></section>'
    tables = [
        ("The data set's own split, cases", facts.splits),
        ("Sites, cases", facts.sites),
        ("Type of values, cases", facts.dtypes),
        ("Channels, cases", {str(number): count for number, count in facts.channels.items()}),
        ("Spacing in mm (D x H x W), cases", facts.spacings),
    ]
    shown = "".join(
        f'<div class="card"><h3>{title}</h3>{bars({printable(name): n for name, n in counts.items()})}</div>'
        for title, counts in tables
        if counts
    )
    yield f'<section><h2>Cases</h2><div class="grid">{shown}</div></section>' if shown else ""


def _classes(report: Checked) -> str:
    classes = report.facts.classes
    splits = [name for name in ("train", "validation", "test") if any(name in share.pixels for share in classes)]
    totals = {split: sum(share.pixels.get(split, 0) for share in classes) or 1 for split in splits}
    heads = "".join(f'<th scope="col" class="number">{split}, % of pixels</th>' for split in splits)
    rows = []
    largest = max((share.pixels.get(split, 0) / totals[split] for share in classes[1:] for split in splits), default=1)
    for index, share in enumerate(classes):
        shares = [share.pixels.get(split, 0) / totals[split] for split in splits]
        color = CLASS_COLORS[(index - 1) % len(CLASS_COLORS)] if index else "transparent"
        cells = "".join(f'<td class="number">{100 * part:.3g}</td>' for part in shares)
        drawn = bar(max(shares) / largest) if index and largest else ""
        rows.append(
            f'<tr><td><span class="swatch" style="background:{color}"></span>{_text(share.name)}</td>'
            f'<td class="number">{share.cases:,}</td>{cells}<td style="width:34%">{drawn}</td></tr>'
        )
    head = f'<tr><th scope="col">class</th><th scope="col" class="number">cases</th>{heads}<th></th></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _samples(report: Checked, pictures: _Pictures) -> str:
    items = []
    for sample in report.samples:
        picture = pictures.tag(sample.picture, f"Case {sample.case} with the outline of its mask")
        if picture:
            items.append(f"<li><figure>{picture}<figcaption>{_text(sample.case)}</figcaption></figure></li>")
    if not items:
        return ""
    lead = '<p class="faint">Do the outlines lie where they should? Colours are those of the classes above.</p>'
    return f'<section><h2>A few cases</h2>{lead}<ul class="samples">{"".join(items)}</ul></section>'


def _footer(report: Checked) -> str:
    return (
        f"<footer>udt-cluster data check, {report.seconds:.1f} s. Fields of files are named, never shown. This page "
        "has pictures of patients: keep it where the data is.</footer>"
    )


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
