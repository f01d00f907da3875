"""What `tune show` prints of a sweep, on a terminal and elsewhere, once and until its end."""

import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from tests.unit.search.report.sweeps import ONE_SPACE, seeded, sweep_of, trial
from udt_cluster.cli import tune
from udt_cluster.errors import UdtError, UsageError
from udt_cluster.search.report import Sweep


@dataclass
class FakeSweeps:
    """Answers with one sweep after the other, the last for ever; or fails."""

    found: list[Sweep]
    fails: BaseException | None = None
    asked: int = 0

    def find_sweep(self, target: Any, wanted: str) -> Sweep:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return self.found[min(self.asked, len(self.found)) - 1]


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> FakeSweeps:
    import udt_cluster.cluster.client

    fake, name = FakeSweeps([seeded(60)]), "udt_cluster.cluster.client.sweeps"
    module = ModuleType(name)
    module.find_sweep = fake.find_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(udt_cluster.cluster.client, "sweeps", module, raising=False)
    monkeypatch.setattr(tune, "_POLL_SECONDS", 0.0)
    for variable in ("UDT_TARGET", "UDT_JOBS_API", "UDT_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    return fake


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def show(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def command(*words: str) -> Ran:
        capfd.readouterr()
        try:
            typer.main.get_command(tune.app).main(["show", *words], standalone_mode=False)
            code = 0
        except UdtError as error:
            typer.echo(str(error), err=True)
            code = error.exit_code
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setattr(tune, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


def test_the_fake_has_the_signature_of_the_real_one() -> None:
    from udt_cluster.cluster.client.sweeps import find_sweep

    assert list(inspect.signature(find_sweep).parameters) == ["target", "wanted"]


def test_it_shows_answer_leaderboard_budget_and_the_command(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    ran = show("1a2b3c4d", "--top", "3")
    best = sweeps.found[0].finished[0]
    assert ran.code == 0
    assert f"The best is trial {best.number} with num_heads" in ran.out
    assert "60 trials: 23 finished, 34 pruned, 2 diverged, 1 failed" in ran.out
    assert "[####################] 60 of 60" in ran.out
    assert "the loss was not finite at epoch 3 (trials 11, 23)" in ran.out
    lines = ran.out.splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("#  TRIAL"))
    assert [line.split()[1] for line in lines[head + 1 : head + 4]] == [
        str(one.number) for one in sweeps.found[0].finished[:3]
    ]
    assert len(lines) == head + 4
    assert f"--set train.lr={best.settings['train.lr']!r}" in ran.err
    assert "tune show 1a2b3c4d --report FOLDER" in ran.err
    assert "--watch" not in ran.err, "it has ended"
    assert "\x1b" not in ran.out + ran.err


def test_running_trials_show_their_last_rung(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [seeded(30, running=4)]
    ran = show()
    row = next(line for line in ran.out.splitlines() if line.startswith("28 "))
    assert row.split()[1:4] == ["3", "30", f"{sweeps.found[0].trials[28].rungs[-1].value:.4f}"]
    assert "So far the best" in ran.out
    assert "tune show 1a2b3c4d --watch    until it has ended" in ran.err


@pytest.mark.parametrize("count", [0, 3])
def test_before_the_first_trial_has_finished_it_says_so(
    count: int, sweeps: FakeSweeps, show: Callable[..., Ran]
) -> None:
    sweeps.found = [seeded(count, running=count, state="running")]
    ran = show()
    assert ran.code == 0
    assert ("No trial has begun." if count == 0 else "No trial has finished yet: 3 running.") in ran.out
    assert "#  TRIAL" not in ran.out
    assert "submit JOB.yaml" not in ran.err


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("count", [0, 5, 60, 1000])
def test_on_a_terminal_nothing_is_wider_than_it(count: int, sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [seeded(count, running=min(4, count), job="heart-1a2b3c4d")]
    ran = show("--top", "5")
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "heart-1a2b3c4d" in ran.out
    if count > 5:
        assert "SETTINGS" in ran.out
        assert f"{sweeps.found[0].finished[0].score:.4f}" in ran.out, "numbers are never folded"


def test_json_has_everything(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    found = json.loads(show("--json").out)
    sweep = sweeps.found[0]
    assert found["answer"]["best"] == sweep.finished[0].number
    assert found["budget"]["trials"] == {"used": 60, "limit": 60}
    assert found["counts"]["pruned"] == 34
    assert {one["number"] for one in found["trials"]} == set(range(60))
    first = found["trials"][0]
    assert (first["rank"], first["state"], len(first["runs"]), len(first["rungs"])) == (1, "finished", 3, 3)
    assert first["score"] == sweep.finished[0].score
    assert found["command"].startswith("udt-cluster submit JOB.yaml --set tune=null")
    assert found["spaces"][2]["values"] == ["none", "identity", "dra_channel", "dra_spatial"]


def test_json_of_a_sweep_without_an_answer(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [sweep_of(trial(0, (float("nan"),), "diverged", message="not finite"), spaces=ONE_SPACE)]
    found = json.loads(show("--json").out)
    assert (found["answer"]["best"], found["command"], found["trials"][0]["score"]) == (None, None, None)
    assert found["failures"] == [{"state": "diverged", "message": "not finite", "trials": [0]}]


def test_watching_tells_each_change_once_and_ends_with_the_sweep(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [seeded(9, running=3), seeded(9, running=3), seeded(9, running=1), seeded(9)]
    ran = show("--watch")
    told = [line for line in ran.err.splitlines() if " of 60 trials: " in line]
    assert len(told) == 2
    assert told[0].startswith("9 of 60 trials: 3 finished, 3 pruned, 3 running; best 0.")
    assert ran.out.count("#  TRIAL") == 1
    assert sweeps.asked == 4


@pytest.mark.usefixtures("narrow")
def test_watching_on_a_terminal_redraws_until_the_end(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [seeded(9, running=3), seeded(9)]
    ran = show("--watch", "--top", "2")
    assert len(re.findall(r"^state +finished", ran.out, flags=re.MULTILINE)) == 1
    assert sweeps.asked == 2


def test_who_stops_watching_is_told_how_to_return(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.found = [seeded(9, running=3)]

    class Left(FakeSweeps):
        def find_sweep(self, target: Any, wanted: str) -> Sweep:
            if self.asked:
                raise KeyboardInterrupt
            return super().find_sweep(target, wanted)

    sys.modules["udt_cluster.cluster.client.sweeps"].find_sweep = Left(sweeps.found).find_sweep  # type: ignore[attr-defined]
    ran = show("--watch")
    assert ran.code == 130
    assert "lives on" in ran.err


def test_a_job_without_a_sweep_ends_with_2(sweeps: FakeSweeps, show: Callable[..., Ran]) -> None:
    sweeps.fails = UsageError("job heart-1a2b3c4d searches nothing: its file has no section tune")
    ran = show("last")
    assert (ran.code, ran.out) == (2, "")


def test_the_report_is_written_where_it_was_asked_for(
    sweeps: FakeSweeps, show: Callable[..., Ran], tmp_path: Path
) -> None:
    sweeps.found = [replace(sweep_of(trial(0), trial(1, (0.7,))), job="heart-1a2b3c4d")]
    ran = show("--report", str(tmp_path / "out"))
    assert f"report  {tmp_path / 'out' / 'index.html'}" in ran.out
    assert (tmp_path / "out" / "trials.csv").is_file()
    (tmp_path / "file").write_text("")
    assert show("--report", str(tmp_path / "file")).code == 2
