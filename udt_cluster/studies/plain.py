"""Frozen dataclasses as JSON values and back; numbers that are not finite are null or words."""

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {"inf": math.inf, "-inf": -math.inf}


def to_plain(value: Any) -> Any:
    """A value of dataclasses, mappings, tuples and scalars as what JSON can hold; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def from_plain(cls: type[T], value: Any) -> T:
    """The inverse of :func:`to_plain`, guided by the types of the fields.

    Raises:
        ValueError: the value does not fit the class.
    """
    try:
        return cast("T", _read(cls, value))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a record of {cls.__name__}: {error}") from error


def _read(kind: Any, value: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        rest = [part for part in inner if part is not type(None)]
        return None if value is None else _read(rest[0], value)
    if origin is tuple:
        parts = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return tuple(_read(part, item) for part, item in zip(parts, value, strict=True))
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        return {key: _read(inner[1], item) for key, item in value.items()}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return cast("Any", kind)(**{name: _read(hints[name], item) for name, item in value.items()})
    if kind is float:
        return math.nan if value is None else _WORDS[value] if isinstance(value, str) else float(value)
    return value
