"""A real S3 server behind a proxy that asks for patience (N1) and loses answers (N3)."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import zarr

from tests.contracts.store import BIG, SAMPLES, write_array
from tests.servers.faulty_s3 import SLOW_DOWN
from tests.servers.proxy import LOSE, FaultyProxy, Instead, Request, Verdict, running_proxy
from tests.servers.swift import S3Server
from udt_cluster.errors import CorruptError, StorageUnreachableError
from udt_cluster.storage import Location, describe, patience, read_commit, retry_count, s3, verify, write_commit

pytestmark = [pytest.mark.component, pytest.mark.s3]

BUSY = Instead(503, SLOW_DOWN)
GONE = Instead(404, b"<Error><Code>NoSuchUpload</Code><Message>The upload does not exist.</Message></Error>")
CONTENT = np.random.default_rng(3).bytes(BIG)


@pytest.fixture
def root(s3_uri: str) -> Location:
    return Location.parse(s3_uri) / "p"


@pytest.fixture
def behind(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Verdict], FaultyProxy]]:
    """Puts a proxy before the server; boto3 of `s3_env` goes past it."""
    with ExitStack() as running:

        def start(verdict: Verdict) -> FaultyProxy:
            proxy = running.enter_context(running_proxy(int(urlsplit(s3_env.endpoint).port or 0), verdict))
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            return proxy

        yield start


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.02)


def first(times: int, verb: str, ending: str = "", then: Instead = LOSE) -> Verdict:
    """The first so many requests of a kind end like this; the others are passed on."""
    left = [times]

    def verdict(request: Request) -> Instead | None:
        if left[0] and request.verb == verb and request.path.endswith(ending):
            left[0] -= 1
            return then
        return None

    return verdict


def every_verb_is_busy(times: int) -> tuple[Verdict, set[str]]:
    """Each kind of request is answered `SlowDown` so many times before it is let through; the kinds."""
    seen: dict[str, int] = {}

    def verdict(request: Request) -> Instead | None:
        seen[request.verb] = seen.get(request.verb, 0) + 1
        return BUSY if seen[request.verb] <= times else None

    return verdict, seen.keys()  # type: ignore[return-value]


@pytest.mark.parametrize("times", [3, 8])
@pytest.mark.usefixtures("short_pauses")
def test_fault_N1_a_burst_of_slow_down_is_waited_out(
    root: Location, behind: Callable[[Verdict], FaultyProxy], tmp_path: Path, times: int
) -> None:
    verdict, verbs = every_verb_is_busy(times)
    behind(verdict)
    before = retry_count()
    write_array(root)
    (tmp_path / "big").write_bytes(CONTENT)
    (root / "big").upload(tmp_path / "big")
    commit = write_commit(root, describe(root), {})
    assert read_commit(root) == commit
    verify(root, commit, checksums=True)
    assert (root / "big").download(tmp_path / "back").size == BIG
    assert np.array_equal(np.asarray(zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]), SAMPLES)
    root.delete_tree()
    assert {"GET", "PUT", "GET list-type", "POST uploads", "PUT uploadId", "POST uploadId", "POST delete"} <= verbs
    assert retry_count() - before == times * len(verbs)


def test_fault_N1_slow_down_without_end_ends_with_the_deadline(
    root: Location, behind: Callable[[Verdict], FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = behind(lambda _: None)
    assert root.entries() == []  # a client takes a second to be made
    proxy.verdict = lambda _: BUSY
    proxy.requests.clear()
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    before, began = retry_count(), time.monotonic()
    for use in ((root / "object").read_bytes, lambda: (root / "object").write_bytes(b"1"), root.entries):
        with pytest.raises(StorageUnreachableError, match="SlowDown"):
            use()
    assert time.monotonic() - began < 3 * 1.5
    assert retry_count() - before == len(proxy.requests) - 3 >= 3


@pytest.mark.usefixtures("short_pauses")
def test_fault_N1_an_upload_in_parts_ends_once_not_twice_after_the_deadline(
    root: Location, behind: Callable[[Verdict], FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts fail, and then the request that frees them: it has seconds of its own, not another deadline."""
    behind(lambda request: BUSY if "uploadId" in request.verb else None)
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "3")
    monkeypatch.setattr(s3, "_SECONDS_AFTER", 0.5)
    began = time.monotonic()
    with pytest.raises(StorageUnreachableError, match="SlowDown"):
        (root / "big").write_bytes(CONTENT)
    assert time.monotonic() - began < 3 + 0.5 + 1.5


def test_fault_N1_a_retry_counter_starts_at_nothing_and_counts_no_success(root: Location) -> None:
    before = retry_count()
    (root / "object").write_bytes(b"1")
    with pytest.raises(FileNotFoundError):
        (root / "other").read_bytes()
    assert retry_count() == before


