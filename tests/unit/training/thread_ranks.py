"""Two ranks that are threads of this process, each with an engine, and a meeting point for their values."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.training.fakes import TorchEngine, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import UdtError


class ThreadRank(TorchEngine):
    """One of several ranks that are threads of this process."""

    def __init__(self, rank: int, meeting: "Meeting") -> None:
        super().__init__(tiny_net(), TrainConfig())
        self.rank, self._meeting = rank, meeting

    def save(self, folder: Path) -> None:
        if self.rank == 0:
            super().save(folder)
        (folder / f"part-{self.rank}").write_text(f"of rank {self.rank}")

    def all_gather_object(self, value: Any) -> list[Any]:
        return self._meeting.exchange(self.rank, value)


class Meeting:
    """Where the threads of a fake process group exchange values."""

    def __init__(self, size: int) -> None:
        self._barrier, self._values = threading.Barrier(size, timeout=120), [b""] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self._values[rank] = pickle.dumps(value)
        self._barrier.wait()
        values = [pickle.loads(data) for data in self._values]
        self._barrier.wait()
        return values


def on_two_ranks(action: Callable[[ThreadRank], Any]) -> list[Any]:
    meeting, outcomes = Meeting(2), [None, None]

    def run(rank: int) -> None:
        try:
            outcomes[rank] = action(ThreadRank(rank, meeting))
        except (UdtError, OSError) as error:
            outcomes[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
