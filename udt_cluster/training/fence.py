"""Which attempt of a run may write: the newest that has begun. An older one that still lives finds out here."""

import contextlib
import json
import uuid

from udt_cluster.errors import UdtError
from udt_cluster.storage import Location
from udt_cluster.training.protocols import SupersededError

_FOLDER = "attempts"


class Fence:
    """One attempt's claim to write below a root.

    Args:
        root: The run's checkpoints.
        attempt: Number of this attempt.
    """

    def __init__(self, root: Location, attempt: int) -> None:
        self._markers, self._attempt = root / _FOLDER, attempt
        self._name, self._token = f"{attempt:04d}", uuid.uuid4().hex

    def claim(self) -> None:
        """Say that this attempt has begun; older ones must not commit from now on.

        Raises:
            SupersededError: a newer one has begun already.
        """
        self._put()
        self._refuse_older()
        with contextlib.suppress(UdtError):  # markers are tiny; a storage that forbids deleting keeps them
            self._markers.delete_keys([f"{number:04d}" for number in _numbers(self._markers) if number < self._attempt])

    def check(self) -> None:
        """Refuse to go on when somebody else has claimed the run since.

        Raises:
            SupersededError: a newer attempt, or another process with this attempt's number.
        """
        self._refuse_older()
        try:
            marker = (self._markers / self._name).read_bytes()
        except FileNotFoundError:  # somebody tidied up
            self._put()
            return
        if self._token.encode() not in marker:
            raise SupersededError(
                f"another process has begun as attempt {self._attempt} too, in {self._markers}; this one stops"
            )

    def _put(self) -> None:
        (self._markers / self._name).write_bytes(json.dumps({"token": self._token}).encode())

    def _refuse_older(self) -> None:
        newest = newest_attempt(self._markers.parent)
        if newest > self._attempt:
            raise SupersededError(
                f"attempt {newest} of this run has begun, so attempt {self._attempt} does not write any more; it stops"
            )


def newest_attempt(root: Location) -> int:
    """The highest attempt that has begun; -1 where none has."""
    return max(_numbers(root / _FOLDER), default=-1)


def _numbers(markers: Location) -> list[int]:
    return [int(entry.key) for entry in markers.entries() if entry.key.isdecimal()]
