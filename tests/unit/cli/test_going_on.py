"""What is shown of a job that met failures, and how it goes on."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from udt_cluster.errors import RefusedError

RUN = "heart-1a2b3c4d-f0-s1"
FIRST = {
    "run": RUN,
    "number": 0,
    "workers": 2,
    "started_at": "2026-01-02T03:04:05+00:00",
    "ended_at": "2026-01-02T03:06:05+00:00",
    "kind": "worker_died",
    "cause": "rank 1 on node b was killed (SIGKILL)\nray.exceptions.ActorDiedError: ...",
    "resumed_step": 0,
    "step": 127,
    "committed_step": 120,
    "lost_steps": 7,
    "recovery_seconds": None,
    "nodes": [],
}
SECOND = {
    **FIRST,
    "number": 1,
    "kind": "",
    "cause": "",
    "resumed_step": 120,
    "step": 130,
    "lost_steps": 0,
    "recovery_seconds": 14.2,
}


@pytest.fixture
def status() -> Any:
    conftest = sys.modules[next(name for name in sys.modules if name.endswith("unit.cli.conftest"))]
    return conftest.FakeStatus()


def test_attempts_are_shown_with_their_causes_in_plain_words(
    cluster: Any, run: Callable[..., Any], status: Any
) -> None:
    cluster.known = [replace(status, attempts=[FIRST, SECOND])]
    lines = run("status").out.splitlines()
    table = [line.split() for line in lines if line.startswith(("RUN", "f0-s1"))]
    assert table[0] == ["RUN", "ATTEMPT", "WORKERS", "STEPS", "ENDED", "LOST", "STEPS", "RECOVERY"]
    assert table[1] == ["f0-s1", "0", "2", "0-127", "worker", "died", "7"]
    assert table[2] == ["f0-s1", "1", "2", "120-130", "goes", "on", "14", "s"]
    assert "f0-s1 attempt 0: rank 1 on node b was killed (SIGKILL)" in lines
    assert json.loads(run("status", "--json").out)["attempts"][0]["lost_steps"] == 7


def test_one_attempt_that_went_well_is_no_table(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, attempts=[{**FIRST, "kind": "finished"}])]
    assert "ATTEMPT" not in run("status").out


@pytest.mark.parametrize("state", ["LOST", "FAILED", "STOPPED"])
def test_a_job_that_has_ended_says_how_it_goes_on(
    cluster: Any, run: Callable[..., Any], status: Any, state: str
) -> None:
    cluster.known = [replace(status, state=state, message="its local cluster is not running", note="")]
    ran = run("status")
    assert "its local cluster is not running" in ran.out
    assert "  udt-cluster resume 1a2b3c4d    go on from its last checkpoint" in ran.err
    cluster.known = [replace(status, state="RUNNING")]
    assert "resume" not in run("status").err


def test_resume_hands_it_over_again_and_says_where_to_look(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, state="LOST")]
    ran = run("resume", "1a2b3c4d", "--set", "train.epochs=20", "--set", "resources.workers=1")
    assert ran.code == 0
    assert ("resume", (status.id, ("train.epochs=20", "resources.workers=1"))) in cluster.calls
    assert "status 1a2b3c4d --follow" in ran.err
    assert json.loads(run("resume", "last", "--json").out)["life"] == 1


def test_resume_waits_for_the_end_and_exits_with_it(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, state="LOST")]
    cluster.updates = [replace(status, state="FAILED", message="again")]
    ran = run("resume", "last", "--wait")
    assert ran.code == 1
    assert "udt-cluster resume 1a2b3c4d" in ran.err


def test_a_refusal_shows_every_difference(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, state="LOST")]

    def refuses(*_: Any, **__: Any) -> Any:
        raise RefusedError("the source is not what it was", ["data version: ab12 -> cd34", "cases: 8 -> 9"])

    sys.modules["udt_cluster.cluster.client.jobs"].resume = refuses  # type: ignore[attr-defined]
    ran = run("resume", "last")
    assert ran.code == 3
    assert "data version: ab12 -> cd34" in ran.err


def test_a_state_in_doubt_is_said(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, note="the cluster at http://head:8265 does not answer")]
    assert "does not answer" in run("status").out
    assert "does not answer" in run("ls").err


def test_ls_shows_the_newest_unless_all_are_wanted(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [replace(status, id=f"heart-{number:08x}") for number in range(60)]
    few, many = run("ls"), run("ls", "--all")
    assert len(few.out.splitlines()) == 51
    assert "udt-cluster ls --all" in few.err
    assert len(many.out.splitlines()) == 61


@pytest.mark.parametrize(("words", "rank"), [((), 0), (("--rank", "3"), 3), (("--rank", "all"), None)])
def test_logs_of_a_rank_or_of_all(
    words: tuple[str, ...], rank: int | None, cluster: Any, run: Callable[..., Any], status: Any
) -> None:
    cluster.known = [status]
    run("logs", "last", "-f", *words)
    assert cluster.calls[-1] == ("logs", (True, rank))
    assert run("logs", "last", "--rank", "first").code == 2
