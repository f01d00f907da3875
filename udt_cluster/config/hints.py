"""What was probably meant by a value of the wrong kind.

A hint that would be wrong is worse than none: lists are only proposed when the job takes them
(:mod:`udt_cluster.config.load` tries).
"""

import math
import re
from collections.abc import Sequence

from udt_cluster.config.document import JSON
from udt_cluster.config.fields import Field, all_fields, children
from udt_cluster.config.problems import flow
from udt_cluster.config.suggest import moved

_NEVER = {"none", "null", "nil", "never", "off", "no", "false", "0", "-1", "disabled"}
_OFF = re.compile(r"\b(0|null): (never|off)\b")
_LISTED = re.compile(r"[(\[]?\s*([+-]?\d+)\s*(?:[x×,;/]|\s)\s*([+-]?\d+)\s*[)\]]?")
_RANGE = re.compile(r"(\d+)\s*(?:-|\.\.|:|to)\s*(\d+)")
_COLOUR = re.compile(r"#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE)
_LONGEST_RANGE = 100
_GRID = 16
_REPEATS = (1, 2, 4)
_COUNTED = frozenset({"repeat.folds"})
"""Fields where a number may mean so many, and not the one with this number."""


def number_hint(found: object, field: Field | None, *, whole: bool) -> str:
    """`: write 0.1` for `10%`, and the like; empty when nothing is certain."""
    if off := off_hint(found, field):
        return off
    if isinstance(found, float) and whole and found.is_integer():
        return f": write {int(found)}"
    if not isinstance(found, str):
        return ""
    text = found.strip()
    if _is_number(text):
        return ": write it without quotes" if _fits(text, whole=whole) else ""
    if match := re.fullmatch(r"([\d.]+)\s*%", text):
        return "" if whole or not _is_number(match[1]) else f": write {float(match[1]) / 100:g}"
    if re.fullmatch(r"\d+(\s+\d+)+", text):
        return f": commas are missing: {', '.join(text.split())}"
    if match := re.fullmatch(r"(.+?)\s*[,;]", text):
        return f": write {match[1]}, without '{text[-1]}'" if _fits(match[1], whole=whole) else ""
    if whole and re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        return f": write {text.replace(',', '')}"
    if not whole and re.fullmatch(r"[+-]?\d+,\d+(e[+-]?\d+)?", text, re.IGNORECASE):
        return f": use a decimal point: {text.replace(',', '.')}"
    if match := re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*[A-Za-z]+", text):
        return f": write {match[1]}" if _fits(match[1], whole=whole) else ""
    return ""


def off_hint(found: object, field: Field | None) -> str:
    """What turns the field off, when the value says `never` in the words of another language."""
    if field is None or isinstance(found, dict | list) or str(found).strip().lower() not in _NEVER:
        return ""
    if match := _OFF.search(field.description):
        return "" if str(found) == match[1] else f": write {match[1]} for {match[2]}"
    return ": write null, or leave it out" if field.nullable and not isinstance(found, int | float) else ""


def truth_hint(found: object) -> str:
    """`true` or `false` for what other languages call them."""
    word = str(found).strip().lower()
    if word in {"true", "false"} and isinstance(found, str):
        return f": write {word} without quotes"
    if word in {"yes", "on", "y", "1"}:
        return ": write true"
    return ": write false" if word in {"no", "off", "n", "0", "none", "never"} else ""


def value_hint(found: dict[str, object], field: Field) -> str:
    """For a section where a single value belongs: where its keys belong."""
    kind = found.get("name", found.get("type"))
    example = f": write {field.leaf}: {flow(kind)}" if isinstance(kind, str) else ""
    return example + moved(found, field.path)


def section_hint(found: object, field: Field) -> str:
    """For a value where a section belongs: how its lines are written."""
    if isinstance(found, str) and (match := re.match(r"(\w+)\s*([:=])\s*\S", found)):
        missing = f"a space is missing after '{match[1]}:'" if match[2] == ":" else f"write {match[1]}: ..."
        return f"; {missing}"
    if isinstance(found, list) and found and all(isinstance(entry, dict) for entry in found):
        return "; remove the dashes in front of the keys"
    if field.is_mapping and isinstance(found, list):
        return f": write {{choice: {flow(found)}}}"
    leaves = [other.leaf for other in children(field.path)]
    return f"; its keys: {', '.join(leaves)}" if leaves else ""


def lists(found: JSON, path: str) -> tuple[tuple[JSON, ...], ...]:
    """Lists that a value may stand for, in groups: of each group the first that the job takes is proposed."""
    if found is None:
        return ()
    if isinstance(found, dict):
        sides = [found.get(key, found.get(key[0])) for key in ("height", "width")]
        return ((sides,),) if len(found) == 2 and None not in sides else ()
    if isinstance(found, str) and (entries := _entries(found)):
        return ((entries, *_on_the_grid(entries, path)),)
    single: tuple[JSON, ...] = tuple([found] * count for count in _REPEATS)
    if path in _COUNTED and isinstance(found, int) and 2 <= found <= _LONGEST_RANGE:
        return (single, (list(range(found)),))
    return ((*single, *_on_the_grid([found, found], path), *_up_to(found, path)),)


def _on_the_grid(sides: Sequence[JSON], path: str) -> list[JSON]:
    """Of a size that is no multiple of 16, the nearest that is."""
    if path != "data.size" or not all(isinstance(side, int) for side in sides):
        return []
    return [[max(_GRID, round(side / _GRID) * _GRID) for side in sides if isinstance(side, int)]]


def _up_to(found: JSON, path: str) -> list[JSON]:
    """Of a field that is a list of steps by default, all steps up to this one."""
    field = all_fields().get(path)
    steps = field.default if field is not None and isinstance(field.default, tuple) else ()
    return [list(steps[: steps.index(found) + 1])] if found in steps else []


def proposed(accepted: Sequence[JSON], field: Field | None) -> str:
    """The end of the sentence, for the lists that the job takes."""
    if accepted:
        return f": write {' or '.join(flow(entries) for entries in accepted)}"
    if field is None:
        return ""
    example = re.search(r"`(\[[^`]*\])`", field.description)
    text = example[1] if example else flow(field.default) if isinstance(field.default, tuple) and field.default else ""
    return f": for example {text}" if text else ""


def _entries(text: str) -> list[JSON]:
    """`224x224`, `(224, 224)`, `0-4`, `a, b`: the entries; empty for a single word."""
    if match := _LISTED.fullmatch(text.strip()):
        return [int(match[1]), int(match[2])]
    if match := _COLOUR.fullmatch(text.strip()):
        return [int(part, 16) for part in match.groups()]
    if match := _RANGE.fullmatch(text.strip()):
        first, last = int(match[1]), int(match[2])
        return list(range(first, last + 1)) if first < last <= first + _LONGEST_RANGE else []
    parts = [part.strip() for part in text.strip("()[] ").split(",")]
    if len(parts) < 2 or not all(parts):
        return []
    return [int(part) if re.fullmatch(r"[+-]?\d+", part) else part for part in parts]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fits(text: str, *, whole: bool) -> bool:
    if whole:
        return re.fullmatch(r"[+-]?\d+", text) is not None
    return _is_number(text) and math.isfinite(float(text))
