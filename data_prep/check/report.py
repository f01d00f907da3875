"""The report of a check: for machines, for a terminal, and as one page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.check.finding import ROWS, SEVERITIES, Finding, Severity
from data_prep.check.survey import Survey

REPORT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    """How much of a data set a class is: pixels in training, validation and test cases, and cases that have it."""

    name: str
    pixels: Mapping[str, int]
    cases: int


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Values of one channel at sample size, over all cases."""

    minimum: float
    low: float
    mean: float
    high: float
    maximum: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the data set is like.

    Attributes:
        classes: The background first.
        sizes: "height x width" of images -> slices.
        depths: Slices of a case -> cases.
        splits: The data set's own -> cases.
        sites: Site -> cases; empty where none is known.
        channels: Number of channels -> cases.
        dtypes: Type of values -> cases.
        spacings: "D x H x W" in mm -> cases.
        intensities: Of each channel; `low` and `high` are the 0.5th and 99.5th percentile.
    """

    classes: tuple[ClassShare, ...] = ()
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    depths: Mapping[int, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    sites: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[int, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    spacings: Mapping[str, int] = field(default_factory=dict)
    intensities: tuple[Intensity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("classes", "sizes", "intensities")}
        return {
            "classes": [{**vars(share), "pixels": dict(share.pixels)} for share in self.classes],
            "sizes": {f"{height}x{width}": count for (height, width), count in self.sizes.items()},
            "intensities": [dict(vars(channel)) for channel in self.intensities],
            **{name: {str(key): count for key, count in value.items()} for name, value in plain.items()},
        }


def facts_of(survey: Survey) -> Facts:
    """Numbers of a survey, in the order in which people want them."""
    classes = tuple(
        ClassShare(
            name=name,
            pixels={split: int(counts[index]) for split, counts in sorted(survey.class_pixels.items())},
            cases=survey.class_cases[index],
        )
        for index, name in enumerate(survey.class_names)
    )
    intensities = tuple(
        Intensity(
            minimum=channel.minimum,
            low=channel.percentile(0.5),
            mean=channel.mean,
            high=channel.percentile(99.5),
            maximum=channel.maximum,
            std=(channel.squares / channel.count) ** 0.5,
        )
        for channel in survey.intensities()
    )
    return Facts(
        classes=classes,
        sizes=dict(sorted(survey.sizes.items())),
        depths=dict(sorted(survey.depths.items())),
        splits=dict(sorted(Counter(case.split for case in survey.good).items())),
        sites=dict(sorted(Counter(case.site for case in survey.good if case.site).items())),
        channels={number: tally.count for number, tally in sorted(survey.channels.items())},
        dtypes=dict(sorted(survey.dtypes.items())),
        spacings=dict(survey.spacings.most_common(20)),
        intensities=intensities,
    )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A case as it is, for the eye: its id and a PNG."""

    case: str
    picture: bytes = field(repr=False)


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
    facts: Facts = Facts()
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
        from data_prep.check.page import render

        return render(self)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """As a report has them."""
    rows = list(ROWS)
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), rows.index(f.row))))


def printable(text: str) -> str:
    """Names of files as they can be shown anywhere: no control signs, no halves of characters."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


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
