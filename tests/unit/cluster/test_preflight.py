"""Preflight judges what the nodes reported: every problem, each with its remedy."""

import pickle
from typing import Any

import pytest

from udt_cluster.cluster.driver.preflight import PACKAGES, NodeReport, gpus_per_worker, judge, versions
from udt_cluster.config.job import Job

VERSIONS = dict.fromkeys(PACKAGES, "1.0")


def job(**resources: Any) -> Job:
    return Job.model_validate(
        {"name": "a", "data": {"source": "/nfs/a", "adapter": "glas"}, "resources": {"workers": 2, **resources}}
    )


def verdict(*reports: NodeReport, there: bool = False, cpus: int = 4, gpus: int = 0, **resources: Any) -> list[str]:
    return judge(
        list(reports),
        job(**resources),
        expected=VERSIONS,
        resources={"CPU": cpus, "GPU": gpus},
        data_version_there=there,
    )


GOOD = NodeReport("n1", VERSIONS, (), source_readable=True)


def test_a_good_cluster_has_no_problem() -> None:
    assert verdict(GOOD) == []


def test_all_problems_come_at_once() -> None:
    bad = NodeReport("n2", {**VERSIONS, "torch": "0.9"}, ("storage s3://b: refused",), source_readable=False)
    problems = verdict(GOOD, bad, cpus=1, gpus_per_worker=1)
    assert len(problems) == 5
    assert all("n1" not in problem for problem in problems)
    assert any("torch 0.9 where the submitter has 1.0" in problem for problem in problems)
    assert any("data prepare JOB.yaml --to s3://" in problem for problem in problems)


def test_a_prepared_data_set_needs_no_source() -> None:
    blind = NodeReport("n1", VERSIONS, (), source_readable=False)
    assert verdict(blind, there=True) == []
    assert len(verdict(blind)) == 1


@pytest.mark.parametrize(
    ("gpus", "wanted", "expected"), [(0, "auto", 0), (1, "auto", 0), (2, "auto", 1), (8, 0, 0), (0, 1, 1)]
)
def test_auto_takes_gpus_only_when_every_worker_gets_one(gpus: int, wanted: Any, expected: int) -> None:
    assert gpus_per_worker(job(gpus_per_worker=wanted), {"GPU": gpus}) == expected


def test_reports_cross_processes() -> None:
    assert pickle.loads(pickle.dumps(GOOD)) == GOOD


def test_versions_carry_no_build_suffix() -> None:
    found = versions()
    assert set(found) == set(PACKAGES)
    assert not any("+" in value for value in found.values())
