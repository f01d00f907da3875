"""data check, unpack, rm and gc: what is asked for, what is printed, and which exit code it ends with."""

import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.check import CheckReport, Finding
from tests.unit.cli.conftest import FakeCluster

Run = Callable[..., Any]
JOB = "name: heart\ndata: {source: /x, adapter: acdc}\n"


def report(*findings: Finding) -> CheckReport:
    counts = {"cases": 3, "refused": sum(finding.severity == "refused" for finding in findings)}
    return CheckReport(source="/x", adapter="acdc", findings=findings, counts=counts)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_check_ends_with_three_where_training_must_not_start(run: Run, cluster: FakeCluster, job: Path) -> None:
    finding = Finding(row="D2", severity="refused", case="a", message="the mask has 3 x 3 pixels", remedy="Cut it.")
    cluster.report = report(finding)
    ran = run("data", "check", str(job))
    assert ran.code == 3
    assert "refused  D2  a: the mask has 3 x 3 pixels" in ran.out
    assert "-> Cut it." in ran.out
    assert cluster.calls == [("check_data", ("acdc", False))]
    answer = json.loads(run("data", "check", str(job), "--json").out)
    assert (answer["blocks"], answer["findings"][0]["row"]) == (True, "D2")


def test_check_of_good_data_ends_with_zero_and_writes_the_page(run: Run, cluster: FakeCluster, job: Path) -> None:
    cluster.report = report()
    page = job.parent / "check.html"
    ran = run("data", "check", str(job), "--html", str(page))
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "passed")
    assert page.read_text().startswith("<!doctype html>")
    assert cluster.calls == [("check_data", ("acdc", True))]
    assert run("data", "check", str(job), "--html", str(job.parent / "no" / "x.html")).code == 2


def test_check_of_a_folder_needs_no_job(run: Run, cluster: FakeCluster, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "pairs" / kind / f"{number}.png")
    cluster.report = report()
    assert run("data", "check", str(tmp_path / "pairs")).code == 0
    assert cluster.calls == [("check_data", ("image_folder", False))]
    assert run("data", "check", str(tmp_path / "pairs"), "--set", "data.size=[32,32]").code == 2


def test_unpack_says_what_came_out(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/1.png", b"x" * 10)
    ran = run("data", "unpack", str(tmp_path / "a.zip"), str(tmp_path / "out"))
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'out'}: 1 file, 10 B\n")
    assert f"udt-cluster init {tmp_path / 'out'}" in ran.err


def test_rm_and_gc(run: Run, cluster: FakeCluster) -> None:
    cluster.sets = [{"uri": "s3://bucket/x/data/acdc/ab12", "dataset": "acdc", "version": "ab12"}]
    assert run("data", "rm", "acdc/ab12", "--yes").out.startswith("acdc/ab12 is deleted")
    ran = run("data", "gc", "--dry-run", "--older-than", "2d")
    assert "not used" in ran.out
    assert "would delete: 1, 2.0 kB" in ran.err
    assert cluster.calls == [("remove_data", "acdc/ab12"), ("collect_data", (timedelta(days=2), True))]
    assert run("data", "gc", "--older-than", "soon").code == 2


def test_fault_S9_no_control_sign_of_a_case_id_reaches_the_terminal(run: Run, cluster: FakeCluster) -> None:
    warning = "case a\x1b]0;x\x07\nb\u202e\udcff is left out: broken"
    facts = {"dataset": "set", "version": "ab12", "uri": "/s", "cases": 1, "samples": 1, "size": [32, 32]}
    cluster.sets = [{**facts, "warnings": [warning]}]
    ran = run("data", "show", "set/ab12")
    assert r"case a\x1b]0;x\x07\nb\u202e\udcff is left out: broken" in ran.err
