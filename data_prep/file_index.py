"""SHA-256 of source files, remembered by path, size and modification: what makes the second preparation instant."""

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from udt_cluster.errors import AuthError, DataError
from udt_cluster.storage import Entry, Location

_THREADS = 8
_WAIT_SECONDS = 30.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS files (uri TEXT PRIMARY KEY, size INTEGER NOT NULL, token TEXT NOT NULL, "
    "sha256 TEXT NOT NULL) WITHOUT ROWID"
)


@dataclass(frozen=True)
class FileIndex:
    """An SQLite file; several processes may use it at once. It can be deleted at any time: it is only a memory.

    Attributes:
        path: Of the file; made with its folder when it is needed.
    """

    path: Path

    def digests(self, source: Location, entries: Sequence[Entry]) -> dict[str, str]:
        """SHA-256 of every entry of a source, by key; only those that are new or changed are read.

        Raises:
            DataError: files that may not be read or have gone, all by name.
        """
        with self._connection() as connection:
            known = _look_up(connection, source, entries)
            fresh = _hash_all(source, [entry for entry in entries if entry.key not in known])
            sizes = {entry.key: entry for entry in entries}
            rows = [((source / k).uri, sizes[k].size, sizes[k].token, digest) for k, digest in fresh.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        return {**known, **fresh}

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: the index of known files cannot be used ({error}). Delete it; it is made anew."
            ) from error


def _look_up(connection: sqlite3.Connection, source: Location, entries: Sequence[Entry]) -> dict[str, str]:
    start = f"{source.uri}/"
    rows = connection.execute(
        "SELECT uri, size, token, sha256 FROM files WHERE uri >= ? AND uri < ?", (start, f"{source.uri}0")
    )
    remembered = {uri: (size, token, digest) for uri, size, token, digest in rows}
    known = {}
    for entry in entries:
        size, token, digest = remembered.get((source / entry.key).uri, (-1, "", ""))
        if (size, token) == (entry.size, entry.token):
            known[entry.key] = digest
    return known


def _hash_all(source: Location, entries: Sequence[Entry]) -> dict[str, str]:
    """Read files in threads; hashing releases the interpreter lock."""
    problems: list[str] = []

    def digest(entry: Entry) -> str:
        try:
            return (source / entry.key).checksum().sha256
        except FileNotFoundError:
            problems.append(f"{entry.key}: has gone while the source was read")
        except AuthError:
            problems.append(f"{entry.key}: may not be read; check its owner and mode")
        return ""

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="udt-hash") as pool:
        found = {entry.key: value for entry, value in zip(entries, pool.map(digest, entries), strict=True)}
    if problems:
        raise DataError(f"{source}: {len(problems)} of {len(entries)} files cannot be read", sorted(problems))
    return found
