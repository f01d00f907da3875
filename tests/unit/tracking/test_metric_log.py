"""The metric log without a server: nothing blocks, nothing raises, everything is kept."""

import json
import logging
import time
from pathlib import Path

import pytest

from udt_cluster.tracking import MetricLog

NOBODY = "http://127.0.0.1:9"


def lines(spool: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in spool.read_text().splitlines()]


def test_everything_waits_in_the_spool(tmp_path: Path) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    log.log(1, {"loss": 0.5, "dice": float("inf")})
    log.picture("validation/a b", b"png", 1)
    began = time.monotonic()
    assert log.close(timeout=1) == 3
    assert log.close(timeout=1) == 3
    assert time.monotonic() - began < 8
    metrics, picture = lines(tmp_path / "spool")
    assert (metrics["step"], metrics["metrics"]) == (1, {"loss": 0.5, "dice": float("inf")})
    assert Path(str(picture["picture"])).read_bytes() == b"png"
    assert Path(str(picture["picture"])).relative_to(tmp_path) == Path(
        "spool.pictures/validation_a_b/step-00000001.png"
    )

    later = MetricLog(NOBODY, "r", tmp_path / "spool")
    later.log(2, {"loss": 0.4})
    assert later.close(timeout=1) == 4


def test_what_is_flushed_is_on_the_disk(tmp_path: Path) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    assert log.flush(0.0)
    for step in range(100):
        log.log(step, {"loss": 0.5})
    assert log.flush(10)
    assert [line["step"] for line in lines(tmp_path / "spool")] == list(range(100))
    assert log.close(timeout=0.1) == 100


def test_nothing_to_send_closes_at_once(tmp_path: Path) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    began = time.monotonic()
    assert log.close() == 0
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    log.log(1, {"a": None, "b": "x", "c": 1.0})  # type: ignore[dict-item]
    assert log.close(timeout=1) == 1
    assert lines(tmp_path / "spool")[0]["metrics"] == {"c": 1.0}
    assert "b='x' at step 1 is not a number" in caplog.text


def test_folder_that_cannot_be_written_keeps_them_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    log = MetricLog(NOBODY, "r", tmp_path / "file" / "spool")
    log.log(1, {"a": 1.0})
    log.picture("v", b"png", 1)
    assert log.close(timeout=1) == 1
    assert "kept in memory only" in caplog.text
    assert "cannot be kept" in caplog.text


def test_late_report_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    log.close()
    with caplog.at_level(logging.WARNING):
        log.log(7, {"a": 1.0})
    assert log.unsent == 0
    assert "step 7 of run r was reported after the end" in caplog.text
