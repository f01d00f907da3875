"""The report of a study: a page that needs nothing else, figures with their data, tables."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.study_tables import generated, table
from udt_cluster.studies import (
    Arm,
    Design,
    Findings,
    Measurement,
    ScoreTable,
    SkipGap,
    all_subsets,
    analyze,
    write_report,
)
from udt_cluster.studies.gallery import file_name, study_figures
from udt_cluster.studies.page import render

NASTY = '<script>alert("x")</script> & $\\alpha$'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Parsed(HTMLParser):
    """Checks that tags are closed in order, and collects what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [
            value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def parsed(html: str) -> Parsed:
    parser = Parsed()
    parser.feed(html)
    assert parser.open == []
    return parser


def study(**options: object) -> Findings:
    settings: dict[str, object] = {"name": "s", "question": "Is it?", "reference": "U-Net", **options}
    arms = (
        Arm(name="UDTransNet", parameters=33_898_817, gmac=26.14),
        Arm(name="U-Net", parameters=7_767_489, gmac=9.27),
    )
    scores = table({"UDTransNet": 0.03, "U-Net": 0.0}, classes=("spleen", "liver"), folds=2)
    return analyze(scores, Design(**{"arms": arms, **settings}))  # type: ignore[arg-type]


def rich() -> Findings:
    """16 subsets on two data sets with everything that a page can show."""
    names = {
        str(subset): sum({1: 0.03, 2: 0.01, 3: 0.0, 4: -0.01}[level] for level in subset) for subset in all_subsets()
    }
    rows = [*generated(names, groups=8, folds=2), *generated(names, groups=8, folds=1, dataset="ISIC 2018", seed=1)]
    rows = [one for one in rows if (one.arm, one.fold) != ("(2,)", 1)]
    arms = tuple(Arm(name=str(subset), skips=subset, gmac=9.0 + len(subset), position=float(at + 1))
                 for at, subset in enumerate(all_subsets()))  # fmt: skip
    gaps = tuple(SkipGap(dataset="GlaS", level=level, value=level / 10) for level in (1, 2, 3, 4))
    measured = tuple(Measurement(name="train_dice", arm=arm.name, value=0.95) for arm in arms)
    asked = Design(
        name="rich", question="Which?", arms=arms, reference="(1, 2, 3, 4)", metrics=("dice", "hd95"), gaps=gaps,
        measurements=measured, scatters=(("gmac", "dice"),), position_label="number",
    )  # fmt: skip
    return analyze(ScoreTable(tuple(rows)), asked)


@pytest.fixture(scope="module")
def everything() -> Findings:
    return rich()


def test_the_answer_comes_first_and_the_page_needs_nothing_else() -> None:
    findings = study()
    page = parsed(render(findings))
    text = "".join(page.text)
    assert text.index("Is it?") < text.index(findings.conclusion[0]) < text.index("GlaS: arms")
    assert page.outside == []
    assert "script" not in page.tags
    for part in ("How this was measured", "What is missing", "UDTransNet", "33.90", "26.14", "better / equal / worse"):
        assert part in text


def test_whatever_names_hold_is_escaped() -> None:
    arms = (Arm(name=NASTY), Arm(name="b"))
    findings = analyze(
        table({NASTY: 0.1, "b": 0.0}, dataset=NASTY), Design(name=NASTY, question=NASTY, arms=arms, reference="b")
    )
    page = parsed(render(findings))
    assert "script" not in page.tags
    assert NASTY in "".join(page.text)


def test_a_study_of_everything_has_all_its_figures(everything: Findings) -> None:
    names = [figure.name for figure in study_figures(everything)]
    assert names == [
        "glas-differences", "glas-network", "isic-2018-differences", "isic-2018-network", "interaction", "curve", "gap",
        "dice-against-gmac", "gap-against-benefit",
    ]  # fmt: skip
    page = parsed(render(everything))
    assert page.tags.count("svg") == len(names)
    assert "(2,) lacks fold 1 seed 0" in "".join(page.text)


def test_drawings_are_well_formed_and_stay_on_their_sheet(everything: Findings) -> None:
    for figure in study_figures(everything):
        root = ET.fromstring(figure.drawing.to_svg())
        assert root.get("role") == "img"
        assert root.get("aria-label") == figure.drawing.title
        for node in root.iter():
            x, y = node.get("x") or node.get("cx"), node.get("y") or node.get("cy")
            if x is not None and y is not None:
                assert -1 <= float(x) <= figure.drawing.width + 1, figure.name
                assert -1 <= float(y) <= figure.drawing.height + 1, figure.name
            for pair in (node.get("points") or "").split():
                across, down = map(float, pair.split(","))
                assert -1 <= across <= figure.drawing.width + 1
                assert -1 <= down <= figure.drawing.height + 1


def test_the_network_draws_skips_as_thick_as_they_contribute(everything: Findings) -> None:
    drawn = next(figure.drawing for figure in study_figures(everything) if figure.name == "isic-2018-network")
    skips = {one.level: abs(one.difference) for one in everything.of("shapley", dataset="ISIC 2018")}
    found = re.findall(r'stroke-width="([\d.]+)"[^>]*><title>skip (\d): mean over all', drawn.to_svg())
    widths = {int(level): float(width) for width, level in found}
    assert sorted(widths, key=lambda level: widths[level]) == sorted(skips, key=lambda level: skips[level])
    assert max(widths.values()) == 12.5
    assert "skip 1   +0.0" in drawn.to_svg()


def test_the_report_is_written_with_everything_beside_it(everything: Findings, tmp_path: Path) -> None:
    scores = table({"a": 0.0}, groups=2)
    page = write_report(everything, tmp_path / "report", table=scores)
    folder = page.parent
    assert page.name == "study.html"
    assert Findings.from_json((folder / "findings.json").read_text()).to_json() == everything.to_json()
    assert ScoreTable.from_csv((folder / "scores.csv").read_text()).to_csv() == scores.to_csv()
    pictures = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    assert pictures == sorted(path.stem for path in (folder / "figures").glob("*.csv"))
    assert len(pictures) == 9
    assert all((folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in pictures)
    for name in (
        "glas-arms",
        "glas-comparisons",
        "glas-skips",
        "glas-secondary",
        "isic-2018-noise",
        "interactions",
        "orders",
    ):
        for kind in ("csv", "md", "tex"):
            if (folder / "tables" / f"{name}.{kind}").exists():
                assert (folder / "tables" / f"{name}.{kind}").read_text().strip()
            else:
                assert name == "isic-2018-noise", "one fold and one seed have no noise to show"
    assert write_report(everything, folder) == page, "an earlier report is replaced"


def test_data_of_figures_are_the_findings(everything: Findings) -> None:
    figure = next(figure for figure in study_figures(everything) if figure.name == "glas-differences")
    header, first, *rest = figure.data.splitlines()
    assert header.startswith("dataset,metric,class_name,kind,name,level,difference,low,high")
    assert len(rest) == 14
    assert f"{everything.of(dataset='GlaS')[0].difference:.9g}" in first


@pytest.mark.parametrize("groups", [0, 1, 2, 5])
def test_a_page_of_next_to_nothing_is_a_page(groups: int) -> None:
    arms = (Arm(name="a"), Arm(name="b"))
    scores = table({"a": 0.0, "b": 0.0}, groups=groups, folds=1)
    findings = analyze(scores, Design(name="s", question="?", arms=arms, reference="b", datasets=("GlaS",)))
    page = parsed(render(findings))
    assert any(start in "".join(page.text) for start in ("Nothing can be said yet", "Too few cases"))


def test_too_few_cases_are_a_warning_and_no_difference_is_a_note() -> None:
    arms = (Arm(name="a"), Arm(name="b"))
    asked = Design(name="s", question="?", arms=arms, reference="b")
    kinds = {"few": ({"a": 0.1, "b": 0.0}, 4), "null": ({"a": 0.0, "b": 0.0}, 20), "real": ({"a": 0.1, "b": 0.0}, 20)}
    shown = {name: render(analyze(table(effects, groups=groups), asked)) for name, (effects, groups) in kinds.items()}
    assert 'class="verdict warning"' in shown["few"]
    assert 'class="verdict note"' in shown["null"]
    assert 'class="verdict passed"' in shown["real"]


def test_file_names_are_plain() -> None:
    assert file_name("ISIC 2018/β") == "isic-2018"
    assert file_name("../") == "unnamed"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_without_a_complaint(everything: Findings, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "study.html"
    page.write_text(render(everything), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *options, profile, page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in ran.stderr.splitlines() if "CONSOLE" in line] == []
    assert ran.stdout.count("<svg") == len(study_figures(everything))
