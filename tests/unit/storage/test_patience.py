"""Requests are repeated while that can help, and not beyond the deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from udt_cluster.errors import AuthError, StorageUnreachableError, UsageError
from udt_cluster.storage import patience
from udt_cluster.storage.patience import finish_within, repeated

SLOW_DOWN = ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject")
DENIED = ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject")
REFUSED = EndpointConnectionError(endpoint_url="http://nobody")


class Requests:
    """Fails with each of `errors`, then answers; counts."""

    def __init__(self, *errors: Exception, for_ever: Exception | None = None) -> None:
        self.errors, self.for_ever, self.made = list(errors), for_ever, 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.for_ever is not None:
            raise self.for_ever
        return "answer"


def run(request: Callable[[], Awaitable[str]]) -> str:
    async def main() -> str:
        return await repeated(request, "s3://bucket/key")

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.05)


@pytest.mark.parametrize("failures", [0, 1, 3, 8])
def test_passing_failures_are_waited_out(failures: int) -> None:
    request = Requests(*[SLOW_DOWN] * failures)
    assert run(request) == "answer"
    assert request.made == failures + 1


def test_refusals_are_not_repeated() -> None:
    request = Requests(DENIED)
    with pytest.raises(AuthError, match="AccessDenied"):
        run(request)
    assert request.made == 1


def test_the_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "0.5")
    request, started = Requests(for_ever=SLOW_DOWN), time.monotonic()
    with pytest.raises(StorageUnreachableError, match="SlowDown"):
        run(request)
    assert 0.3 < time.monotonic() - started < 2
    assert request.made > 5


def test_the_deadline_ends_a_request_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> str:
        await asyncio.sleep(60)
        return "never"

    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "0.2")
    started = time.monotonic()
    with pytest.raises(StorageUnreachableError, match="TimeoutError"):
        run(hang)
    assert time.monotonic() - started < 2


def test_a_refused_connection_has_less_time_than_a_slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_CONNECT_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(StorageUnreachableError):
        run(Requests(for_ever=REFUSED))
    assert time.monotonic() - started < 2


def test_a_job_waits_for_a_store_that_nobody_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_CONNECT_SECONDS", 0.05)
    for name, value in patience.patient_environment().items():
        monkeypatch.setenv(name, value)
    assert run(Requests(REFUSED, REFUSED, REFUSED)) == "answer"


def test_what_the_submitter_has_set_holds_in_the_job_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "20")
    assert patience.patient_environment() == {"UDT_STORAGE_DEADLINE": "20", "UDT_STORAGE_CONNECT": "300"}


def test_connect_time_is_below_the_ten_seconds_that_are_promised() -> None:
    assert patience._CONNECT_SECONDS + 3 < 10


def test_a_block_can_have_less_time() -> None:
    started = time.monotonic()
    with finish_within(0.2), finish_within(50), pytest.raises(StorageUnreachableError):
        run(Requests(for_ever=SLOW_DOWN))
    assert time.monotonic() - started < 2
    assert run(Requests(SLOW_DOWN, SLOW_DOWN)) == "answer"


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_wrong_deadline_names_the_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", text)
    with pytest.raises(UsageError, match="UDT_STORAGE_DEADLINE"):
        run(Requests())
