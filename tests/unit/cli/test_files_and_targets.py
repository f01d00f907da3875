"""init, schema, validate and target, which need no cluster."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.cli import templates
from udt_cluster.config.load import load_job
from udt_cluster.config.schema import json_schema

REMOTE = (
    *("--jobs-api", "http://head:8265", "--tracking", "http://mlflow:5000"),
    *("--storage", "s3://bucket/x", "--endpoint", "http://s3:9000"),
)


@pytest.mark.parametrize("name", templates.names())
def test_every_template_becomes_a_job_file_that_loads(name: str, tmp_path: Path, run: Callable[..., Any]) -> None:
    path = tmp_path / "new" / "job.yaml"
    ran = run("init", "--template", name, str(path))
    assert (ran.code, ran.out) == (0, f"{path}\n")
    assert load_job(path).name
    assert f"udt-cluster submit {path}" in path.read_text()
    assert f"udt-cluster submit {path} --wait" in ran.err
    assert json.loads((path.parent / "job.schema.json").read_text()) == json_schema()


def test_init_replaces_nothing_unless_told(tmp_path: Path, run: Callable[..., Any]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("mine")
    ran = run("init", str(path))
    assert (ran.code, path.read_text()) == (2, "mine")
    assert "--force" in ran.err
    assert run("init", str(path), "--force").code == 0
    assert load_job(path).data.adapter == "image_folder"


def test_init_writes_into_the_current_folder_or_a_given_one(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "-t", "acdc").out == "acdc.yaml\n"
    (tmp_path / "sub").mkdir()
    assert json.loads(run("init", "-t", "glas", "sub", "--json").out) == {"path": "sub/glas.yaml", "template": "glas"}
    assert (tmp_path / "sub" / "glas.yaml").is_file()


def test_the_list_of_templates(run: Callable[..., Any]) -> None:
    lines = run("init", "--list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["TEMPLATE", *templates.names()]
    assert "acdc" in {entry["name"] for entry in json.loads(run("init", "--list", "--json").out)}


def test_templates_of_an_installed_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "udt_cluster"
    (package / "_jobs").mkdir(parents=True)
    (package / "_jobs" / "only.yaml").write_text("# What:     a job. More.\nversion: 1\n")
    monkeypatch.setattr("udt_cluster.__file__", str(package / "__init__.py"))
    assert templates.names() == ["only"]
    assert templates.what("only") == "a job"


def test_schema_is_json(run: Callable[..., Any]) -> None:
    assert json.loads(run("schema").out) == json_schema()


def test_validate_says_what_the_job_is(job_file: Path, run: Callable[..., Any]) -> None:
    ran = run("validate", str(job_file), "--set", "train.epochs=7")
    assert ran.code == 0
    assert "at most 7 epochs" in ran.out
    found = json.loads(run("validate", str(job_file), "--json").out)
    assert (found["valid"], found["hash"]) == (True, load_job(job_file).hash)
    assert found["job"]["register"]["alias"] == "candidate"


def test_validate_gives_findings_to_programs_with_line_and_field(job_file: Path, run: Callable[..., Any]) -> None:
    ran = run("validate", str(job_file), "--json", "--set", "train.epoch=3", "--set", "name=A")
    found = json.loads(ran.out)
    assert (ran.code, found["valid"]) == (2, False)
    assert {(entry["field"], entry["line"]) for entry in found["problems"]} == {("train.epoch", None), ("name", None)}
    assert found["problems"][0]["suggested"] == ["train.epochs"]


def test_a_target_is_kept_used_and_listed(
    isolated_home: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UDT_TARGET", raising=False)
    monkeypatch.delenv("UDT_JOBS_API", raising=False)
    assert run("target", "add", "gpu1", *REMOTE).out == "gpu1\n"
    listed = {entry["name"]: entry for entry in json.loads(run("target", "ls", "--json").out)}
    assert (listed["local"]["current"], listed["gpu1"]["current"]) == (True, False)
    assert listed["gpu1"]["storage"] == "s3://bucket/x"
    assert run("target", "use", "gpu1").code == 0
    lines = run("target", "ls").out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("*")] == [["*", "gpu1"]]
    monkeypatch.setenv("UDT_TARGET", "local")
    ran = run("target", "use", "gpu1")
    assert "the environment" in ran.err


def test_a_target_takes_no_password_and_no_address_that_is_none(isolated_home: Path, run: Callable[..., Any]) -> None:
    for option, value in [("--jobs-api", "head:8265"), ("--tracking", "http://u:secret@mlflow:5000")]:
        assert run("target", "add", "gpu1", option, value).code == 2
    assert run("target", "add", "gpu1", *REMOTE, "--token-file", "nosuch").code == 2
    assert [entry["name"] for entry in json.loads(run("target", "ls", "--json").out)] == ["local"]
