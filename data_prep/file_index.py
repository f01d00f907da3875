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
        found, problems = self.readable_digests(source, entries)
        if problems:
            raise DataError(
                f"{source}: {len(problems)} of {len(entries)} files cannot be read", tuple(problems.values())
            )
        return found

    def readable_digests(self, source: Location, entries: Sequence[Entry]) -> tuple[dict[str, str], dict[str, str]]:
        """SHA-256 of every entry that can be read, and what is wrong with each of the others, by key."""
        with self._connection() as connection:
            known = _look_up(connection, source, entries)
            fresh, problems = _hash_all(source, [entry for entry in entries if entry.key not in known])
            sizes = {entry.key: entry for entry in entries}
            rows = [((source / k).uri, sizes[k].size, sizes[k].token, digest) for k, digest in fresh.items()]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        return {**known, **fresh}, problems

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():  # its owner's alone, for it holds the names of files
            self.path.touch(mode=0o600)
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


def _hash_all(source: Location, entries: Sequence[Entry]) -> tuple[dict[str, str], dict[str, str]]:
    """Read files in threads; hashing releases the interpreter lock."""

    def digest(entry: Entry) -> tuple[str, str]:
        try:
            return (source / entry.key).checksum().sha256, ""
        except FileNotFoundError:
            return "", f"{entry.key}: has gone while the source was read"
        except AuthError:
            return "", f"{entry.key}: may not be read; check its owner and mode"

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="udt-hash") as pool:
        results = {entry.key: result for entry, result in zip(entries, pool.map(digest, entries), strict=True)}
    found = {key: sha256 for key, (sha256, problem) in results.items() if not problem}
    return found, {key: problem for key, (_, problem) in sorted(results.items()) if problem}
