"""Finding the cases of a source, and, where some of its files do not fit together, those of the rest."""

from dataclasses import dataclass, replace

from data_prep.case import Adapter, BadCase, Case, Discovery
from data_prep.source import stem
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Entry, Location

_MOST_TRIES = 4
_TABLES = (".txt", ".csv", ".tsv", ".json", ".list", ".cfg", ".yaml", ".yml")


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

    @property
    def covered(self) -> bool:
        """Whether all that was complained of can be left out: a list or a table says something of other files too."""
        keys = (key for line in self.problems for key in _named(line, self.files))
        return self.discovery is not None and not any(key.lower().endswith(_TABLES) for key in keys)


def discover(adapter: Adapter, source: Location, config: DataConfig) -> Discovery:
    """As the adapter; under `data.on_bad_case: quarantine` files without a partner are left out, by name.

    Raises:
        DataError: ``problems`` lists all that is missing or has no partner.
    """
    try:
        return adapter.discover(source, config)
    except DataError as error:
        found = discover_rest(adapter, source, config)
        if found.discovery is None or not found.covered:
            raise
        if config.on_bad_case == "fail":
            hint = "Mend them, or set data.on_bad_case: quarantine to leave these out, by name:"
            raise DataError(f"{error.message}. {hint}", error.problems) from error
    left_out = tuple(_left_out(line, found.files) for line in found.problems)
    return replace(found.discovery, left_out=left_out)


def discover_rest(adapter: Adapter, source: Location, config: DataConfig) -> Found:
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


def _left_out(line: str, files: frozenset[str]) -> BadCase:
    """What a line complains of, as if it were a case."""
    keys = tuple(_named(line, files))
    name = stem(keys[0]) if keys else line.partition(": ")[0]
    return BadCase(
        Case(id=name, group=name, split="unknown", images=keys, labels=()), (line.partition(": ")[2] or line,)
    )


def _named(line: str, files: frozenset[str]) -> list[str]:
    return [key for key in line.partition(": ")[0].split(", ") if key in files]
