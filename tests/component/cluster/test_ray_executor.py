"""Preparation's tasks on a real Ray: their order, their errors, their deaths, and how many of them wait."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_prep import Died, FileIndex, InProcessExecutor, prepare
from data_prep.case import CaseError
from data_prep.phantom import glas
from udt_cluster.cluster.driver.prep import RayExecutor
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

pytestmark = [pytest.mark.component, pytest.mark.ray]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """Two CPUs, and nothing of the environment's."""
    import ray

    folder = tempfile.mkdtemp(prefix="udt-", dir="/tmp")
    os.environ.pop("RAY_ADDRESS", None)
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder, log_to_driver=False)
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Work:
    """What a task shall do."""

    number: int
    folder: Path
    deaths: int = 0


def square(work: Work) -> int:
    """Slower for smaller numbers; dies as often as it was told, and writes down when it ran."""
    log = work.folder / f"{work.number}.log"
    tries = len(log.read_text().splitlines()) if log.exists() else 0
    time.sleep(0.3 / (work.number + 1))
    with log.open("a") as file:
        file.write(f"{time.time()}\n")
    if tries < work.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return work.number**2


def refuse(number: int) -> int:
    """The errors that tasks of ours raise."""
    if number == 1:
        raise CaseError(["a", "b"])
    if number == 2:
        raise MemoryError
    return number


def test_results_come_in_order_and_tasks_are_submitted_as_there_is_room(tmp_path: Path) -> None:
    taken: list[int] = []

    def items() -> Iterator[Work]:
        for number in range(60):
            taken.append(number)
            yield Work(number, tmp_path)

    results = RayExecutor().map(square, items(), description="squares")
    assert next(results) == 0
    assert len(taken) < 20
    assert list(results) == [number**2 for number in range(1, 60)]


def test_fault_F7_a_killed_task_is_run_again_alone_and_then_given_up(tmp_path: Path) -> None:
    work = [Work(number, tmp_path, deaths={3: 1, 5: 99}.get(number, 0)) for number in range(8)]
    results = list(RayExecutor().map(square, work, description="squares"))
    assert results[:5] == [0, 1, 4, 9, 16]
    assert results[6:] == [36, 49]
    assert isinstance(results[5], Died)
    assert "WorkerCrashed" in results[5].reason
    times = [[float(line) for line in (tmp_path / f"{n}.log").read_text().split()] for n in range(8)]
    assert [len(ran) for ran in times] == [1, 1, 1, 2, 1, 2, 1, 1]
    assert times[3][1] > max(times[n][0] for n in range(8)), "when all that was under way had ended"


def test_errors_of_a_task_are_themselves(tmp_path: Path) -> None:
    results = RayExecutor().map(refuse, [0, 2, 1], description="refusals")
    assert next(results) == 0
    assert next(results) == Died("there was not enough memory")
    with pytest.raises(CaseError) as caught:
        next(results)
    assert caught.value.problems == ("a", "b")


def test_a_preparation_on_ray_writes_the_bytes_of_one_in_process(tmp_path: Path) -> None:
    glas(tmp_path / "glands", train=3, test=1, size=(48, 64))
    config = DataConfig.model_validate(
        {"source": str(tmp_path / "glands"), "adapter": "glas", "size": (32, 32), "group_by": "case"}
    )
    roots = []
    for name, executor in (("ray", RayExecutor()), ("here", InProcessExecutor())):
        storage = Location.parse(tmp_path / name)
        index = FileIndex(tmp_path / f"{name}.db")
        roots.append(prepare(config, "set", storage, executor=executor, index=index).location)
    ours, theirs = ({entry.key: (root / entry.key).read_bytes() for entry in root.entries()} for root in roots)
    assert ours == theirs
