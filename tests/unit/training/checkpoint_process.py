"""A process that saves two checkpoints and dies where it is told to: `python -m ... ROOT SITUATION`.

Situations: `upload`, `commit` or `delete` kill it at the second file of the second checkpoint, before its COMMIT, or
after the first deletion; `full` goes on until the disk for temporary files is full, and prints why it ended.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.unit.training.fakes import TorchEngine, tiny_net
from udt_cluster.config.job import TrainConfig
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location
from udt_cluster.training import StorageCheckpoints, TrainingState
from udt_cluster.training import upload as uploading


def die_after(calls: int, action: Callable[..., Any]) -> Callable[..., Any]:
    """The action, and SIGKILL when it has been called so often."""
    count, one_by_one = 0, threading.Lock()

    def counted(*args: Any) -> Any:
        nonlocal count
        with one_by_one:
            count += 1
            if count > calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*args)

    return counted


def main(root: Path, situation: str) -> None:
    torch.set_num_threads(1)
    engine = TorchEngine(tiny_net(), TrainConfig())
    store = StorageCheckpoints(Location.parse(root), run_id="r", attempt=0, rank=0, world_size=1, keep=0)
    store.restore(engine)
    state = TrainingState()
    for epoch in range(1, 200 if situation == "full" else 4):
        state = state.after_epoch(step=10 * epoch, metrics={"val_dice": epoch / 200})
        if epoch == 3:
            prepare(situation)
        store.save(engine, state, kind="epoch")
        store.finish(engine)
        if situation == "full":
            fill(Path(os.environ["TMPDIR"]))
    store.close()


def prepare(situation: str) -> None:
    if situation == "upload":
        Location.upload = die_after(1, Location.upload)  # type: ignore[method-assign]
    elif situation == "commit":
        uploading.write_commit = die_after(0, uploading.write_commit)
    elif situation == "delete":
        Location.delete_tree = die_after(0, Location.delete_tree)  # type: ignore[method-assign]


def fill(folder: Path) -> None:
    """Take some room away."""
    with contextlib.suppress(OSError), (folder / "other").open("ab", buffering=0) as file:
        file.write(bytes(100_000))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except (UdtError, OSError) as error:
        print(f"{type(error).__name__}: {error}")
