"""The report as files: numbers equal the records, whatever the trials are; the page stands alone and is escaped."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.unit.search.report.sweeps import ONE_SPACE, SPACES, seeded, sweep_of, trial
from udt_cluster.search.report import Allowance, Budget, Space, Sweep, score, spread, write_report
from udt_cluster.search.report.chart_history import best_so_far
from udt_cluster.search.report.chart_pareto import front

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = "<script>alert('&\"')</script> $x_1^$ =1+1"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Tags that are opened and not closed, and the text in between."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return seeded(30, running=2)


@pytest.fixture(scope="module")
def folder(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(sweep, tmp_path_factory.mktemp("report")).parent


def test_each_figure_is_a_picture_with_its_numbers(folder: Path) -> None:
    pictures = {path.stem for path in (folder / "figures").iterdir()}
    assert pictures == {path.stem for path in (folder / "data").iterdir()}
    wanted = {"history", "history_epochs", "importance", "importance_first_rung", "parallel", "rungs", "slice_train.lr"}
    assert pictures >= wanted | {"slice_model.skips.4", "pareto_parameters", "pareto_gmac", "pareto_seconds"}
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG"), path.name


def test_trials_csv_has_the_records_with_all_their_digits(folder: Path, sweep: Sweep) -> None:
    rows = {int(row["trial"]): row for row in rows_of(folder / "trials.csv")}
    assert len(rows) == len(sweep.trials)
    for one in sweep.trials:
        row = rows[one.number]
        found = (row["score"], row["spread"], row["epochs"], row["seconds"], row["message"])
        wanted = (score(one), spread(one), one.epochs, one.seconds, one.message)
        assert found == tuple("" if value is None else str(value) for value in wanted)
        for parameter in sweep.parameters:
            value = parameter.of(one)
            assert row[parameter.field] == ("" if value is None else str(value))
    ranks = [int(row["rank"]) for row in rows.values() if row["rank"]]
    assert sorted(ranks) == list(range(1, len(sweep.finished) + 1))
    assert rows[sweep.finished[0].number]["rank"] == "1"


def test_runs_and_rungs_csv_have_every_fold_and_comparison(folder: Path, sweep: Sweep) -> None:
    runs = [(int(row["trial"]), int(row["fold"]), float(row["value"])) for row in rows_of(folder / "runs.csv")]
    assert runs == [(one.number, run.fold, run.value) for one in sweep.trials for run in one.runs]
    rungs = [(int(r["trial"]), int(r["epochs"]), float(r["value"])) for r in rows_of(folder / "data" / "rungs.csv")]
    assert rungs == [(one.number, rung.epochs, rung.value) for one in sweep.trials for rung in one.rungs]


def test_the_figures_numbers_are_the_records(folder: Path, sweep: Sweep) -> None:
    by_number = {one.number: one for one in sweep.trials}
    history = rows_of(folder / "data" / "history.csv")
    assert [int(row["trial"]) for row in history] == sorted(by_number)
    best = float("-inf")
    for row in history:
        one = by_number[int(row["trial"])]
        best = max(best, score(one) or best) if one.state == "finished" else best
        assert row["best_so_far"] == ("" if best == float("-inf") else str(best))
    spent = rows_of(folder / "data" / "history_epochs.csv")
    assert int(spent[-1]["epochs_spent"]) == sum(one.epochs for one in sweep.trials if one.has_ended)
    for row in rows_of(folder / "data" / "slice_train.dropout.csv"):
        assert float(row["train.dropout"]) == by_number[int(row["trial"])].settings["train.dropout"]
    for row in rows_of(folder / "data" / "pareto_parameters.csv"):
        assert float(row["parameters"]) == by_number[int(row["trial"])].parameters


def test_the_page_stands_alone(folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert len(html) < 1_000_000
    page = Page(folder / "index.html")
    assert {"link", "iframe", "object"} & set(page.tags) == set()
    assert re.findall(r'(?:src|href)="(?!#|data:|figures/|data/)', html) == [], "nothing from elsewhere"
    assert re.findall(r"https?://(?!www\.w3\.org)", html) == []
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "no figure takes another's marks"
    for name in re.findall(r'href="((?:figures|data)/[^"]+)"', html):
        assert (folder / name).is_file()
    for name in re.findall(r'"url\(#([^)]+)\)"|xlink:href="#([^"]+)"', html):
        assert "".join(name) in ids


def test_the_sections_are_in_the_order_of_what_people_ask(folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>([^<]+)", html) == [
        *("What was searched", "Leaderboard" if "Leaderboard" in html else "The best 10", "Which settings matter"),
        *("How the search went", "All settings side by side", "Each setting by itself", "What a better score costs"),
        *("What went wrong", "Method and budget"),
    ]
    text = Page(folder / "index.html").text
    assert "So far the best is trial" in text
    assert "CUDA out of memory" in text
    assert "Too few trials: " in text or "A forest predicts" in text


def test_figures_have_tool_tips_and_colours_of_the_page(folder: Path, sweep: Sweep) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    best = sweep.finished[0]
    assert f"<title>best: trial {best.number}, finished: {score(best):.4f}</title>" in html
    assert "var(--bar)" in html
    assert "#5b8fd0" not in html.partition("</style>")[2], "in the dark it is another"


LISTS = Space(field="model.skips", kind="choice", values=(["none"] * 4, ["dat"] * 4))
EDGES: dict[str, Sweep] = {
    "no trial": sweep_of(spaces=SPACES, state="running"),
    "no trial and no space": sweep_of(),
    "one trial": sweep_of(trial(0), spaces=ONE_SPACE),
    "two trials": sweep_of(trial(0, (0.5, 0.6)), trial(1, (0.7, 0.8), settings={"model.num_heads": 4})),
    "all running": sweep_of(*(trial(at, (), "running") for at in range(3)), spaces=ONE_SPACE, state="running"),
    "all pruned": sweep_of(*(trial(at, (at / 10,), "pruned", settings={"model.num_heads": at}) for at in range(4))),
    "one diverged": sweep_of(trial(0, (float("nan"),), "diverged", message="not finite"), trial(1), spaces=ONE_SPACE),
    "constant score": sweep_of(*(trial(at, settings={"model.num_heads": at % 3}) for at in range(12))),
    "a single value": sweep_of(*(trial(at, (at / 10,)) for at in range(4)), spaces=ONE_SPACE),
    "lists": sweep_of(*(trial(at, (at / 10,), settings={"model.skips": LISTS.values[at % 2]}) for at in range(4)),
                      spaces=(LISTS,)),
    "costs nothing": sweep_of(*(trial(at, (at / 10,), parameters=0, gmac=0.0, seconds=0.0) for at in range(3))),
    "a null": sweep_of(trial(0, settings={"model.x": None}), trial(1, (0.7,), settings={"model.x": True}), trial(2)),
    "a loss": sweep_of(*(trial(at, (at / 10,)) for at in range(3)), metric="val_loss", larger_is_better=False),
    "a budget of nothing": sweep_of(trial(0), budget=Budget(trials=Allowance(used=1, limit=0))),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_whatever_the_trials_are_there_is_a_report(name: str, tmp_path: Path) -> None:
    sweep = EDGES[name]
    page = Page(write_report(sweep, tmp_path))
    assert len(rows_of(tmp_path / "trials.csv")) == len(sweep.trials)
    assert "nan" not in page.text.split()
    assert {p.stem for p in (tmp_path / "data").iterdir()} == {p.stem for p in (tmp_path / "figures").iterdir()}
    assert ("history" in {p.stem for p in (tmp_path / "data").iterdir()}) == bool(sweep.trials)


def test_names_and_messages_are_escaped(tmp_path: Path) -> None:
    spaces = (Space(field=f"model.{NASTY}", kind="choice", values=(NASTY, "b")),)
    trials = [trial(at, (at / 10,), settings={f"model.{NASTY}": value}) for at, value in enumerate((NASTY, "b"))]
    bad = trial(2, (), "failed", settings={}, message=f"{NASTY}\x1b[31m")
    page = Page(write_report(sweep_of(*trials, bad, name=NASTY, spaces=spaces, method=NASTY), tmp_path))
    assert page.tags.count("script") == 1
    assert page.text.count("alert(") > 4
    assert "\x1b" not in page.text
    assert rows_of(tmp_path / "trials.csv")[0][f"model.{NASTY}"] == "b"


def test_two_hundred_trials_stay_below_three_megabytes(tmp_path: Path) -> None:
    """With importance left out by a constant score: it is the same size for any number of trials."""
    many = seeded(200)
    trials = [trial(t.number, (0.5,), t.state, settings=t.settings, parameters=t.parameters) for t in many.trials]
    page = write_report(sweep_of(*trials, spaces=SPACES), tmp_path)
    assert page.stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 8_000_000


def test_the_front_is_what_nothing_beats() -> None:
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.5), (2.5, 0.7), (4.0, 0.9), (1.0, 0.4)]
    assert front(points) == [1, 3, 0]
    assert front(points, larger_is_better=False) == [5]
    assert front([]) == []


def test_the_best_so_far_is_of_finished_trials_only() -> None:
    trials = [trial(0, (0.9,), "pruned"), trial(1, (0.5,)), trial(2, (0.4,)), trial(3, (0.6,))]
    assert best_so_far(sweep_of(*trials), trials) == [None, 0.5, 0.5, 0.6]


def test_lists_in_csv_are_json(tmp_path: Path) -> None:
    write_report(EDGES["lists"], tmp_path)
    assert json.loads(rows_of(tmp_path / "trials.csv")[0]["model.skips"]) == ["dat"] * 4


def opened(page: Path, folder: Path) -> tuple[str, str]:
    """The page's DOM after its script has run, and what the browser has said."""
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom")
    profile = f"--user-data-dir={folder / 'profile'}"
    ran = subprocess.run(
        [CHROMIUM, *options, profile, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_and_its_tables_can_be_sorted(folder: Path, sweep: Sweep, tmp_path: Path) -> None:
    dom, said = opened(folder / "index.html", tmp_path)
    assert said == "", "neither an error nor a refusal by the page's own policy"
    assert dom.count('<button type="button">') >= 10
    assert dom.count("<svg") == len(list((folder / "figures").iterdir()))
    click = "<script>document.querySelectorAll('.sortable th button')[1].click()</script></body>"
    html = (folder / "index.html").read_text(encoding="utf-8")
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace("</body>", click)
    (tmp_path / "clicked.html").write_text(html, encoding="utf-8")
    dom, said = opened(tmp_path / "clicked.html", tmp_path)
    table = dom[dom.index('class="board sortable"') :].partition("</table>")[0]
    numbers = [int(row[1]) for row in _rows(table)]
    assert (said, numbers) == ("", sorted(one.number for one in sweep.trials))


def _rows(table: str) -> list[list[str]]:
    """The texts of the cells of each row."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table.partition("<tbody>")[2])
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]
