"""Hashes of files, remembered; and forgotten when a file changes."""

import hashlib
import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from data_prep import FileIndex
from udt_cluster.errors import DataError
from udt_cluster.storage import Location


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a", "b", "sub/c"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    return tmp_path / "source"


def digests(index: FileIndex, source: Path) -> dict[str, str]:
    location = Location.parse(source)
    return index.digests(location, location.entries())


def remembered(index: FileIndex) -> int:
    with sqlite3.connect(index.path) as connection:
        return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])


def test_digests_are_sha256_by_key(source: Path, tmp_path: Path) -> None:
    found = digests(FileIndex(tmp_path / "deep" / "index.db"), source)
    assert found == {key: hashlib.sha256(key.encode()).hexdigest() for key in ("a", "b", "sub/c")}


def test_known_files_are_not_read_again(source: Path, tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "index.db")
    first = digests(index, source)
    stat = (source / "a").stat()
    (source / "a").write_text("X")
    os.utime(source / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests(pickle.loads(pickle.dumps(index)), source) == first, "same size and time: taken as known"
    os.utime(source / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert digests(index, source)["a"] == hashlib.sha256(b"X").hexdigest()
    assert remembered(index) == 3


def test_a_file_that_has_gone_or_may_not_be_read_is_named(source: Path, tmp_path: Path) -> None:
    location = Location.parse(source)
    entries = location.entries()
    (source / "a").unlink()
    (source / "sub/c").unlink()
    with pytest.raises(DataError) as error:
        FileIndex(tmp_path / "index.db").digests(location, entries)
    assert [problem.split(":")[0] for problem in error.value.problems] == ["a", "sub/c"]


def test_an_index_that_is_no_database_says_how_to_mend_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "index.db").write_text("not a database, and long enough to be looked at")
    with pytest.raises(DataError, match=r"Delete it; it is made anew"):
        digests(FileIndex(tmp_path / "index.db"), source)
