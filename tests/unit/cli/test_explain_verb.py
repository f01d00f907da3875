"""The verb explain: what it asks for, and what it prints."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import udt_cluster.cluster.client
from udt_cluster.cluster.client import explaining as real
from udt_cluster.errors import DataError

EFFECT = {"class": "mean", "cases": 17, "groups": 17, "undefined": 0, "dice": 0.8, "worst_drop": 0.5}
ZEROED = {**EFFECT, "kind": "zeroed", "level": "1", "dice_changed": 0.55, "drop": 0.25, "drop_low": 0.2}
SHUFFLED = {**EFFECT, "kind": "shuffled", "level": "1", "dice_changed": 0.7, "drop": -0.0001, "drop_low": None}
FOUND: dict[str, Any] = {
    "skips": ["dra_channel", "none", "none", "none"],
    "effects": [
        {**ZEROED, "drop_high": 0.31},
        {**ZEROED, "class": "gland", "drop": 0.7, "drop_high": 0.8},
        {**SHUFFLED, "drop_high": None},
    ],
    "similarity": [{"level": 1, "side": "encoder", "cka": 0.123}, {"level": 1, "side": "skip", "cka": float("nan")}],
    "warnings": ["five groups are too few"],
    "page": "explain-glas-3/explain.html",
    "folder": "explain-glas-3",
    "run_id": "r1",
    "run_url": "http://127.0.0.1:5000/#/runs/r1",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> list[Any]:
    """What was asked for; the answer is FOUND, or the error that stands first in the list."""
    calls: list[Any] = []

    def explain_model(target: Any, request: Any, *, settings: Any, on_event: Callable[[str], None]) -> dict[str, Any]:
        if calls and isinstance(calls[0], Exception):
            raise calls[0]
        calls.append((target.name, request, settings))
        on_event("cases 1/1")
        return FOUND

    module = ModuleType(real.__name__)
    module.explain_model, module.ExplainRequest = explain_model, real.ExplainRequest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, real.__name__, module)
    monkeypatch.setattr(udt_cluster.cluster.client, "explaining", module)
    for variable in ("UDT_TARGET", "UDT_JOBS_API", "UDT_STORAGE"):
        monkeypatch.delenv(variable, raising=False)
    return calls


def test_it_asks_for_what_was_said(run, asked) -> None:
    words = ["--data", "glas/v1", "--cases", "5", "--test", "--class", "gland", "--at", "0.5,0.25", "--output", "x"]
    assert run("explain", "glas@champion", *words).code == 0
    ((target, request, settings),) = asked
    wanted = real.ExplainRequest(model="glas@champion", output=Path("x"), data="glas/v1", cases=5, test=True)
    assert (target, request) == ("local", wanted)
    assert (settings.class_name, settings.at) == ("gland", (0.5, 0.25))


def test_the_table_is_printed(run, asked) -> None:
    ran = run("explain", "glas@champion")
    head, line = ran.out.splitlines()
    assert head.split()[:4] == ["LEVEL", "SKIP", "DICE", "ZEROED"]
    assert line.split() == [
        *("1", "dra_channel", "0.800", "0.550", "0.250", "0.200", "..", "0.310", "0.700", "0.000", "-", "0.123", "-")
    ]
    assert "cases 1/1" in ran.err
    assert "warning: five groups are too few" in ran.err
    assert "explain-glas-3/explain.html" in ran.err
    assert "Logged to http://127.0.0.1:5000/#/runs/r1" in ran.err


def test_json_is_one_document(run, asked) -> None:
    found = json.loads(run("explain", "glas@champion", "--json").out)
    assert found["effects"][0]["drop"] == 0.25
    assert found["similarity"][1]["cka"] is None
    assert found["run_id"] == "r1"


@pytest.mark.parametrize("at", ["0.5", "a,b", "1,2,3", "0.5,1.5", "-0.1,0", ""])
def test_a_place_that_is_none_is_refused(run, asked, at: str) -> None:
    ran = run("explain", "glas@champion", f"--at={at}")
    assert ran.code == 2
    assert "--at" in ran.err
    assert asked == []


def test_a_folder_with_something_in_it_is_refused_before_anything_is_fetched(run, asked, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = run("explain", "glas@champion", "--output", str(tmp_path))
    assert ran.code == 2
    assert "give a new folder" in ran.err
    assert asked == []


@pytest.mark.parametrize("words", [("--cases", "0"), ("--cases", "few"), ("--heads", "3")])
def test_wrong_options_are_refused(run, asked, words: tuple[str, ...]) -> None:
    assert run("explain", "glas@champion", *words).code == 2
    assert asked == []


def test_refusals_have_their_exit_code(run, asked) -> None:
    asked.append(DataError("the model cannot be scored on this store", ["data.size"]))
    ran = run("explain", "glas@champion", "--json")
    assert ran.code == 3
    assert json.loads(ran.out)["error"]["problems"] == ["data.size"]


def test_without_the_fake_an_unknown_folder_ends_with_2(run, isolated_home: Path, tmp_path: Path) -> None:
    ran = run("explain", f"file://{tmp_path}/nowhere", "--output", str(tmp_path / "out"))
    assert ran.code == 2
    assert "nothing is there" in ran.err
