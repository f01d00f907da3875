"""Which fields a job has, read off its classes: what messages and suggestions are made of."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from udt_cluster.config.job import Job
from udt_cluster.config.problems import FieldPath, dotted
from udt_cluster.config.section import Section

_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Field:
    """One field of the job, a section or a value.

    Attributes:
        path: Dotted path, `train.epochs`.
        section: The class of its fields when it is a section, else None.
        required: Whether a job file must have it.
        description: The docstring under its declaration.
        is_text: Whether any text is a value of it.
        nullable: Whether null is a value of it.
        default: Its default; None where it is required, or null.
        choices: The values it may have, where they are fixed.
        entries: The class of the entries when it is a list or a mapping of sections, else None.
        is_mapping: Whether it is a mapping with keys that people choose.
    """

    path: str
    section: type[Section] | None
    required: bool
    description: str
    is_text: bool
    nullable: bool
    default: Any
    choices: tuple[str, ...]
    entries: type[Section] | None
    is_mapping: bool

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


@cache
def entry_fields() -> dict[str, Field]:
    """The fields of the entries of lists (`data.accept_leaks.reason`), which no override can name."""
    lists = [field for field in all_fields().values() if field.entries is not None]
    return {inner.path: inner for field in lists if field.entries for inner in _fields_of(field.entries, field.path)}


def field_at(path: str) -> Field | None:
    """The field that a dotted path leads to, `data.accept_leaks[0].reason` included."""
    plain = _INDEX.sub("", path)
    return all_fields().get(plain) or entry_fields().get(plain)


def without_keys(path: FieldPath) -> FieldPath:
    """The path without keys that people choose: of ("tune", "search", "train.lr", "log") the third part is one."""
    for end in range(len(path) - 1, 0, -1):
        field = all_fields().get(dotted(path[:end]))
        if field is not None and field.is_mapping:
            return (*path[:end], *path[end + 1 :])
    return path


def children(section: str) -> list[Field]:
    """The fields of a section, in the order of their declaration; of the job itself for an empty path."""
    plain = _INDEX.sub("", section)
    return [field for field in (*all_fields().values(), *entry_fields().values()) if field.parent == plain]


def _fields_of(section: type[Section], parent: str) -> Iterator[Field]:
    for name, info in section.model_fields.items():
        path = f"{parent}.{info.alias or name}".removeprefix(".")
        inner = _section(info.annotation)
        yield Field(
            path=path,
            section=inner,
            required=info.is_required(),
            description=info.description or "",
            is_text=_is_text(info),
            nullable=NoneType in get_args(info.annotation),
            default=None if info.is_required() else info.get_default(call_default_factory=True, validated_data={}),
            choices=_choices(info.annotation),
            entries=None if inner else _entries(info.annotation),
            is_mapping=get_origin(info.annotation) is dict,
        )
        if inner is not None:
            yield from _fields_of(inner, path)


def _section(annotation: Any) -> type[Section] | None:
    """The class of a section, one that may be null included."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType] if NoneType in get_args(annotation) else []
    (kind,) = kinds if len(kinds) == 1 else (annotation,)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _choices(annotation: Any) -> tuple[str, ...]:
    kinds = [annotation, *(get_args(annotation) if NoneType in get_args(annotation) else ())]
    return next((tuple(map(str, get_args(kind))) for kind in kinds if get_origin(kind) is Literal), ())


def _entries(annotation: Any) -> type[Section] | None:
    return next((found for kind in get_args(annotation) if (found := _section(kind)) is not None), None)


def _is_text(info: FieldInfo) -> bool:
    annotation: Any = info.annotation
    return annotation is str or annotation == (str | None)
