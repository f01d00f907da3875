"""What each command asks of the cluster, prints and answers."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.errors import DataError, RefusedError, TargetUnreachableError

RUNNING = {"fold": 0, "seed": 1, "epoch": 2, "epochs": 10, "val_dice": 0.5, "eta_seconds": 130}
SET = {
    "uri": "/store/data/acdc/ab12",
    "dataset": "acdc",
    "version": "ab12",
    "cases": 8,
    "samples": 120,
    "size": [64, 64],
    "classes": ["background", "rv"],
    "bytes": 1234567,
    "warnings": ["folds may leak"],
}
MODEL = {
    "name": "heart",
    "version": 3,
    "aliases": ["candidate"],
    "metrics": {"dice": 0.87},
    "data_version": "ab12",
    "run_id": "r1",
}


@pytest.fixture
def status() -> Any:
    conftest = sys.modules[next(name for name in sys.modules if name.endswith("unit.cli.conftest"))]
    return conftest.FakeStatus(progress=RUNNING)


@pytest.fixture
def done(status: Any) -> Any:
    conftest = sys.modules[next(name for name in sys.modules if name.endswith("unit.cli.conftest"))]
    return replace(
        status,
        state="SUCCEEDED",
        stage="register",
        finished_at="2026-01-02T03:07:17+00:00",
        results=conftest.RESULTS,
        seconds={"train": 100.0},
    )


def test_submit_prints_the_id_the_pages_and_what_to_type_next(
    cluster: Any, run: Callable[..., Any], job_file: Path
) -> None:
    ran = run("submit", str(job_file), "--set", "train.epochs=3")
    assert ran.code == 0
    assert ran.out.split() == [
        *("job", "heart-1a2b3c4d"),
        *("dashboard", "http://127.0.0.1:8265/#/jobs/heart-1a2b3c4d"),
        *("mlflow", "http://127.0.0.1:5000/#/runs/r1"),
    ]
    assert "looking at the nodes" in ran.err
    for command in ("status 1a2b3c4d --follow", "logs -f 1a2b3c4d", "stop 1a2b3c4d"):
        assert f"udt-cluster {command}" in ran.err
    ((name, (job, text, target)),) = cluster.calls
    assert (name, job.train.epochs, text, target) == ("submit", 3, job_file.read_text(), "local")


def test_submit_json_is_one_document(cluster: Any, run: Callable[..., Any], job_file: Path) -> None:
    ran = run("submit", str(job_file), "--json")
    assert json.loads(ran.out)["id"] == "heart-1a2b3c4d"


def test_stages_are_a_shorter_set(cluster: Any, run: Callable[..., Any], job_file: Path) -> None:
    assert run("submit", str(job_file), "--stages", "prepare,train").code == 0
    assert cluster.calls[0][1][0].stages == ("prepare", "train")
    assert run("submit", str(job_file), "--stages", "train").code == 2


def test_a_dry_run_asks_for_the_plan_only(
    cluster: Any, run: Callable[..., Any], job_file: Path, isolated_home: Path
) -> None:
    ran = run("submit", str(job_file), "--dry-run", "--wait")
    assert (ran.code, cluster.calls) == (0, [("plan", "heart")])
    assert ran.out == "job     heart\ntarget  local\n"
    plan = json.loads(run("submit", str(job_file), "--dry-run", "--json").out)["plan"]
    assert plan[0] == {"what": "job", "how": "heart"}
    assert list(isolated_home.iterdir()) == []


def test_waiting_shows_progress_then_scores_model_and_how_to_scale_up(
    cluster: Any, run: Callable[..., Any], job_file: Path, status: Any, done: Any
) -> None:
    cluster.updates = [status, status, replace(status, progress={**RUNNING, "epoch": 3}), done]
    ran = run("submit", str(job_file), "--wait", "--set", "train.epochs=10")
    assert ran.code == 0
    assert "train  fold 0  seed 1  epoch 2/10  Dice 0.500  2 min 10 s left" in ran.err.splitlines()
    assert ran.err.count("epoch 2/10") == 1
    assert "f0-s1  2      validation  0.870  0.610     0.770  -" in ran.out
    assert "heart version 3, heart@candidate" in ran.out
    assert "3 min 12 s" in ran.out
    assert "warning: empty masks: 1" in ran.err
    wanted = f"udt-cluster submit {job_file} --set train.epochs=10 --set 'repeat.folds=[0,1,2,3,4]'"
    assert wanted in ran.err


def test_waiting_in_json_prints_the_end_only(cluster: Any, run: Callable[..., Any], job_file: Path, done: Any) -> None:
    cluster.updates = [done]
    ran = run("submit", str(job_file), "--wait", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["state"], found["results"]["register"]["version"]) == (0, "SUCCEEDED", 3)
    assert found["results"]["evaluate"]["runs"]["heart-1a2b3c4d-f0-s1"]["validation"]["mean"]["hd95"] is None


@pytest.mark.parametrize(
    ("left", "code"), [({}, 1), ({"exit_code": 3, "problems": ["case 7: no mask"]}, 3), ({"exit_code": 4}, 4)]
)
def test_a_failed_job_ends_the_wait_with_the_code_of_its_cause(
    left: dict[str, Any], code: int, cluster: Any, run: Callable[..., Any], job_file: Path, status: Any
) -> None:
    failed = replace(status, state="FAILED", stage="prepare", message="masks are missing", results={"error": left})
    cluster.updates = [failed]
    ran = run("submit", str(job_file), "--wait")
    assert ran.code == code
    assert "error: job heart-1a2b3c4d is FAILED in stage prepare: masks are missing." in ran.err
    assert "udt-cluster logs 1a2b3c4d" in ran.err
    assert ("case 7: no mask" in ran.err) == (code == 3)


@pytest.mark.parametrize("state", ["STOPPED", "LOST"])
def test_a_job_that_did_not_end_well_is_no_success(
    state: str, cluster: Any, run: Callable[..., Any], job_file: Path, status: Any
) -> None:
    cluster.updates = [replace(status, state=state)]
    assert run("submit", str(job_file), "--wait").code == 1


@pytest.mark.parametrize(
    "words", [("submit", "FILE", "--wait"), ("status", "last", "--follow"), ("logs", "-f", "last")]
)
def test_ctrl_c_leaves_the_job_alive_and_says_how_to_return(
    words: tuple[str, ...], cluster: Any, run: Callable[..., Any], job_file: Path, status: Any
) -> None:
    cluster.known, cluster.updates = [status], [status]
    fails, submit, find = KeyboardInterrupt(), cluster.submit, cluster.find_job
    module = sys.modules["udt_cluster.cluster.client.jobs"]

    def then(first: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = first(*args, **kwargs)
            cluster.fails = fails
            return result

        return call

    module.submit, module.find_job = then(submit), then(find)  # type: ignore[attr-defined]
    ran = run(*(str(job_file) if word == "FILE" else word for word in words))
    assert ran.code == 130
    assert "job heart-1a2b3c4d lives on" in ran.err
    assert "udt-cluster status 1a2b3c4d --follow" in ran.err
    assert "interrupted" not in ran.err
    assert not [name for name, _ in cluster.calls if name in {"stop", "remove"}]


def test_ls_has_a_row_for_each_job_and_json_a_list(
    cluster: Any, run: Callable[..., Any], status: Any, done: Any
) -> None:
    cluster.known = [status, replace(done, id="heart-00000000")]
    lines = run("ls").out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATE", "PROGRESS", "DICE", "SUBMITTED"]
    assert lines[1].split()[:3] == ["1a2b3c4d", "heart", "RUNNING"]
    assert "SUCCEEDED" in lines[2]
    assert "0.870" in lines[2]
    assert [entry["id"] for entry in json.loads(run("ls", "--json").out)] == ["heart-1a2b3c4d", "heart-00000000"]


def test_an_empty_list_says_what_to_do_and_is_an_empty_list_in_json(cluster: Any, run: Callable[..., Any]) -> None:
    for words, remedy in [(("ls",), "submit"), (("models", "ls"), "submit"), (("data", "ls"), "data prepare")]:
        ran = run(*words)
        assert (ran.code, ran.out) == (0, "")
        assert f"udt-cluster {remedy} JOB.yaml" in ran.err
        assert json.loads(run(*words, "--json").out) == []


def test_status_takes_the_last_job_unless_told(cluster: Any, run: Callable[..., Any], done: Any) -> None:
    cluster.known = [done]
    assert "SUCCEEDED" in run("status").out
    assert cluster.calls == [("find_job", "last")]
    assert json.loads(run("status", "1a2b3c4d", "--json").out)["run_id"] == "r1"


def test_following_a_job_that_has_ended_shows_it_at_once(cluster: Any, run: Callable[..., Any], done: Any) -> None:
    cluster.known = [done]
    assert run("status", "last", "--follow").code == 0
    assert ("follow", done.id) not in cluster.calls


def test_logs_are_printed_as_they_are(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [status]
    assert run("logs", "last").out == "first\nsecond\n"
    assert json.loads(run("logs", "last", "--json").out) == {"id": status.id, "text": "first\nsecond\n"}


def test_stop_and_rm_act_on_the_full_id(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [status]
    assert run("stop", "1a2b3c4d").out == "heart-1a2b3c4d is STOPPED\n"
    assert "is deleted" in run("rm", "1a2b3c4d", "--yes").out
    assert [call for call in cluster.calls if call[0] != "find_job"] == [("stop", status.id), ("remove", status.id)]
    assert json.loads(run("rm", "1a2b3c4d", "--yes", "--json").out) == {"removed": status.id}


def test_rm_asks_a_person_and_takes_no_for_an_answer(
    cluster: Any, run: Callable[..., Any], status: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    cluster.known = [status]
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    ran = run("rm", "1a2b3c4d")
    assert ran.code == 130
    assert ("remove", status.id) not in cluster.calls


def test_rm_deletes_nothing_where_there_is_nobody_to_ask(cluster: Any, run: Callable[..., Any], status: Any) -> None:
    cluster.known = [status]
    ran = run("rm", "1a2b3c4d")
    assert ran.code == 2
    assert "say --yes" in ran.err
    assert ("remove", status.id) not in cluster.calls


def test_evaluate_hands_over_the_wish_to_see_the_test_cases(cluster: Any, run: Callable[..., Any], done: Any) -> None:
    cluster.known = [done]
    assert "heart-99999999" in run("evaluate", "last", "--test").out
    assert ("evaluate", (done.id, True)) in cluster.calls
    assert json.loads(run("evaluate", "last", "--json").out)["id"] == "heart-99999999"
    assert ("evaluate", (done.id, False)) in cluster.calls


def test_data_verbs(cluster: Any, run: Callable[..., Any], job_file: Path, tmp_path: Path) -> None:
    cluster.sets = [SET]
    ran = run("data", "prepare", str(job_file), "--to", "s3://bucket/x")
    assert cluster.calls == [("prepare_data", (str(job_file.parent / "ACDC"), "s3://bucket/x"))]
    assert "already there; nothing was done (0 s)" in ran.out
    assert "warning: folds may leak" in ran.err
    assert json.loads(run("data", "prepare", str(job_file), "--json").out)["already_there"] is True
    assert run("data", "ls").out.splitlines()[1].split()[:6] == ["acdc/ab12", "8", "120", "64x64", "1.2", "MB"]
    picture = tmp_path / "out.png"
    assert str(picture) in run("data", "show", "acdc/ab12", "--preview", str(picture)).out
    assert run("data", "show", "acdc/ab12", "--preview", str(tmp_path / "no" / "out.png")).code == 2
    assert json.loads(run("data", "show", "acdc/ab12", "--json").out)["version"] == "ab12"


def test_models_json_has_the_promised_keys(cluster: Any, run: Callable[..., Any]) -> None:
    cluster.models_ = [MODEL]
    (entry,) = json.loads(run("models", "ls", "--json").out)
    assert set(entry) == {"name", "version", "aliases", "metrics", "data_version", "run_id"}
    assert run("models", "ls").out.splitlines()[1].split() == ["heart", "3", "candidate", "0.870", "ab12", "r1"]
    assert "0.8700" in run("models", "show", "heart@candidate").out
    assert json.loads(run("models", "show", "heart@candidate", "--json").out)["tags"] == {"udt.job": "heart-1a2b3c4d"}


def test_models_rm_asks_and_removes_one_version(cluster: Any, run: Callable[..., Any]) -> None:
    cluster.models_ = [MODEL]
    assert run("models", "rm", "heart/3").code == 2, "there is nobody to ask"
    assert cluster.calls == []
    assert run("models", "rm", "heart/3", "--yes").out == "heart version 3 is removed\n"
    assert json.loads(run("models", "rm", "heart@candidate", "--force", "--yes", "--json").out)["version"] == 3
    assert cluster.calls == [("remove_model", ("heart/3", False)), ("remove_model", ("heart@candidate", True))]


def test_models_ls_shows_the_newest_unless_all_are_wanted(cluster: Any, run: Callable[..., Any]) -> None:
    cluster.models_ = [MODEL] * 60
    few, many = run("models", "ls"), run("models", "ls", "--all")
    assert (len(few.out.splitlines()), len(many.out.splitlines())) == (51, 61)
    assert "udt-cluster models ls --all" in few.err


def test_dashboard_and_down(cluster: Any, run: Callable[..., Any]) -> None:
    assert "http://127.0.0.1:8265" in run("dashboard").out
    assert json.loads(run("dashboard", "--json").out)["mlflow"] == "http://127.0.0.1:5000"
    assert run("down").out.startswith("stopped Ray at")
    assert len(json.loads(run("down", "--json").out)["stopped"]) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusedError("the nodes cannot run it", ["node 1: torch 2.12"]), 3),
        (DataError("images without masks", ["a.png"]), 3),
        (TargetUnreachableError("no answer from http://x"), 4),
    ],
)
def test_an_error_of_the_cluster_ends_with_its_code_on_both_channels(
    error: Exception, code: int, cluster: Any, run: Callable[..., Any], job_file: Path
) -> None:
    cluster.fails = error
    ran = run("submit", str(job_file))
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"error: {error}\n"
    found = json.loads(run("submit", str(job_file), "--json").out)["error"]
    assert (found["kind"], found["exit_code"]) == (type(error).__name__, code)
