"""A table as HTML, CSV, Markdown and LaTeX."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Cell = str | int | float

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u2026": r"\ldots{}",
    "\u00d7": r"$\times$",
    "\u00b1": r"$\pm$",
    "\u2192": r"$\rightarrow$",
    "\u00a0": "~",
}
_LATIN_END = 0x180
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>|#"})


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table for readers, and its numbers for programs.

    Attributes:
        name: Of its files.
        title: Caption.
        header: Of the columns.
        rows: What readers see.
        numbers: Columns that are set to the right, from 0.
        marks: By row number: a class of the style sheet.
        raw_header: Of the CSV.
        raw_rows: Full precision; NaN is an empty cell.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    marks: dict[int, str] = field(default_factory=dict)
    raw_header: tuple[str, ...] = ()
    raw_rows: tuple[tuple[Cell, ...], ...] = ()

    def to_html(self) -> str:
        """A table that scrolls by itself where it is wider than the page, by keyboard too."""
        head = "".join(f'<th scope="col"{self._side(at)}>{escape(title)}</th>' for at, title in enumerate(self.header))
        body = "".join(self._row(at, row) for at, row in enumerate(self.rows))
        label = escape(self.title, quote=True)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="wide" role="region" tabindex="0" aria-label="{label}">{table}</div>'

    def to_csv(self) -> str:
        """The numbers at full precision."""
        return csv_text(self.raw_header or self.header, self.raw_rows or self.rows)

    def to_markdown(self) -> str:
        """A pipe table below its title."""
        lines = [f"**{self.title.translate(_MARKDOWN)}**", "", _piped([_marked(title) for title in self.header])]
        lines.append(_piped(["---:" if at in self.numbers else "---" for at in range(len(self.header))]))
        lines += [_piped([_marked(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """A `table` with booktabs rules; the document needs `usepackage{booktabs}`."""
        columns = "".join("r" if at in self.numbers else "l" for at in range(len(self.header)))
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex(self.title)}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            f"    {_latex_row(self.header)}",
            r"    \midrule",
            *(f"    {_latex_row(row)}" for row in self.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _side(self, column: int) -> str:
        return ' class="number"' if column in self.numbers else ""

    def _row(self, number: int, row: Sequence[str]) -> str:
        cells = "".join(f"<td{self._side(at)}>{escape(cell)}</td>" for at, cell in enumerate(row))
        mark = self.marks.get(number)
        return f'<tr class="{mark}">{cells}</tr>' if mark else f"<tr>{cells}</tr>"


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Comma-separated values; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_raw(cell) for cell in row] for row in rows)
    return text.getvalue()


def latex(text: str) -> str:
    """The text with every sign that LaTeX would read as a command written as itself.

    Signs beyond Latin letters, which pdflatex has not without more packages, are written as [U+4E2D].
    """
    return "".join(_latex_sign(sign) for sign in " ".join(text.split()))


def _latex_sign(sign: str) -> str:
    if sign in _LATEX:
        return _LATEX[sign]
    is_plain = (sign.isascii() and sign.isprintable()) or (sign.isalpha() and ord(sign) < _LATIN_END)
    return sign if is_plain else f"[U+{ord(sign):04X}]"


def _raw(cell: Cell) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.9g}"
    return str(cell)


def _marked(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: Sequence[str]) -> str:
    """A row; a cell that begins with [ would be read as an option of the line break before it."""
    shown = [latex(cell) for cell in cells]
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in shown) + r" \\"
