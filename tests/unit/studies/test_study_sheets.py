"""Tables as HTML, CSV, Markdown and LaTeX, whatever stands in them."""

import csv
import io
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from udt_cluster.studies.sheets import Sheet, latex

NASTY = r"""50 % of_a & b # {c} $d ~e ^f \g <i> | "j" − … é"""
SHEET = Sheet(
    name="t",
    title=f"What is {NASTY}?",
    header=("arm", "[95 %]"),
    rows=((NASTY, "[+0.1, −0.2]"), ("two\nlines", "0.5")),
    numbers=frozenset({1}),
    marks={1: "gain"},
    raw_header=("arm", "value"),
    raw_rows=((NASTY, 0.123456789123), ("b", math.nan)),
)


def test_csv_keeps_the_numbers_and_leaves_unknown_ones_empty() -> None:
    rows = list(csv.reader(io.StringIO(SHEET.to_csv())))
    assert rows == [["arm", "value"], [NASTY, "0.123456789"], ["b", ""]]


def test_html_is_escaped_and_can_be_scrolled_by_keyboard() -> None:
    html = SHEET.to_html()
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert 'tabindex="0"' in html
    assert '<tr class="gain"><td>two' in html


def test_markdown_rows_have_as_many_cells_as_the_header() -> None:
    lines = SHEET.to_markdown().splitlines()
    assert lines[3] == "| --- | ---: |"
    bare = [line.replace("\\|", "") for line in lines[2:]]
    assert {line.count("|") for line in bare} == {3}
    assert "\\<i\\>" in lines[4]


def test_latex_has_no_sign_that_is_a_command() -> None:
    text = latex(NASTY)
    assert text == (
        r"50 \% of\_a \& b \# \{c\} \$d \textasciitilde{}e \textasciicircum{}f \textbackslash{}g $<$i$>$ "
        r"\textbar{} ''j'' $-$ \ldots{} é"
    )
    assert latex("肝 β") == "[U+809D] [U+03B2]"


def test_a_latex_row_never_begins_with_a_bracket() -> None:
    """After a line break in LaTeX a bracket is its option: the row that follows would vanish into it."""
    rows = [line for line in SHEET.to_latex().splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert r"& {}[+0.1, $-$0.2] \\" in rows[1]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    head = "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{SHEET.to_latex()}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
