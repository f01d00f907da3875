"""The report of a check: for machines, for a terminal, and as one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.check.facts import Facts, Sample
from data_prep.check.finding import ROWS, SEVERITIES, Finding, Severity, printable
from data_prep.check.page import render

REPORT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What was found in a source.

    Attributes:
        source: Where it is.
        adapter: Which layout.
        findings: The refused ones first, then warnings, then notes; within these by row.
        counts: cases, good_cases, bad_cases, groups, samples, files, bytes, empty_slices, empty_cases, and findings
            by severity.
        facts: What the data set is like.
        samples: A few cases as they are.
        seconds: How long it took.
    """

    source: str
    adapter: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    facts: Facts = field(default_factory=Facts)
    samples: tuple[Sample, ...] = ()
    seconds: float = 0.0

    @property
    def blocks(self) -> bool:
        """Whether training must not start."""
        return any(finding.severity == "refused" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One line for people."""
        number = {severity: self.counts.get(severity, 0) for severity in SEVERITIES}
        if self.blocks:
            return f"refused: {_many(number['refused'], 'finding')} must be mended before training"
        if number["warning"]:
            return f"passed with {_many(number['warning'], 'warning')}"
        return "passed"

    def of(self, severity: Severity) -> list[Finding]:
        """Findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def to_dict(self) -> dict[str, Any]:
        """JSON: everything but the pictures."""
        return {
            "format": REPORT_FORMAT,
            "source": self.source,
            "adapter": self.adapter,
            "blocks": self.blocks,
            "verdict": self.verdict,
            "counts": dict(self.counts),
            "findings": [finding.to_dict() for finding in self.findings],
            "facts": self.facts.to_dict(),
            "seconds": round(self.seconds, 3),
        }

    def to_lines(self, *, limit: int = 200) -> list[str]:
        """A table for a terminal: severity, row, where, what, and beneath what to do. Nothing in it is escaped twice.

        Args:
            limit: Most findings of one severity; the rest is counted.
        """
        lines = []
        for severity in SEVERITIES:
            found = self.of(severity)
            for finding in found[:limit]:
                lines += _lines_of(finding)
            if len(found) > limit:
                lines.append(f"{severity:<8} and {len(found) - limit} more; --json and --html list them all")
        return [*lines, "", self.summary(), self.verdict]

    def summary(self) -> str:
        """Counts in one line."""
        counts = self.counts
        parts = [
            _many(counts.get("cases", 0), "case")
            + (f" ({counts['bad_cases']} bad)" if counts.get("bad_cases") else ""),
            _many(counts.get("groups", 0), "group"),
            _many(counts.get("samples", 0), "slice"),
            _many(counts.get("files", 0), "file"),
            f"{self.seconds:.1f} s",
        ]
        return ", ".join(parts)

    def to_html(self) -> str:
        """One page that needs no network and no server; less than 5 MB."""
        return render(self)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """As a report has them."""
    rows = list(ROWS)
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), rows.index(f.row))))


def _lines_of(finding: Finding) -> list[str]:
    where = finding.file or ("" if finding.message.startswith(finding.case) else finding.case)
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    first = f"{finding.severity:<8} {finding.row}  {f'{where}: ' if where else ''}{finding.message}{times}"
    lines = [printable(first)]
    if finding.cases:
        more = finding.count - 1 - len(finding.cases)
        also = ", ".join(finding.cases) + (f" and {more} more" if more > 0 else "")
        lines.append(printable(f"{'':<12} also: {also}"))
    return [*lines, *([printable(f"{'':<12} -> {finding.remedy}")] if finding.remedy else [])]


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
