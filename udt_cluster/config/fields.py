"""Which fields a job has, read off its classes: what messages and suggestions are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from udt_cluster.config.job import Job
from udt_cluster.config.section import Section


@dataclass(frozen=True)
class Field:
    """One field of the job, a section or a value.

    Attributes:
        path: Dotted path, `train.epochs`.
        section: The class of its fields when it is a section, else None.
        required: Whether a job file must have it.
        description: The docstring under its declaration.
        is_text: Whether any text is a value of it.
    """

    path: str
    section: type[Section] | None
    required: bool
    description: str
    is_text: bool

    @property
    def leaf(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def parent(self) -> str:
        """The path of the section that it belongs to; empty at the top."""
        return self.path.rpartition(".")[0]


@cache
def all_fields() -> dict[str, Field]:
    """Every field by its dotted path, sections before what they hold."""
    return {field.path: field for field in _fields_of(Job, "")}


def children(section: str) -> list[Field]:
    """The fields of a section, in the order of their declaration; of the job itself for an empty path."""
    return [field for field in all_fields().values() if field.parent == section]


def _fields_of(section: type[Section], parent: str) -> Iterator[Field]:
    for name, info in section.model_fields.items():
        path = f"{parent}.{info.alias or name}".removeprefix(".")
        inner = info.annotation if isinstance(info.annotation, type) and issubclass(info.annotation, Section) else None
        yield Field(path, inner, info.is_required(), info.description or "", _is_text(info))
        if inner is not None:
            yield from _fields_of(inner, path)


def _is_text(info: FieldInfo) -> bool:
    annotation: Any = info.annotation
    return annotation is str or annotation == (str | None)
