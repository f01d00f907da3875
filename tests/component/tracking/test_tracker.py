"""Runs against a real MLflow server; every assertion goes through MLflow's own client."""

import json
import pickle
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.servers.mlflow import LossyProxy, MlflowServer, SilentServer
from udt_cluster.errors import AuthError, RefusedError, TrackingUnreachableError, UsageError
from udt_cluster.tracking import EndedRuns, Tracker

pytestmark = [pytest.mark.component, pytest.mark.mlflow]

JOB = {"name": "acdc", "data": {"size": [64, 64], "source": "s3://b/acdc"}, "train": {"lr": 1e-3, "init_from": None}}
TAGS = {"job_hash": "0123", "data_version": "v1", "git_sha": None}


def test_parent_run_has_its_params_tags_and_files(
    tracker: Tracker, client: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    run_id = tracker.start_parent(experiment, "acdc-1", tags=TAGS, params=JOB, key="acdc-1")
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    tracker.log_file(run_id, tmp_path / "job.json")
    tracker.log_text(run_id, "name: acdc\n", "job.yaml")
    tracker.log_folder(run_id, tmp_path, "scores")
    tracker.finish(run_id)

    run = client.get_run(run_id)
    found = client.get_experiment(run.info.experiment_id)
    assert (found.name, found.tags["mlflow.experimentKind"]) == (experiment, "custom_model_development")
    assert run.data.params == {
        "name": "acdc",
        "data.size": "[64, 64]",
        "data.source": "s3://b/acdc",
        "train.lr": "0.001",
        "train.init_from": "null",
    }
    assert {"job_hash": "0123", "data_version": "v1", "udt.run": "acdc-1"}.items() <= run.data.tags.items()
    assert "git_sha" not in run.data.tags
    assert (run.info.run_name, run.info.status) == ("acdc-1", "FINISHED")
    assert {item.path for item in client.list_artifacts(run_id)} == {"job.json", "job.yaml", "scores"}
    assert [item.path for item in client.list_artifacts(run_id, "scores")] == ["scores/job.json"]


def test_long_params_are_cut_to_what_mlflow_takes(tracker: Tracker, client: MlflowClient, experiment: str) -> None:
    params = {f"p{number}": number for number in range(230)} | {"long": "x" * 9000, "empty": ""}
    logged = client.get_run(tracker.start_parent(experiment, "many", params=params)).data.params
    assert len(logged) == 232
    assert (len(logged["long"]), logged["long"][-4:], logged["empty"]) == (6000, "x...", "")


def test_two_submissions_of_one_name_are_two_runs(tracker: Tracker, client: MlflowClient, experiment: str) -> None:
    first, second = tracker.start_parent(experiment, "glas"), tracker.start_parent(experiment, "glas")
    assert first != second
    assert tracker.start_parent(experiment, "glas", key="k") == tracker.start_parent(experiment, "glas", key="k")
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    assert len(client.search_runs([experiment_id])) == 3


def test_fault_m3_child_is_found_again_and_keeps_its_params(
    tracker: Tracker, client: MlflowClient, experiment: str
) -> None:
    parent = tracker.start_parent(experiment, "acdc-1", key="acdc-1")
    child = tracker.start_child(parent, "acdc-1-f0-s1", tags={"attempt": 0}, params={"fold": 0, "lr": 0.1})
    tracker.finish(child, "FAILED")

    again = tracker.start_child(parent, "acdc-1-f0-s1", tags={"attempt": 1}, params={"fold": 0, "lr": 0.2, "new": 2})

    assert again == child
    run = client.get_run(child)
    assert (run.info.status, run.data.tags["mlflow.parentRunId"]) == ("RUNNING", parent)
    assert run.data.tags["attempt"] == "1"
    assert run.data.params == {"fold": "0", "lr": "0.1", "new": "2"}
    assert len(client.search_runs([run.info.experiment_id], run_view_type=ViewType.ALL)) == 2
    assert tracker.start_child(tracker.start_parent(experiment, "other"), "acdc-1-f0-s1") != child


@pytest.mark.parametrize("kept_up", [True, False])
def test_run_is_made_once_when_the_answer_is_lost(
    lossy: Callable[[Callable[[str, str], bool]], LossyProxy],
    client: MlflowClient,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    kept_up: bool,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3" if kept_up else "0")
    lost: list[str] = []

    def first_creation(_method: str, path: str) -> bool:
        if path.endswith("/runs/create") and not lost:
            lost.append(path)
            return True
        return False

    tracker = Tracker(lossy(first_creation).uri)
    if not kept_up:
        with pytest.raises(TrackingUnreachableError):
            tracker.start_parent(experiment, "glas", key="glas-1")
    run_id = tracker.start_parent(experiment, "glas", key="glas-1")

    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert [run.info.run_id for run in found] == [run_id]
    assert lost


def test_list_and_delete(tracker: Tracker, client: MlflowClient, experiment: str) -> None:
    parent = tracker.start_parent(experiment, "p", tags={"udt.user": "it's me"})
    child = tracker.start_child(parent, "p-f0-s1")
    assert [run.run_id for run in tracker.list_runs(experiment, parent_id=parent)] == [child]
    assert [run.name for run in tracker.list_runs(experiment, tags={"udt.user": "it's me"})] == ["p"]
    assert {parent, child} <= {run.run_id for run in tracker.list_runs()}
    assert tracker.list_runs("no-such-experiment") == []
    assert tracker.run(child).parent_id == parent

    tracker.delete(parent)
    assert {client.get_run(run_id).info.lifecycle_stage for run_id in (parent, child)} == {"deleted"}
    assert tracker.list_runs(experiment) == []


def test_children_that_have_not_ended_end_with_the_parent(
    tracker: Tracker, client: MlflowClient, experiment: str
) -> None:
    parent = tracker.start_parent(experiment, "p")
    first, second = tracker.start_child(parent, "p-f0-s1"), tracker.start_child(parent, "p-f1-s1")
    tracker.finish(first)
    tracker.finish_tree(parent, "KILLED")
    assert [client.get_run(run).info.status for run in (parent, first, second)] == ["KILLED", "FINISHED", "KILLED"]


def test_stale_runs_are_ended_and_no_others(tracker: Tracker, client: MlflowClient, experiment: str) -> None:
    parent, alive = tracker.start_parent(experiment, "p"), tracker.start_parent(experiment, "q")
    done, left = tracker.start_child(parent, "p-f0-s1"), tracker.start_child(parent, "p-f1-s1")
    tracker.finish(done)
    foreign = client.create_run(client.get_experiment_by_name(experiment).experiment_id).info.run_id
    mine = {run.run_id for run in tracker.open_runs()}
    assert {parent, alive, left} <= mine
    assert not {done, foreign} & mine

    result = tracker.end_stale(parent, "FAILED")
    assert (set(result.ended), result.problem) == ({parent, left}, "")
    wanted = {parent: "FAILED", done: "FINISHED", left: "FAILED", alive: "RUNNING", foreign: "RUNNING"}
    assert {run: client.get_run(run).info.status for run in wanted} == wanted
    assert tracker.end_stale(parent, "KILLED") == EndedRuns()
    assert client.get_run(parent).info.status == "FAILED"
    tracker.delete(alive)
    assert tracker.end_stale(alive, "FAILED") == tracker.end_stale("0" * 32, "FAILED") == EndedRuns()


@pytest.mark.parametrize("patience", [0.0, 100.0])
def test_a_server_that_is_away_keeps_nobody_from_looking_at_jobs(
    silent: SilentServer, own_server: MlflowServer, patience: float
) -> None:
    for uri in (silent.uri, own_server.uri):
        began = time.monotonic()
        result = Tracker(uri, patience=patience).end_stale("0" * 32, "FAILED", seconds=2.0)
        assert time.monotonic() - began < 4
        assert result.ended == ()
        assert "answer" in result.problem
        assert uri in result.problem


def test_scores_are_logged_once_and_again_when_they_changed(
    tracker: Tracker, client: MlflowClient, run_id: str
) -> None:
    for dice in (0.9, 0.9, 0.8):
        tracker.log_metrics(run_id, {"dice": dice, "hd95": float("nan")})
    tracker.log_metrics(run_id, {})
    assert client.get_run(run_id).data.metrics["dice"] == 0.8
    assert [point.value for point in client.get_metric_history(run_id, "dice")] == [0.9, 0.8]
    assert len(client.get_metric_history(run_id, "hd95")) == 1


def test_experiment_in_the_trash_is_restored(tracker: Tracker, client: MlflowClient, experiment: str) -> None:
    tracker.start_parent(experiment, "p")
    client.delete_experiment(client.get_experiment_by_name(experiment).experiment_id)
    tracker.start_parent(experiment, "q")
    assert client.get_experiment_by_name(experiment).lifecycle_stage == "active"


def test_dataset_is_an_input_of_the_run(tracker: Tracker, client: MlflowClient, run_id: str) -> None:
    for _ in range(2):
        tracker.log_dataset(run_id, name="acdc", version="4f" * 8, uri="s3://b/data/acdc/4f", digest="ab" * 32)
    (logged,) = client.get_run(run_id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest, logged.dataset.source_type) == ("acdc", "4f" * 8, "s3")
    assert json.loads(logged.dataset.source) == {"uri": "s3://b/data/acdc/4f", "version": "4f" * 8, "digest": "ab" * 32}
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "training", "data_version": "4f" * 8}


def test_run_url_opens_the_run(
    tracker: Tracker, client: MlflowClient, run_id: str, mlflow_server: MlflowServer
) -> None:
    experiment_id = client.get_run(run_id).info.experiment_id
    assert tracker.run_url(run_id) == f"{mlflow_server.uri}/#/experiments/{experiment_id}/runs/{run_id}"


def test_tracker_goes_to_another_process(tracker: Tracker, run_id: str) -> None:
    tracker.ping()
    copy = pickle.loads(pickle.dumps(tracker))
    assert copy.run(run_id).run_id == run_id


def test_unknown_run_and_refused_request(tracker: Tracker, run_id: str) -> None:
    with pytest.raises(UsageError, match="not found"):
        tracker.run("0" * 32)
    tracker.log_params(run_id, {"a": 1})
    with pytest.raises(RefusedError, match="Changing param values is not allowed"), tracker.calls() as client:
        client.log_param(run_id, "a", 2)


def test_foreign_host_is_refused_with_the_remedy(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("127.0.0.1" if host == "evil.test" else host, *rest, **more),
    )
    with pytest.raises(AuthError, match="--allowed-hosts"):
        Tracker(f"http://evil.test:{mlflow_server.port}").ping()


@pytest.mark.parametrize("retries", [None, "7"])
def test_nobody_listens(own_server: MlflowServer, monkeypatch: pytest.MonkeyPatch, retries: str | None) -> None:
    if retries:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    began = time.monotonic()
    with pytest.raises(TrackingUnreachableError, match=r"does not answer.*MLFLOW_TRACKING_URI"):
        Tracker(own_server.uri).start_parent("e", "n")
    assert time.monotonic() - began < 10


def test_silent_server_is_found_out(silent: SilentServer) -> None:
    began = time.monotonic()
    with pytest.raises(TrackingUnreachableError, match="does not answer"):
        Tracker(silent.uri).start_parent("e", "n")
    assert time.monotonic() - began < 10


def test_patient_tracker_waits_for_a_restart(own_server: MlflowServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Tracker(own_server.uri, patience=100).start_parent, "e", "n")
        own_server.start()
        run_id = waiting.result(timeout=60)
    assert MlflowClient(own_server.uri).get_run(run_id).info.run_name == "n"
