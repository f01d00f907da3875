"""Versions in a real registry: listed, found by a reference, removed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from udt_cluster.errors import RefusedError, UsageError
from udt_cluster.tracking import ModelVersion, Tracker, delete_version, download, list_models, resolve, show

pytestmark = [pytest.mark.component, pytest.mark.mlflow]


def test_models_of_others_are_listed_and_not_loaded(
    tracker: Tracker, client: MlflowClient, name: str, run_id: str, tmp_path: Path
) -> None:
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run_id}/model", run_id)
    assert show(name, tracker=tracker)["metrics"] == {}
    with pytest.raises(RefusedError, match="not of udt-cluster's making"):
        download(name, tmp_path, tracker=tracker)


def test_listing(
    register: Callable[..., ModelVersion], tracker: Tracker, name: str, run_id: str, own_files: Path
) -> None:
    register(metrics={"dice": 0.5, "hd95": float("nan")})
    (own_files / "spec.json").write_text("{}")
    register(metrics={"dice": 0.6}, alias=None)
    mine = [model for model in list_models(tracker) if model["name"] == name]
    common = {"name": name, "data_version": "4f5e", "run_id": run_id}
    assert mine == [
        common | {"version": 2, "aliases": [], "metrics": {"dice": 0.6}},
        common | {"version": 1, "aliases": ["candidate"], "metrics": {"dice": 0.5, "hd95": None}},
    ]
    shown = show(f"models:/{name}@candidate", tracker=tracker)
    assert mine[1].items() <= shown.items()
    assert (shown["uri"], shown["tags"]["job_hash"]) == (f"models:/{name}/1", "0123")


def test_references(register: Callable[..., ModelVersion], tracker: Tracker, name: str, own_files: Path) -> None:
    register()
    (own_files / "spec.json").write_text("{}")
    register(alias="champion")
    wanted = {
        f"{name}": 2,
        f"{name}/latest": 2,
        f"models:/{name}": 2,
        f"{name}@candidate": 1,
        f"models:/{name}@champion": 2,
        f"{name}/1": 1,
        f"models:/{name}/2": 2,
    }
    assert {reference: resolve(reference, tracker=tracker).version for reference in wanted} == wanted


def test_unknown_references_list_what_there_is(
    register: Callable[..., ModelVersion], tracker: Tracker, name: str
) -> None:
    register()
    with pytest.raises(UsageError, match=rf"no registered model is called 'nothing'.*{name}"):
        resolve("nothing@candidate", tracker=tracker)
    with pytest.raises(UsageError, match=r"no alias 'champion'; it has: candidate"):
        resolve(f"{name}@champion", tracker=tracker)
    with pytest.raises(UsageError, match=r"no version 7; it has: 1"):
        resolve(f"{name}/7", tracker=tracker)
    with pytest.raises(UsageError, match="allowed: NAME, NAME@ALIAS"):
        resolve("models:/a/b/c", tracker=tracker)


def test_the_newest_versions_come_first_where_only_some_are_wanted(
    register: Callable[..., ModelVersion], tracker: Tracker, name: str, own_files: Path
) -> None:
    for content in ("1", "2", "3"):
        (own_files / "spec.json").write_text(content)
        register(alias="champion" if content == "2" else None)
    newest = list_models(tracker, limit=2)
    assert [(found["name"], found["version"], found["aliases"]) for found in newest] == [
        (name, 3, []),
        (name, 2, ["champion"]),
    ]
    assert newest[0] in list_models(tracker)


def test_a_version_is_removed_with_its_files_and_its_number_stays_unused(
    register: Callable[..., ModelVersion], tracker: Tracker, client: MlflowClient, name: str, own_files: Path
) -> None:
    register()
    (own_files / "spec.json").write_text("{}")
    second = register(alias=None)
    model_id = str(client.get_model_version(name, "2").source).removeprefix("models:/")
    assert client.get_logged_model(model_id).status == LoggedModelStatus.READY
    assert delete_version(f"{name}/2", tracker=tracker).summary() == second.summary()
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(model_id)
    assert [model["version"] for model in list_models(tracker) if model["name"] == name] == [1]
    with pytest.raises(UsageError, match="has no version 2; it has: 1"):
        delete_version(f"{name}/2", tracker=tracker)
    assert register(alias=None).version == 3, "registered anew, under a number of its own"
    assert resolve(f"{name}@candidate", tracker=tracker).version == 1


def test_what_an_alias_stands_for_is_removed_by_force_only(
    register: Callable[..., ModelVersion], tracker: Tracker, client: MlflowClient, name: str
) -> None:
    register()
    for reference in (f"{name}@candidate", f"{name}/1", name):
        with pytest.raises(RefusedError, match=rf"{name}@candidate stands for.*--force"):
            delete_version(reference, tracker=tracker)
    assert client.get_model_version_by_alias(name, "candidate").version == "1"
    assert delete_version(f"{name}@candidate", tracker=tracker, force=True).version == 1
    with pytest.raises(UsageError, match=rf"{name} has no version 0; it has: none yet"):
        resolve(name, tracker=tracker)
    with pytest.raises(UsageError, match="has no alias 'candidate'; it has: none yet"):
        resolve(f"{name}@candidate", tracker=tracker)


def test_a_name_alone_removes_nothing_where_it_could_mean_several(
    register: Callable[..., ModelVersion], tracker: Tracker, name: str, own_files: Path
) -> None:
    register(alias=None)
    (own_files / "spec.json").write_text("{}")
    register(alias=None)
    with pytest.raises(UsageError, match=f"{name} has the versions 1, 2; say which one: {name}/2"):
        delete_version(name, tracker=tracker, force=True)
    delete_version(f"{name}/2", tracker=tracker)
    assert delete_version(name, tracker=tracker).version == 1
    with pytest.raises(UsageError, match="no model reference"):
        delete_version("a/b/c", tracker=tracker)


def test_files_that_another_version_has_too_stay(
    tracker: Tracker, client: MlflowClient, register: Callable[..., ModelVersion], name: str, tmp_path: Path
) -> None:
    register(alias=None)
    entry = client.get_model_version(name, "1")
    other = f"{name}-copy"
    client.create_registered_model(other)
    model_id = str(entry.source).removeprefix("models:/")
    client.create_model_version(other, entry.source, entry.run_id, entry.tags, await_creation_for=0, model_id=model_id)
    delete_version(name, tracker=tracker)
    assert client.get_logged_model(model_id).status == LoggedModelStatus.READY
    assert (download(other, tmp_path / "got", tracker=tracker) / "spec.json").is_file()
