"""Snapshots on their way to storage: a thread of each rank, no collective, the COMMIT last and by rank 0.

Each rank's thread puts its files and then a list of them, ``rank-00001.json``; rank 0's thread looks for the lists of
all others, and commits. The training threads agree later on how it ended.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from udt_cluster.errors import JobFailedError, UdtError
from udt_cluster.storage import Location, ObjectRecord, upload_folder, write_commit
from udt_cluster.training.catalog import CheckpointInfo

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint as it lies in a rank's scratch folder.

    Attributes:
        folder: This rank's files.
        target: Where those of all ranks go.
        info: What its COMMIT will say.
        token: What the lists of this snapshot carry, and no other's.
    """

    folder: Path
    target: Location
    info: CheckpointInfo
    token: str


class Upload:
    """The upload of this rank's part of some snapshots, one after the other, under way from the start.

    Args:
        snapshots: Oldest first.
        rank: This process.
        may_commit: On rank 0, called before each COMMIT; raises when this attempt must not.
        afterwards: On rank 0, called when all are committed.
    """

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        *,
        rank: int,
        may_commit: Callable[[], None],
        afterwards: Callable[[], None],
    ) -> None:
        self.snapshots = tuple(snapshots)
        self._rank, self._may_commit, self._afterwards = rank, may_commit, afterwards
        self._cancelled, self._done = threading.Event(), False
        self._waiting_since: float | None = None
        self._failure: UdtError | OSError | None = None
        self._thread = threading.Thread(target=self._run, name="udt-checkpoint", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    @property
    def failure(self) -> UdtError | OSError | None:
        """Why it has ended early; None while it goes on, and when all is well."""
        if self.busy or self._done:
            return None
        return self._failure or JobFailedError("the thread that uploads checkpoints died; its traceback is in the log")

    def cancel(self) -> None:
        """Do not wait for other ranks any more."""
        self._cancelled.set()

    def end(self, *, seconds: float, waiting: float) -> None:
        """Let it come to its end within `seconds`, of which `waiting` at most for other ranks; then it is cancelled."""
        began = time.monotonic()
        while self.busy and time.monotonic() - began < seconds:
            if self._waiting_since is not None and time.monotonic() - self._waiting_since > waiting:
                break
            self._thread.join(0.05)
        self.cancel()

    def _run(self) -> None:
        try:
            for snapshot in self.snapshots:
                self._upload(snapshot)
            if self._rank == 0:
                self._afterwards()
            self._done = True
        except (UdtError, OSError) as error:
            self._failure = error

    def _upload(self, snapshot: Snapshot) -> None:
        records = upload_folder(snapshot.folder, snapshot.target)
        if self._rank:
            (snapshot.target / _list_name(self._rank)).write_bytes(_to_json(snapshot.token, records))
            return
        self._waiting_since = time.monotonic()
        others = [self._wait_for(snapshot, rank) for rank in range(1, snapshot.info.world_size)]
        self._waiting_since = None
        self._may_commit()
        write_commit(snapshot.target, [*records, *(o for part in others for o in part)], snapshot.info.to_json())

    def _wait_for(self, snapshot: Snapshot, rank: int) -> tuple[ObjectRecord, ...]:
        """What another rank has put, as soon as it says so."""
        pause, place = _FIRST_PAUSE, snapshot.target / _list_name(rank)
        while not self._cancelled.is_set():
            records = _from_json(place, snapshot.token)
            if records is not None:
                return records
            self._cancelled.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise JobFailedError(f"rank {rank} has not put its part of {snapshot.target}")


def _list_name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _to_json(token: str, records: Sequence[ObjectRecord]) -> bytes:
    objects = [{"key": record.key, "size": record.size, "sha256": record.sha256} for record in records]
    return json.dumps({"token": token, "objects": objects}).encode()


def _from_json(place: Location, token: str) -> tuple[ObjectRecord, ...] | None:
    """The list, or None as long as there is none of this snapshot."""
    try:
        content = json.loads(place.read_bytes())
    except FileNotFoundError:
        return None
    if content["token"] != token:
        return None
    return tuple(ObjectRecord(key=o["key"], size=o["size"], sha256=o["sha256"]) for o in content["objects"])


def wait_until(is_over: Callable[[], bool], *, beat: Callable[[], None], pause: float = 0.02) -> None:
    """Look again and again, with a sign of life each time; the pauses grow up to a tenth of a second."""
    while not is_over():
        beat()
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)
