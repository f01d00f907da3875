"""Tasks in processes of this machine: order, errors, and processes that die."""

import os
import signal
from pathlib import Path

import pytest

from data_prep.executor import Died
from data_prep.processes import ProcessExecutor


def _double(number: int) -> int:
    return 2 * number


def _dies_on_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _dies_once(task: tuple[int, Path]) -> int:
    number, marker = task
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _refuses(number: int) -> int:
    raise ValueError(f"no {number}")


def test_results_come_in_order() -> None:
    assert list(ProcessExecutor(2).map(_double, range(20), description="doubling")) == [2 * n for n in range(20)]


def test_an_error_of_a_task_is_raised_as_it_was() -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(ProcessExecutor(1).map(_refuses, range(2), description="refusing"))


def test_fault_F7_a_task_that_always_dies_costs_no_other(tmp_path: Path) -> None:
    found = list(ProcessExecutor(2).map(_dies_on_three, range(7), description="dying"))
    assert [type(result) for result in found] == [int, int, int, Died, int, int, int]
    assert [n for n in found if not isinstance(n, Died)] == [0, 1, 2, 4, 5, 6]


def test_fault_F7_a_task_that_died_once_is_run_again(tmp_path: Path) -> None:
    tasks = [(number, tmp_path / "died") for number in range(4)]
    assert list(ProcessExecutor(2).map(_dies_once, tasks, description="dying")) == [0, 1, 2, 3]
