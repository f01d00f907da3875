"""One place in a file where text about a person is, or may be."""

from dataclasses import dataclass
from typing import Literal

TraceKind = Literal["identifying", "text", "burned_in"]
"""`identifying`: the field is there to say who it is. `text`: whatever somebody wrote. `burned_in`: in the pixels."""


@dataclass(frozen=True)
class Trace:
    """A field that has content; the content is not kept.

    Attributes:
        kind: How sure it is.
        field: Its name.
        size: Characters, bytes or elements; 0 where nobody counted.
    """

    kind: TraceKind
    field: str
    size: int = 0


def words(text: str) -> frozenset[str]:
    """The words of a long list."""
    return frozenset(text.split())
