"""Preflight judges what the nodes reported: every problem, each with its remedy."""

import pickle
from typing import Any

import pytest
from ray.exceptions import NodeDiedError, RayTaskError, RuntimeEnvSetupError

from udt_cluster.cluster.driver.preflight import PACKAGES, NodeReport, ask_nodes, gpus_per_worker, judge, versions
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


class Nodes:
    """Nodes that give these answers, one after the other."""

    def __init__(self, **answers: list[NodeReport | Exception]) -> None:
        self.answers, self.asked, self.alive = answers, [], set(answers)

    def reports(self, *, seconds: float = 5.0) -> list[NodeReport]:
        return ask_nodes(
            {node: f"host-{node}" for node in self.answers},
            ask=self.ask,
            answer=self.answer,
            alive=lambda: self.alive,
            seconds=seconds,
            pause=0.01,
        )

    def ask(self, node: str) -> str:
        self.asked.append(node)
        return node

    def answer(self, node: str, seconds: float) -> NodeReport:
        found = self.answers[node].pop(0) if len(self.answers[node]) > 1 else self.answers[node][0]
        if isinstance(found, Exception):
            raise found
        return found


def test_a_node_that_came_a_moment_ago_is_asked_until_it_can_answer() -> None:
    nodes = Nodes(a=[RuntimeEnvSetupError(), RuntimeEnvSetupError(), GOOD], b=[GOOD])
    assert nodes.reports() == [GOOD, GOOD]
    assert sorted(nodes.asked) == ["a", "a", "a", "b"]


def test_a_node_that_left_is_not_asked_again() -> None:
    nodes = Nodes(a=[NodeDiedError("gone")], b=[GOOD])
    nodes.alive = {"b"}
    assert nodes.reports() == [GOOD]
    assert sorted(nodes.asked) == ["a", "b"]


def test_a_node_that_never_answers_is_a_problem_with_a_remedy() -> None:
    reports = Nodes(a=[RuntimeEnvSetupError("no space left")], b=[GOOD]).reports(seconds=0.1)
    [problem] = verdict(*reports)
    assert "node host-a: runs no task" in problem
    assert "no space left" in problem
    assert "start Ray there again" in problem


def test_an_inspection_that_fails_by_itself_is_not_repeated() -> None:
    nodes = Nodes(a=[RayTaskError("inspect_node", "traceback", ValueError("bug"))])
    with pytest.raises(RayTaskError):
        nodes.reports()
    assert nodes.asked == ["a"]
