"""A job is handed over once, whatever becomes of requests and replies (fault H2)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from udt_cluster.cluster.client import handover
from udt_cluster.cluster.client.handover import InDoubtError, hand_over
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import JobRecord
from udt_cluster.errors import JobFailedError, RefusedError, TargetUnreachableError
from udt_cluster.storage import Location

TARGET = Target("lab", jobs_api="http://head:8265")
NO_AGENT = RuntimeError(
    "Request failed with status code 500: No available agent to submit job, please try again later."
)


@dataclass
class FakeRay:
    """Jobs by id, as Ray keeps them. Each entry of `plan` is what becomes of one submission."""

    plan: list[str]
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    submissions: int = 0
    is_up: bool = True

    def submit_job(self, *, submission_id: str, metadata: dict[str, str], **options: Any) -> str:
        self.submissions += 1
        self.options = options
        what = self.plan.pop(0) if self.plan else "taken"
        if what == "no agent":
            raise NO_AGENT
        if what == "refused":
            raise RuntimeError("Request failed with status code 400: bad runtime_env")
        if what == "request lost":
            raise ConnectionError("reset before it arrived")
        if submission_id in self.jobs:
            raise RuntimeError("Request failed with status code 500: Job with submission_id already exists")
        self.jobs[submission_id] = metadata
        if what == "taken, head dies":
            self.is_up = False
        if what in {"reply lost", "taken, head dies"}:
            raise ConnectionError("reset before the reply")
        if what == "taken, 502":
            raise RuntimeError("Request failed with status code 502: Bad Gateway")
        return submission_id

    def get_job_status(self, job: str) -> Any:
        if job not in self.jobs:
            raise RuntimeError("Request failed with status code 404: Job does not exist")
        return SimpleNamespace(value="PENDING")

    def get_job_info(self, job: str) -> Any:
        return SimpleNamespace(metadata=self.jobs[job])


@pytest.fixture
def record(tmp_path: Path) -> JobRecord:
    return JobRecord(Location.parse(tmp_path), "heart-1a2b3c4d")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    """A cluster in the place of the real one; time is short."""

    def make(*plan: str) -> FakeRay:
        ray = FakeRay(list(plan))

        def connect(target: Target) -> FakeRay:
            if not ray.is_up:
                raise TargetUnreachableError("no answer")
            return ray

        monkeypatch.setattr(handover, "connect", connect)
        monkeypatch.setattr(handover, "_PAUSE", 0.001)
        monkeypatch.setattr(handover, "_SECONDS", 0.2)
        return ray

    return make


@pytest.mark.parametrize(
    ("plan", "submissions"),
    [
        ((), 1),
        (("reply lost",), 1),
        (("taken, 502",), 1),
        (("request lost",), 2),
        (("no agent", "no agent", "no agent"), 4),
        (("no agent", "request lost", "reply lost"), 3),
    ],
)
def test_fault_H2_there_is_exactly_one_job(
    plan: tuple[str, ...], submissions: int, cluster: Callable[..., FakeRay], record: JobRecord
) -> None:
    ray = cluster(*plan)
    hand_over(TARGET, record, life=0)
    assert list(ray.jobs) == ["heart-1a2b3c4d"]
    assert ray.submissions == submissions


def test_a_later_life_has_an_id_of_its_own(cluster: Callable[..., FakeRay], record: JobRecord) -> None:
    ray = cluster()
    hand_over(TARGET, record, life=2)
    assert list(ray.jobs) == ["heart-1a2b3c4d-r2"]
    environment = ray.options["runtime_env"]["env_vars"]
    assert (environment["UDT_JOB_ID"], environment["UDT_JOB_LIFE"]) == ("heart-1a2b3c4d", "2")


def test_fault_H2_what_somebody_else_handed_over_is_not_taken_for_ours(
    cluster: Callable[..., FakeRay], record: JobRecord
) -> None:
    ray = cluster()
    hand_over(TARGET, record, life=1)
    with pytest.raises(RefusedError, match="handed over by somebody else"):
        hand_over(TARGET, record, life=1)
    assert len(ray.jobs) == 1


def test_a_cluster_that_dies_with_the_reply_leaves_the_job_in_doubt(
    cluster: Callable[..., FakeRay], record: JobRecord
) -> None:
    cluster("taken, head dies")
    with pytest.raises(InDoubtError, match="udt-cluster resume heart-1a2b3c4d"):
        hand_over(TARGET, record, life=0)


def test_a_cluster_without_an_agent_is_given_up_after_a_while(
    cluster: Callable[..., FakeRay], record: JobRecord
) -> None:
    ray = cluster(*["no agent"] * 1000)
    with pytest.raises(TargetUnreachableError, match="takes no job for"):
        hand_over(TARGET, record, life=0)
    assert ray.jobs == {}


def test_a_request_that_is_wrong_is_not_repeated(cluster: Callable[..., FakeRay], record: JobRecord) -> None:
    ray = cluster("refused")
    with pytest.raises(JobFailedError, match="bad runtime_env"):
        hand_over(TARGET, record, life=0)
    assert ray.submissions == 1


def test_nothing_is_sent_to_a_cluster_that_does_not_answer(cluster: Callable[..., FakeRay], record: JobRecord) -> None:
    ray = cluster()
    ray.is_up = False
    with pytest.raises(TargetUnreachableError, match="no answer"):
        hand_over(TARGET, record, life=0)
    assert ray.submissions == 0
