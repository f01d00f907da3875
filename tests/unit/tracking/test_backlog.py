"""What waits for MLflow waits on disk; memory has a bound whatever the disk and the server do."""

import gc
import logging
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from udt_cluster.tracking import MetricLog, backlog, metric_log
from udt_cluster.tracking.backlog import Backlog
from udt_cluster.tracking.reported import Reported
from udt_cluster.tracking.spool import Record, Spool

NOBODY = "http://127.0.0.1:9"


def lines(numbers: range) -> list[dict[str, Any]]:
    return [{"time": 0, "step": number, "metrics": {"a": 0.5}} for number in numbers]


def drained(waiting: Backlog) -> list[int]:
    """The steps of everything, taken batch by batch."""
    steps = []
    while batch := waiting.batch():
        steps += [record.value["step"] for record in batch]
        waiting.done(batch)
    return steps


def test_fault_M1_twenty_thousand_points_wait_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    log.log(0, {"loss": 0.0})
    while log._waiting:
        time.sleep(0.01)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for step in range(1, 20_001):
        log.log(step, {"loss": 1 / step})
        if step % 1000 == 0:
            while log._waiting > 1000:
                time.sleep(0.001)
    while log._waiting:
        time.sleep(0.01)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert log.close(timeout=1) == 20_001
    assert log.dropped == 0
    assert after - before < 4 * 2**20
    assert (tmp_path / "spool").read_bytes().count(b"\n") == 20_001


def test_order_is_kept_while_the_disk_is_full_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Backlog(tmp_path / "spool")
    assert waiting.open() == 0
    append, full = Spool.append, [False]

    def sometimes(spool: Spool, values: list[dict[str, Any]]) -> list[Record]:
        if full[0]:
            raise OSError(28, "No space left on device")
        return append(spool, values)

    monkeypatch.setattr(Spool, "append", sometimes)
    taken = []
    for start in range(0, 6000, 100):
        full[0] = start % 700 in {200, 300}
        assert waiting.put(lines(range(start, start + 100))) == 0
        if start % 1100 == 0:
            batch = waiting.batch()
            taken += [record.value["step"] for record in batch]
            waiting.done(batch)
    assert taken + drained(waiting) == list(range(6000))
    waiting.close(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_order_is_kept_while_the_file_is_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_COMPACT_BYTES", 30_000)
    waiting, taken = Backlog(tmp_path / "spool"), []
    waiting.open()
    for start in range(0, 20_000, 400):
        waiting.put(lines(range(start, start + 400)))
        batch = waiting.batch()
        taken += [record.value["step"] for record in batch]
        waiting.done(batch)
    assert (tmp_path / "spool").stat().st_size < 200_000
    assert taken + drained(waiting) == list(range(20_000))
    waiting.close(remove=False)


def test_a_full_disk_has_a_bound_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEMORY_POINTS", 1000)
    (tmp_path / "file").write_text("in the way")
    waiting = Backlog(tmp_path / "file" / "spool")
    assert waiting.open() == 0
    assert waiting.put(lines(range(800))) == 0
    assert waiting.put(lines(range(800, 1500))) == 500
    assert drained(waiting) == list(range(1000))
    assert waiting.put(lines(range(1500, 1600))) == 0


def test_fault_M1_a_disk_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metric_log, "MEMORY_POINTS", 1000)
    log = MetricLog(NOBODY, "r", tmp_path / "spool")
    answers, append = threading.Event(), Spool.append

    def hangs(spool: Spool, values: list[dict[str, Any]]) -> list[Record]:
        answers.wait(30)
        return append(spool, values)

    monkeypatch.setattr(Spool, "append", hangs)
    began = time.monotonic()
    for step in range(5000):
        log.log(step, {"loss": 1.0})
    assert time.monotonic() - began < 1
    assert log.unsent == 1000
    assert log.dropped == 4000
    assert not log.flush(0.1)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert log.close(timeout=0.5) == 1000
    assert time.monotonic() - began < 3
    assert "4000 metrics of run r were dropped" in caplog.text
    answers.set()
    log._writer.join(10)
    log._sender.join(10)
    assert (tmp_path / "spool").read_bytes().count(b"\n") == 1000


def test_a_spool_that_somebody_cuts_off_is_said_and_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    waiting = Backlog(tmp_path / "spool")
    waiting.open()
    waiting.put(lines(range(10)))
    (tmp_path / "spool").write_bytes(b"")
    assert waiting.batch() == []
    assert "are lost" in caplog.text
    waiting.put(lines(range(10, 20)))
    waiting.close(remove=False)


def test_what_is_reported_takes_a_bit_a_step() -> None:
    reported = Reported()
    gc.collect()
    tracemalloc.start()
    for step in range(200_000):
        reported.add("loss", step)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 200_000
    for step in (-5, 10**15, 2**63):
        reported.add("dice", step)
        assert ("dice", step) in reported
        assert ("dice", step + 1) not in reported
    assert ("loss", 199_999) in reported
    assert ("loss", 200_000) not in reported
    assert ("other", 1) not in reported
