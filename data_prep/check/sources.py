"""A source that looks like any other to an adapter, and is watched."""

from collections.abc import Callable
from dataclasses import dataclass, field

from udt_cluster.storage import Location

Observer = Callable[[str, bytes], None]


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
