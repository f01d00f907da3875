"""Sources that look like any other to an adapter: one that is watched, and one that leaves files out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from data_prep.case import Adapter, Discovery
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Entry, Location

Observer = Callable[[str, bytes], None]
_MOST_TRIES = 4


@dataclass(frozen=True)
class WatchedSource(Location):
    """A source whose files are looked at while an adapter reads them, so that nothing is read twice.

    Attributes:
        observe: Told the key and the content of each file that is read as a whole.
    """

    observe: Observer = field(compare=False, repr=False, default=lambda key, data: None)

    def __truediv__(self, key: str) -> Location:
        """A file that is watched, too."""
        return _WatchedFile((Location(self.uri) / key).uri, key, self.observe)


@dataclass(frozen=True)
class _WatchedFile(Location):
    key: str = ""
    observe: Observer = field(compare=False, repr=False, default=lambda key, data: None)

    def read_bytes(self, *, start: int | None = None, end: int | None = None) -> bytes:
        data = super().read_bytes(start=start, end=end)
        if start is None and end is None:
            self.observe(self.key, data)
        return data


@dataclass(frozen=True)
class PartialSource(Location):
    """A source without some of its files.

    Attributes:
        hidden: Keys of the files that are left out.
    """

    hidden: frozenset[str] = frozenset()

    def entries(self) -> list[Entry]:
        """All others."""
        return [entry for entry in super().entries() if entry.key not in self.hidden]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What could be discovered.

    Attributes:
        discovery: None where nothing could.
        problems: What the adapter complained of, line by line.
        files: Every key of the source.
    """

    discovery: Discovery | None
    problems: tuple[str, ...]
    files: frozenset[str]


def discover(adapter: Adapter, source: Location, config: DataConfig) -> Found:
    """Discover, and where files are complained of, discover the rest, so that all of it can be looked at.

    The adapter is the one that prepares, unchanged: it sees a source without the files that it complained of.
    """
    problems: list[str] = []
    files: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    for _ in range(_MOST_TRIES):
        try:
            discovery = adapter.discover(PartialSource(source.uri, hidden) if hidden else source, config)
        except DataError as error:
            problems += [line for line in error.problems or (error.message,) if line not in problems]
            files = files or _keys(source)
            named = hidden | {key for line in error.problems for key in _named(line, files)}
            if named == hidden:
                break
            hidden = named
        else:
            kept = files or frozenset(entry.key for entry in discovery.files)
            return Found(discovery=discovery, problems=tuple(problems), files=kept)
    return Found(discovery=None, problems=tuple(problems), files=files)


def _keys(source: Location) -> frozenset[str]:
    try:
        return frozenset(entry.key for entry in source.entries())
    except DataError:
        return frozenset()


def _named(line: str, files: frozenset[str]) -> list[str]:
    return [key for key in line.partition(": ")[0].split(", ") if key in files]
