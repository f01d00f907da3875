"""Records that must reach a server, kept in a file until they have: it survives the process, not the disk."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One line of the spool.

    Attributes:
        end: Bytes of the file up to and including this line.
        value: What was appended.
    """

    end: int
    value: dict[str, Any]


class Spool:
    """An append-only file of JSON lines, and beside it (`NAME.sent`) how many of its bytes have been delivered.

    A line that was cut off by a crash is removed when the file is opened. One process writes at a time.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._sent_path = path.with_name(f"{path.name}.sent")
        self._file = path.open("ab")
        content = path.read_bytes()
        self._size = content.rfind(b"\n") + 1
        self._file.truncate(self._size)

    def unsent(self) -> list[Record]:
        """What an earlier process left behind, in the order in which it was appended."""
        start = self._sent()
        records, end = [], start
        for line in self.path.read_bytes()[start : self._size].splitlines(keepends=True):
            end += len(line)
            with suppress(json.JSONDecodeError):
                records.append(Record(end, json.loads(line)))
        return records

    def append(self, values: Sequence[dict[str, Any]]) -> list[Record]:
        """Write the values, and return when the disk has them.

        Raises:
            OSError: the disk is full; nothing of the values stays in the file.
        """
        records, data = [], b""
        for value in values:
            data += json.dumps(value).encode() + b"\n"
            records.append(Record(self._size + len(data), value))
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._discard_tail()
            raise
        self._size += len(data)
        return records

    @property
    def size(self) -> int:
        """Bytes of all complete lines."""
        return self._size

    def mark_sent(self, end: int) -> None:
        """Remember that everything up to a record's `end` was delivered."""
        scratch = self._sent_path.with_name(f".{self._sent_path.name}")
        with scratch.open("w") as file:
            file.write(str(end))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._sent_path)

    def close(self) -> None:
        """Nothing more will be appended."""
        self._file.close()

    def remove(self) -> None:
        """Delete the files: everything was delivered."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._sent_path.unlink(missing_ok=True)

    def _sent(self) -> int:
        try:
            sent = int(self._sent_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return sent if sent <= self._size else 0

    def _discard_tail(self) -> None:
        """Reopen, because the bytes that did not fit are still in the file object's buffer."""
        with suppress(OSError):
            self._file.close()
        self._file = self.path.open("ab")
        self._file.truncate(self._size)
