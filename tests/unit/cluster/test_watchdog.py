"""A process that makes no step is ended, after it has said where it stood."""

import subprocess
import sys
import threading
import time

from udt_cluster.cluster.worker.watchdog import HANG_EXIT_CODE, Watchdog


class Ends:
    """Stands for the end of the process."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.happened.set()


def test_no_beat_for_too_long_ends_the_process_with_the_seconds_that_passed() -> None:
    ends, told = Ends(), list[float]()
    dog = Watchdog(0.3, on_hang=told.append, start_seconds=30, end=ends)
    dog.beat()
    assert ends.happened.wait(5)
    assert ends.codes == [HANG_EXIT_CODE]
    assert 0.3 <= told[0] < 5


def test_beats_keep_it_alive_and_the_start_has_a_time_of_its_own() -> None:
    ends = Ends()
    dog = Watchdog(0.4, on_hang=lambda _: None, start_seconds=1.2, end=ends)
    time.sleep(0.8)
    assert not ends.codes, "still within the start's time"
    for _ in range(8):
        dog.beat()
        time.sleep(0.1)
    assert not ends.codes
    dog.close()
    assert not ends.happened.wait(1.0), "nobody watches any more"


def test_a_start_that_never_ends_is_a_hang_too() -> None:
    ends = Ends()
    Watchdog(0.1, on_hang=lambda _: None, start_seconds=0.4, end=ends)
    assert ends.happened.wait(5)


def test_a_report_that_hangs_itself_does_not_keep_the_process() -> None:
    ends = Ends()
    dog = Watchdog(0.1, on_hang=lambda _: threading.Event().wait(60), start_seconds=0.1, end=ends, report_seconds=0.2)
    dog.beat()
    assert ends.happened.wait(5)


def test_the_stacks_of_all_threads_are_written_before_the_end() -> None:
    program = """
import threading
from udt_cluster.cluster.worker.watchdog import Watchdog
def stuck_in_a_step(): threading.Event().wait()
dog = Watchdog(0.2, on_hang=lambda seconds: None, start_seconds=0.2)
stuck_in_a_step()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == HANG_EXIT_CODE
    assert "stuck_in_a_step" in ended.stderr
    assert "udt-watchdog" not in ended.stdout
