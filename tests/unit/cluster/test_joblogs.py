"""Logs as they are read while a job runs, when it has ended, and when its driver died."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from udt_cluster.cluster.client import joblogs, states
from udt_cluster.cluster.client.joblogs import read
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.logship import SOURCE, piece_name
from udt_cluster.cluster.record import FORMAT, RUNNING, SUCCEEDED, JobRecord, Record, State, now_exactly
from udt_cluster.config.job import Job
from udt_cluster.errors import RefusedError
from udt_cluster.storage import Location

JOB = Job.model_validate({"name": "acdc", "data": {"source": "/nfs/a", "adapter": "acdc"}})
DOWN = Target("local")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobRecord:
    """A job that runs, with a driver that has just given a sign of life."""
    monkeypatch.setattr(joblogs, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(joblogs, "_LIST_SECONDS", 0.1)
    made = JobRecord(Location.parse(tmp_path / "store"), "acdc-00000001")
    facts = Record(
        id=made.id,
        name="acdc",
        job_hash=JOB.hash,
        submitted_at=now_exactly(),
        user="u",
        target="local",
        run_id="r",
        versions={},
        format=FORMAT,
    )
    made.create(facts, JOB, "")
    made.write_state(State(state=RUNNING))
    made.write_alive(0)
    return made


def put(record: JobRecord, stream: str, number: int, text: str) -> None:
    text = f'#udt {{"out": {100 * (number + 1)}}}\n{text}'
    (record.logs / stream / piece_name(number)).write_bytes(text.encode())


def test_who_follows_gets_every_line_until_the_job_has_ended(record: JobRecord) -> None:
    put(record, "driver", 0, "stage train\n")

    def work() -> None:
        for number in range(3):
            put(record, f"{record.id}-f0-s1/a0-r0", number, f"epoch {number}\n")
            time.sleep(0.1)
        put(record, "driver", 1, "done\n")
        record.write_state(replace(record.state(), state=SUCCEEDED))

    thread = threading.Thread(target=work)
    thread.start()
    text = "".join(read(record, DOWN, follow=True))
    thread.join()
    assert sorted(text.splitlines()) == ["done", "epoch 0", "epoch 1", "epoch 2", "stage train"]
    assert text.startswith("stage train\n")


def test_what_is_there_is_shown_at_once_without_following(record: JobRecord) -> None:
    put(record, "driver", 0, "stage train\n")
    assert "".join(read(record, DOWN, follow=False)) == "stage train\n"


def test_a_job_that_has_just_begun_has_an_empty_log_and_one_that_ended_without_a_word_none(record: JobRecord) -> None:
    assert "".join(read(record, DOWN, follow=False)) == ""
    record.write_state(State(state=SUCCEEDED))
    with pytest.raises(RefusedError, match="has written nothing yet, or it went with its cluster"):
        list(read(record, DOWN, follow=False))


class DeadDriver:
    """Ray's client, of a cluster whose job has failed."""

    text = "x" * 200 + "\nlast words\n:job_id:01\nTraceback: out of memory\n"

    def get_job_status(self, job: str) -> Any:
        return SimpleNamespace(value="FAILED")

    def get_job_logs(self, job: str) -> str:
        return self.text


def test_the_last_words_of_a_driver_that_died_come_from_the_cluster(
    record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (joblogs, states):
        monkeypatch.setattr(module, "connect", lambda target: DeadDriver())
    up = Target("lab", jobs_api="http://head:8265")
    put(record, "driver", 0, "one\n")
    put(record, "driver", 1, "two\n")
    (record.logs / "driver" / SOURCE).write_bytes(b"{}")
    assert "".join(read(record, up, follow=True)) == "one\ntwo\n\nlast words\nTraceback: out of memory\n"
    (record.logs / "driver" / SOURCE).delete()
    assert "".join(read(record, up, follow=True)) == "one\ntwo\n", "a driver that ended well has shipped everything"
