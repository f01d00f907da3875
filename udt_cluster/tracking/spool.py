"""Records that must reach a server, kept in a file until they have: it survives the process, not the disk."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ_BYTES = 2**17


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

    A line that was cut off by a crash is removed when the file is opened. One process writes at a time. Nothing of the
    file is held in memory.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._sent_path = path.with_name(f"{path.name}.sent")
        self._open()
        self._size = self._whole_lines()
        self._file.truncate(self._size)
        self.sent = self._marked()
        if self.sent == 0:  # a mark beyond the end would count again once the file has grown
            self._sent_path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes of all complete lines."""
        return self._size

    def unsent(self) -> Iterator[Record]:
        """What has not been delivered, in the order in which it was appended, read a piece at a time."""
        at = self.sent
        while records := self.read(at):
            yield from records
            at = records[-1].end

    def read(self, start: int, end: int | None = None) -> list[Record]:
        """Some lines from a record's `end` on, up to another; none where there are none. What is no JSON is left out.

        Args:
            start: `end` of a record, or 0.
            end: `end` of a later record; by default that of the last.
        """
        end = self._size if end is None else end
        while start < end:
            piece = self._lines(start, end)
            records = []
            for line in piece.splitlines(keepends=True):
                start += len(line)
                with suppress(ValueError):
                    records.append(Record(start, json.loads(line)))
            if records:
                return records
        return []

    def append(self, values: Sequence[dict[str, Any]]) -> list[Record]:
        """Write the values, and return when the disk has them.

        Raises:
            OSError: the disk is full; nothing of the values stays in the file.
        """
        records, data = [], bytearray()
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

    def mark_sent(self, end: int) -> None:
        """Remember that everything up to a record's `end` was delivered."""
        _replace(self._sent_path, str(end).encode())
        self.sent = end

    def compact(self) -> int:
        """Drop what was delivered from the file, if that is most of it.

        A crash on the way leaves a mark beyond the end of the file, which counts for nothing: what is in the file then
        is what has not been delivered.

        Returns:
            Bytes by which the `end` of every later record is smaller now.

        Raises:
            OSError: the disk is full; everything is as it was.
        """
        dropped, kept = self.sent, self._size - self.sent
        if kept >= dropped:
            return 0
        _replace(self.path, os.pread(self._file.fileno(), kept, dropped))
        with suppress(OSError):
            self._file.close()
        self._open()
        self._size = kept
        self.mark_sent(0)
        return dropped

    def close(self) -> None:
        """Nothing more will be appended or read."""
        self._file.close()

    def remove(self) -> None:
        """Delete the files: everything was delivered."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._sent_path.unlink(missing_ok=True)

    def _open(self) -> None:
        self._file = self.path.open("a+b")

    def _lines(self, start: int, end: int) -> bytes:
        """Complete lines from `start`: about an eighth of a mebibyte, or one line that is longer."""
        length = _READ_BYTES
        while True:
            piece = os.pread(self._file.fileno(), min(length, end - start), start)
            if whole := piece.rfind(b"\n") + 1:
                return piece[:whole]
            if len(piece) < length:
                raise OSError(f"{self.path} has been cut off by somebody else")
            length *= 2

    def _whole_lines(self) -> int:
        """Bytes up to the end of the last complete line, found from the end."""
        end = os.fstat(self._file.fileno()).st_size
        while end > 0:
            start = max(0, end - _READ_BYTES)
            found = os.pread(self._file.fileno(), end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _marked(self) -> int:
        try:
            sent = int(self._sent_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return sent if sent <= self._size else 0

    def _discard_tail(self) -> None:
        """Reopen, because the bytes that did not fit are still in the file object's buffer."""
        with suppress(OSError):
            self._file.close()
        self._open()
        self._file.truncate(self._size)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, in one step, when the disk has it."""
    scratch = path.with_name(f".{path.name}")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
