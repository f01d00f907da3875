"""A source as a tree of names: listed once, asked often."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from udt_cluster.config.paths import system_fault
from udt_cluster.errors import DataError
from udt_cluster.storage import Entry, Location

_DIGITS = re.compile(r"(\d+)")


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key by which slice_2 comes before slice_10."""
    parts = _DIGITS.split(name)
    return tuple((int(part), "") if position % 2 else (-1, part) for position, part in enumerate(parts))


def stem(key: str) -> str:
    """The file's name without folders and extension (`.nii.gz` counts as one)."""
    name = key.rpartition("/")[2]
    return name[: -len(".nii.gz")] if name.endswith(".nii.gz") else name.rpartition(".")[0] or name


@dataclass(frozen=True)
class SourceTree:
    """All files of a source, hidden ones left out."""

    location: Location
    entries: dict[str, Entry] = field(repr=False)

    @classmethod
    def of(cls, location: Location) -> "SourceTree":
        """List a source.

        Raises:
            DataError: it is no place for data, nothing is there, or files have names that are not UTF-8.
        """
        if location.is_local and (fault := system_fault(str(location.local_path.resolve()))):
            raise DataError(f"data.source {location}: {fault}")
        entries = {entry.key: entry for entry in location.entries() if not _hidden(entry.key)}
        if not entries:
            raise DataError(f"data.source {location}: nothing is there. It must be readable where preparation runs.")
        _refuse_odd_names(location, entries)
        return cls(location, entries)

    def below(self, folder: str, suffixes: Sequence[str] = ()) -> list[str]:
        """Keys of the files in a folder and its subfolders, in natural order; `""` is the source itself."""
        start = f"{folder}/" if folder else ""
        keys = (key for key in self.entries if key.startswith(start))
        wanted = tuple(suffixes)
        return sorted((k for k in keys if not wanted or k.lower().endswith(wanted)), key=natural_order)

    def select(self, keys: Iterable[str]) -> tuple[Entry, ...]:
        """Entries of some keys, each once, sorted by key."""
        return tuple(self.entries[key] for key in sorted(set(keys)))

    def read_text(self, key: str) -> str:
        """A small text file.

        Raises:
            DataError: it is not UTF-8.
        """
        try:
            return (self.location / key).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.location / key} is not a text file in UTF-8: {error.reason}. Save it as UTF-8."
            ) from error


def _refuse_odd_names(location: Location, keys: Iterable[str]) -> None:
    """What is no text (a surrogate stands for such a byte) can be neither hashed into a version nor printed."""
    if odd := [ascii(key) for key in keys if any("\ud800" <= letter <= "\udfff" for letter in _no_ascii(key))]:
        raise DataError(f"{location}: {len(odd)} file names are not UTF-8; rename these files:", odd)


def _no_ascii(key: str) -> str:
    """The name, or nothing where all of it is ASCII, which is quick to know."""
    return "" if key.isascii() else key


def _hidden(key: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in key.split("/"))
