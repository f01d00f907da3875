"""pydantic's findings -> sentences that say what was found and what is allowed."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from udt_cluster.config.fields import Field, all_fields
from udt_cluster.config.problems import shortened, shown
from udt_cluster.config.suggest import nearest

NAME_RULE = "1 to 63 lower-case letters, digits and dashes, beginning with a letter or digit"
_WORD = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_Context = Mapping[str, Any]


def explained(error: ErrorDetails) -> str:
    """One sentence for one finding of pydantic."""
    context, found = error.get("ctx", {}), error["input"]
    words = _WORDS.get(error["type"])
    return words(context, found) if words else f"{error['msg']}, got {shown(found)}"


def missing(field: Field) -> str:
    """The sentence for a field that the file does not have."""
    return f"is missing. {field.description.splitlines()[0]}" if field.description else "is missing"


def named_fields(message: str, section: str) -> list[str]:
    """Dotted paths of the fields that a sentence about `section` names, in the order of the sentence."""
    known = all_fields()
    words = [match[0] for match in _WORD.finditer(message)]
    paths = [path for word in words for path in (f"{section}.{word}".removeprefix("."), word) if path in known]
    return [path for path in dict.fromkeys(paths) if known[path].section is None or "." in path]


def without_name(message: str, field: str) -> str:
    """The sentence without a leading `field:`, which the place in front of it says already."""
    for name in (field, field.rpartition(".")[2]):
        message = message.removeprefix(f"{name}: ")
    return message


def _expected(what: str, hint: Callable[[object], str] = lambda found: "") -> Callable[[_Context, object], str]:
    return lambda context, found: f"must be {what}, got {shown(found)}{hint(found)}"


def _bound(words: str, key: str) -> Callable[[_Context, object], str]:
    return lambda context, found: f"must be {words} {context[key]:g}, got {shown(found)}"


def _one_of(context: _Context, found: object) -> str:
    allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
    near = nearest(found, allowed.split(", ")) if isinstance(found, str) else None
    hint = f"; did you mean {near}?" if near else ""
    return f"must be {'one of ' if ', ' in allowed else ''}{allowed}, got {shown(found)}{hint}"


def _length(context: _Context, found: object) -> str:
    low, high = context.get("min_length"), context.get("max_length")
    wanted, limit = ("at least", low) if high is None else ("at most", high)
    entries = "entry" if limit == 1 else "entries"
    return f"must have {wanted} {limit} {entries}, got {len(found) if isinstance(found, list) else shown(found)}"


def _whole_number_hint(found: object) -> str:
    if isinstance(found, float) and found.is_integer():
        return f": write {int(found)}"
    return ": write it without quotes" if isinstance(found, str) and found.strip().lstrip("+-").isdigit() else ""


def _number_hint(found: object) -> str:
    if not isinstance(found, str):
        return ""
    try:
        float(found)
    except ValueError:
        return ""
    return ": write it without quotes"


def _truth_hint(found: object) -> str:
    return ": YAML 1.2 knows only true and false" if str(found).lower() in {"yes", "no", "on", "off"} else ""


def _list_hint(found: object) -> str:
    return "" if isinstance(found, dict | None) else f": write [{shortened(str(found))}]"


def _text_hint(found: object) -> str:
    return "" if isinstance(found, dict | list | None) else ": put it in quotes"


def _stated(context: _Context, found: object) -> str:
    """What a validator of ours says; the value behind it, unless it is a section."""
    return f"{context['error']}" if isinstance(found, dict) else f"{context['error']}; got {shown(found)}"


def _name(_: _Context, found: object) -> str:
    usable = re.sub(r"[^a-z0-9]+", "-", str(found).lower()).strip("-")[:63].rstrip("-")
    hint = f"; for example {usable}" if usable else ""
    return f"a name has {NAME_RULE}; got {shown(found)}{hint}"


_WORDS: dict[str, Callable[[_Context, object], str]] = {
    "int_type": _expected("a whole number", _whole_number_hint),
    "int_parsing": _expected("a whole number", _whole_number_hint),
    "int_from_float": _expected("a whole number", _whole_number_hint),
    "float_type": _expected("a number", _number_hint),
    "float_parsing": _expected("a number", _number_hint),
    "finite_number": _expected("a finite number"),
    "bool_type": _expected("true or false", _truth_hint),
    "bool_parsing": _expected("true or false", _truth_hint),
    "string_type": _expected("text", _text_hint),
    "tuple_type": _expected("a list", _list_hint),
    "list_type": _expected("a list", _list_hint),
    "model_type": _expected("a section of `key: value` lines"),
    "model_attributes_type": _expected("a section of `key: value` lines"),
    "string_pattern_mismatch": _name,
    "literal_error": _one_of,
    "too_short": _length,
    "too_long": _length,
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("below", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "value_error": _stated,
}
