"""Values with units, as people write them in a job file."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parse_duration(value: object) -> timedelta:
    """Read `90s`, `10m`, `1.5h` or `2d`.

    Raises:
        ValueError: the text is not a number with one of these units.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        words = re.match(r"\s*(\d+(?:\.\d+)?)\s*([smhd])", value, re.IGNORECASE) if isinstance(value, str) else None
        hint = f"; did you mean {words[1]}{words[2].lower()}?" if words and float(words[1]) > 0 else ""
        raise ValueError(f"a duration is a number above 0 with a unit: 90s, 10m, 1.5h, 2d{hint}")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def format_duration(value: timedelta) -> str:
    """The shortest text that :func:`parse_duration` reads back."""
    seconds = value.total_seconds()
    unit = next((unit for unit in "dhm" if seconds % _UNITS[unit] == 0), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]$", "examples": ["10m"]}),
]


_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)")
_LEAST_BARE_NUMBER = 10**6


def parse_bytes(value: object) -> int:
    """Read `24GB` (10^9) or `512MiB` (2^20); a whole number from a million on is a number of bytes.

    Raises:
        ValueError: the text is not a number with one of these units.
    """
    if isinstance(value, int) and value >= _LEAST_BARE_NUMBER:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        words = re.match(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])", value, re.IGNORECASE) if isinstance(value, str) else None
        hint = f"; did you mean {words[1]}{words[2].upper()}B?" if words and float(words[1]) > 0 else ""
        raise ValueError(f"a size is a number above 0 with a unit: 512MB, 4GB, 16GiB{hint}")
    return int(float(match[1]) * _BYTES[match[2]])


def format_bytes(value: int) -> str:
    """The shortest text that :func:`parse_bytes` reads back."""
    exact = [unit for unit in reversed(_BYTES) if value >= _BYTES[unit] and value % _BYTES[unit] == 0]
    unit = exact[0] if exact else "KB"
    return f"{value / _BYTES[unit]:.15g}{unit}"


ByteSize = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(format_bytes, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*[KMGT]i?B$", "examples": ["4GB"]}),
]
