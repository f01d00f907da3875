"""What a check found: one line of the report, the row of the fault table that it belongs to, and what to do."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

Row = Literal["D1", "D2", "D3", "D4", "D5", "D6", "D7", "S7", "S8", "S9"]
Severity = Literal["refused", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("refused", "warning", "note")
ROWS: dict[Row, str] = {
    "D1": "broken files",
    "D2": "image and mask do not fit",
    "D3": "label values",
    "D4": "leaks between cases",
    "D5": "pixel values and formats",
    "D6": "classes and empty masks",
    "D7": "names, links and missing files",
    "S7": "archives",
    "S8": "bombs and foreign formats",
    "S9": "text about persons",
}
_REMEDIES: dict[Row, str] = {
    "D1": "Copy the file again from where it came from, or leave the case out (data.on_bad_case: quarantine).",
    "D2": "Export the mask again on the grid of its image, or leave the case out (data.on_bad_case: quarantine).",
    "D3": "Name all values of the masks (data.classes, data.label_values), or export the masks again without loss.",
    "D4": "Remove one of the pair, or set data.splits.lookalikes: together, or name it in data.accept_leaks.",
    "D5": "Convert the file as the message says, or leave the case out (data.on_bad_case: quarantine).",
    "D6": "Check data.classes and data.label_values against the masks.",
    "D7": "Mend the file or its name in the source, then check again.",
    "S7": "Unpack it with `udt-cluster data unpack ARCHIVE FOLDER` and use the folder.",
    "S8": "Remove the file, or convert it to PNG, TIFF or NIfTI of a usual size, if you know where it comes from.",
    "S9": "It never reaches the store. Remove it from the files too before you share them.",
}
_MOST_SEARCHED = 5000
_PATTERNS: tuple[tuple[Row, str], ...] = (
    ("S7", r"archive|much longer than the .* its header claims"),
    ("S8", r"more than [\d,]+ (?:pixels|MiB)|not an image of the allowed formats|not a (?:NIfTI|DICOM)|no DICOM file"),
    ("S8", r"document type|DTD|to any size"),
    (
        "D1",
        r"broken|truncated|claims|no usable affine|its header says|has no (?:data set|array|pixels,)|not enough memory",
    ),
    ("D3", r"label value|JPEG mask|coloured mask|colou?rs? that|which of them is background|whole numbers"),
    ("D3", r"palette with|segments overlap"),
    ("D7", r"there is no |several (?:masks|files|series)|is not here|has no partner"),
    ("D2", r"the mask (?:has|lies|is)|affine|different sizes|missing between|slices|outlines? |resample|one size a"),
    ("D5", r"NaN|infinit|2\^24|16 bits per colour|EXIF|transparent|mode \w+|values of type|MONOCHROME|channel\(s\)"),
    ("D5", r"compressed as|a table|voxels of type|photometric|dimensions|frames in one file|has the shape"),
    ("D7", r"may not be read|not there any more|has gone|no image for|no mask for|nothing is there|symbolic|link"),
    ("D7", r"points to|leads back|would be case|listed|has no row|UTF-8"),
    ("D2", r"the mask"),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that somebody should know before training.

    Attributes:
        row: Of the fault table, a key of ROWS.
        severity: `refused`: training must not start. `warning`: look at it. `note`: what was decided.
        message: What is wrong. Never the content of a field that may be about a person.
        remedy: What to do.
        case: Id of the case, of the first where there are several; empty where it is about all.
        file: Key of the file within the source; empty where it is about no single one.
        count: How many files or cases it is about.
        cases: Further cases, as people want to see them: at most `SHOWN`.
        picture: PNG of the case, or None.
    """

    row: Row
    severity: Severity
    message: str
    remedy: str = ""
    case: str = ""
    file: str = ""
    count: int = 1
    cases: tuple[str, ...] = ()
    picture: bytes | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON, without the picture."""
        plain = {name: value for name, value in vars(self).items() if name != "picture"}
        return {**plain, "cases": list(self.cases)}


SHOWN = 10


def of_problem(
    problem: str,
    *,
    severity: Severity,
    case: str = "",
    files: frozenset[str] = frozenset(),
    known: frozenset[str] = frozenset(),
    otherwise: Row = "D1",
) -> Finding:
    """The finding of a line that a reader or an adapter wrote: `key: what is wrong`.

    Args:
        problem: The line.
        severity: Of the finding.
        case: Id, where it is about one.
        files: Keys that the line may begin with.
        known: Keys of files that are empty, or begin as an allowed format does: what cannot be read there is broken,
            not foreign.
        otherwise: The row where the text does not tell it.
    """
    start, separator, rest = problem.partition(": ")
    keys = [key for key in start.split(", ") if key in files]
    if not keys and len(files) <= _MOST_SEARCHED:
        keys = sorted(key for key in files if key in start)[:1]
    message = rest if separator and (keys or start == case) else problem
    row = row_of(message, otherwise)
    row = "D1" if row == "S8" and " not a" in f" {message}" and known.intersection(keys) else row
    remedy = _REMEDIES[row] if severity == "refused" else "It is left out (data.on_bad_case: quarantine)."
    return Finding(row=row, severity=severity, message=message, remedy=remedy, case=case, file=keys[0] if keys else "")


def remedy_of(row: Row) -> str:
    """What usually helps."""
    return _REMEDIES[row]


def row_of(message: str, otherwise: Row = "D1") -> Row:
    """The row that a message of a reader or an adapter belongs to; `otherwise` where none fits."""
    return next((row for row, pattern in _PATTERNS if re.search(pattern, message)), otherwise)


def printable(text: str) -> str:
    """Names of files as they can be shown anywhere: no control signs, no halves of characters."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
