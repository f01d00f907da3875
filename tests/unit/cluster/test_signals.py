"""Why a worker should stop: SIGTERM, a node that is taken away, a word of the driver."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from udt_cluster.cluster.worker import signals
from udt_cluster.cluster.worker.signals import ControlReader, Interruption, ask_to_stop, install_sigterm_handler
from udt_cluster.storage import Location


@pytest.fixture
def _sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    install_sigterm_handler()
    yield
    signal.signal(signal.SIGTERM, before)
    signals._terminated.clear()


@pytest.mark.usefixtures("_sigterm")
def test_sigterm_is_a_reason_and_not_the_end() -> None:
    interruption = Interruption(lambda: None)
    assert interruption() is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert "SIGTERM" in str(interruption())
    install_sigterm_handler()
    assert interruption() is None, "a process that is used again starts anew"


def test_the_reasons_of_the_cluster_and_the_driver_are_passed_on() -> None:
    drained, wish = list[object](), list[str]()
    interruption = Interruption(lambda: drained or None, lambda: wish[0] if wish else "")
    assert interruption() is None
    wish.append("resize from 1 to 2 workers")
    assert interruption() == "resize from 1 to 2 workers"
    drained.append("node")
    assert "taken away" in str(interruption())


def test_only_the_attempt_that_is_meant_hears_the_driver(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    readers = [ControlReader(folder, "run", attempt, every=0.05) for attempt in range(3)]
    readers.append(ControlReader(folder, "other", 1, every=0.05))
    time.sleep(0.2)
    assert [reader() for reader in readers] == [""] * 4, "there is nothing to read yet"
    ask_to_stop(folder, "run", 1, "resize from 1 to 2 workers")
    deadline = time.monotonic() + 5
    while not readers[1]() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [reader() for reader in readers] == ["", "resize from 1 to 2 workers", "", ""]
    for reader in readers:
        reader.close()
    time.sleep(0.2)
    assert not [thread for thread in threading.enumerate() if thread.name == "udt-control"]