@pytest.mark.usefixtures("short_pauses")
def test_fault_N3_the_lost_answer_to_a_commit_is_own_success(
    root: Location, behind: Callable[[Verdict], FaultyProxy]
) -> None:
    proxy = behind(first(1, "PUT", "/COMMIT"))
    (root / "shard").write_bytes(b"content")
    commit = write_commit(root, describe(root), {"v": 1})
    assert proxy.count("PUT", "/COMMIT") == 2
    assert read_commit(root) == commit
    assert write_commit(root, describe(root), {"v": 1}) == commit
    assert proxy.count("PUT", "/COMMIT") == 2, "what is there is not put again"


def test_fault_N3_a_commit_whose_answers_are_all_lost_is_looked_up(
    root: Location, behind: Callable[[Verdict], FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(first(1000, "PUT", "/COMMIT"))
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    (root / "shard").write_bytes(b"content")
    assert write_commit(root, describe(root), {"v": 1}) == read_commit(root)
    with pytest.raises(CorruptError, match="commits something else already"):
        write_commit(root, describe(root), {"v": 2})


def test_fault_N3_a_commit_that_was_never_put_is_no_success(
    root: Location, behind: Callable[[Verdict], FaultyProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(first(1000, "PUT", "/COMMIT", BUSY))
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "1")
    with pytest.raises(StorageUnreachableError, match=r"SlowDown|no usable answer"):
        write_commit(root, (), {})
    assert read_commit(root) is None


@pytest.mark.usefixtures("short_pauses")
def test_fault_N3_shards_whose_answers_are_lost_are_there_once_and_whole(
    root: Location, behind: Callable[[Verdict], FaultyProxy], s3_env: S3Server
) -> None:
    lost: set[str] = set()

    def each_once(request: Request) -> Instead | None:
        if request.method == "PUT" and request.path not in lost:
            lost.add(request.path)
            return LOSE
        return None

    behind(each_once)
    write_array(root)
    commit = write_commit(root, describe(root), {})
    assert len(lost) == 5
    keys = [item["Key"] for item in objects(s3_env, root)]
    assert sorted(keys) == sorted([f"p/{record.key}" for record in commit.objects] + ["p/COMMIT"])
    assert np.array_equal(np.asarray(zarr.open_group(root.zarr_store(read_only=True), mode="r")["images"]), SAMPLES)


def objects(server: S3Server, root: Location) -> list[dict[str, Any]]:
    """What the server has, past the proxy."""
    found: list[dict[str, Any]] = server.boto3().list_objects_v2(Bucket=bucket(root)).get("Contents", [])
    return found


def bucket(root: Location) -> str:
    return root.uri.split("/")[2]


@pytest.mark.parametrize("verb", ["POST uploads", "PUT uploadId", "POST uploadId"])
@pytest.mark.usefixtures("short_pauses")
def test_fault_N3_each_step_of_an_upload_in_parts_may_lose_its_answer(
    root: Location, behind: Callable[[Verdict], FaultyProxy], s3_env: S3Server, verb: str
) -> None:
    proxy = behind(first(1, verb))
    (root / "big").write_bytes(CONTENT)
    assert proxy.count(verb) == {"POST uploads": 2, "PUT uploadId": 4, "POST uploadId": 2}[verb]
    assert (root / "big").read_bytes() == CONTENT
    assert [item["Size"] for item in objects(s3_env, root)] == [BIG]


@pytest.mark.parametrize("answer", [GONE, BUSY])
@pytest.mark.usefixtures("short_pauses")
def test_fault_N3_a_completed_upload_that_the_server_has_forgotten_is_own_success(
    root: Location, behind: Callable[[Verdict], FaultyProxy], monkeypatch: pytest.MonkeyPatch, answer: Instead
) -> None:
    """The first answer is lost; the repetition is told that there is no such upload, or nothing of use."""
    completions: list[Request] = []

    def verdict(request: Request) -> Instead | None:
        if request.verb != "POST uploadId":
            return None
        completions.append(request)
        return LOSE if len(completions) == 1 else answer

    behind(verdict)
    monkeypatch.setenv("UDT_STORAGE_DEADLINE", "2")
    (root / "big").write_bytes(CONTENT)
    assert len(completions) >= 2
    assert (root / "big").read_bytes() == CONTENT


@pytest.mark.usefixtures("short_pauses")
def test_fault_N3_an_upload_that_somebody_else_ended_is_no_success(
    root: Location, behind: Callable[[Verdict], FaultyProxy], s3_env: S3Server
) -> None:
    behind(first(1000, "POST uploadId", then=GONE))
    with pytest.raises(CorruptError, match="somebody else ended this upload"):
        (root / "big").write_bytes(CONTENT)
    (root / "small").write_bytes(b"1")
    s3_env.boto3().put_object(Bucket=bucket(root), Key="p/big", Body=b"another's")
    with pytest.raises(CorruptError, match="somebody else ended this upload"):
        (root / "big").write_bytes(CONTENT)
    assert s3_env.boto3().list_multipart_uploads(Bucket=bucket(root)).get("Uploads", []) == []
