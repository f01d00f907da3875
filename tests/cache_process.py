"""One training process over a store, for tests that start several and kill some.

Usage: python -m tests.cache_process STORE_FOLDER reads|hangs|fills

Prints the folder of the cache, then `inside` where it hangs half-way through a shard, else a digest of all batches.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.loaders import joined, train_loader
from udt_cluster.data.node_folder import SHARED_MEMORY
from udt_cluster.data.store import DataStore
from udt_cluster.storage import Location


class HangingStore(DataStore):
    """Begins to decode and never ends (one write: two threads do it)."""

    def read_shard(self, index: int, *, out: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        out[0][:1] = 255
        os.write(1, b"inside\n")
        time.sleep(600)
        raise AssertionError("nobody killed this process")


def digest(loader) -> str:
    """Of the samples, images and labels of one epoch."""
    made = hashlib.sha256()
    for samples, images, labels in joined(loader.epoch(0)):
        for part in (samples, images.numpy(), labels.numpy()):
            made.update(part.tobytes())
    return made.hexdigest()


def fill(folder: Path) -> None:
    """Leave no room there."""
    free = os.statvfs(folder)
    (folder / "somebody-elses").write_bytes(bytes(free.f_bavail * free.f_frsize))


def main(folder: str, mode: str) -> None:
    """Run."""
    store = (HangingStore if mode == "hangs" else DataStore).open(Location.parse(folder))
    loader = train_loader(store, threads=1)
    print(loader.cache._folder.path, flush=True)
    if mode == "fills":
        fill(SHARED_MEMORY)
    print(digest(loader), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
