"""One finding about a job file: where, which field, what is wrong and what is allowed."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from udt_cluster.errors import without_credentials

FieldPath = tuple[str | int, ...]
_SHOWN = 60
_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")
_RESERVED = {"true", "false", "null"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding.

    Attributes:
        place: `jobs/x.yaml:12`, or `--set train.epochs=ten`.
        line: Line in the file, from 1; None where there is none.
        field: Dotted path of the field; empty when the finding is about the file.
        message: What was found, what is allowed, and the nearest known key.
        suggested: What was probably meant: dotted paths of fields, or values of this one.
    """

    place: str
    message: str
    line: int | None = None
    field: str = ""
    suggested: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.field, self.message) if part)


class FindingsError(Exception):
    """Carries what was found from the depth of a reader to :func:`udt_cluster.config.load.load_job`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def dotted(path: FieldPath) -> str:
    """`("data", "size", 0)` as people write it: `data.size[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def flow(value: object) -> str:
    """The value as YAML on one line, as it may be written into a job file."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)


def shown(value: object) -> str:
    """The value that was found, in the words of YAML and not too long."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a section ({shortened(', '.join(map(str, value)))})" if value else "an empty section"
    if isinstance(value, str):
        return shortened(repr(without_credentials(value)))
    return shortened(flow(value))


def shortened(text: str, limit: int = _SHOWN) -> str:
    """The text, cut in the middle with `...` when it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
