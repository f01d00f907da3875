"""pydantic's findings -> sentences that say what was found and what is allowed."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from udt_cluster.config.adapters import known_adapters
from udt_cluster.config.fields import Field, all_fields
from udt_cluster.config.hints import number_hint, off_hint, section_hint, truth_hint, value_hint
from udt_cluster.config.problems import flow, shown
from udt_cluster.config.sections import RESERVED_ALIAS
from udt_cluster.config.suggest import nearest

NAME_RULE = "1 to 63 lower-case letters, digits and dashes, beginning with a letter or digit"
_WORD = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
_EXAMPLE = "{source: /data/glas, adapter: glas, group_by: case}"


@dataclass(frozen=True)
class Wrong:
    """A value that was refused: what pydantic says about it, the value, and its field when it has one."""

    context: Mapping[str, Any]
    found: Any
    field: Field | None


def explained(error: ErrorDetails, field: Field | None = None) -> str:
    """One sentence for one finding of pydantic about `field`."""
    wrong = Wrong(error.get("ctx", {}), error["input"], field)
    words = _WORDS.get(error["type"])
    sentence = words(wrong) if words else f"{error['msg']}, got {shown(wrong.found)}"
    is_empty = (
        wrong.found is None
        and field is not None
        and not field.required
        and not re.search("; did you mean|: write", sentence)
    )
    return f"{sentence}: give a value, or remove the line" if is_empty else sentence


def meant_values(error: ErrorDetails, field: Field | None) -> tuple[str, ...]:
    """Values of the field that were probably meant, where it has fixed ones."""
    if error["type"] != "literal_error" or isinstance(error["input"], dict | list):
        return ()
    return nearest(error["input"], _allowed(error["ctx"]), field.path if field else "")


def missing(field: Field, file_stem: str) -> str:
    """The sentence for a field that the file does not have; `file_stem` is the job file's name, without `.yaml`."""
    if field.path == "data.adapter":
        return f"is missing; one of {', '.join(known_adapters())}"
    if field.path == "name":
        return f"is missing; for example name: {flow(_usable(file_stem, field) or 'my-job')}"
    if field.path == "data":
        return f"is missing; for example data: {_EXAMPLE}"
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


def _expected(what: str, hint: Callable[[Wrong], str] = lambda wrong: "") -> Callable[[Wrong], str]:
    return lambda wrong: f"must be {what}, got {shown(wrong.found)}{hint(wrong)}"


def _bound(words: str, key: str) -> Callable[[Wrong], str]:
    def said(wrong: Wrong) -> str:
        limit = wrong.context[key]
        limit = int(limit) if float(limit).is_integer() else limit
        hint = off_hint(wrong.found, wrong.field)
        if key == "lt" and limit == 1 and wrong.found in range(2, 100):
            hint = f": write {wrong.found / 100:g}"
        return f"must be {words} {limit}, got {shown(wrong.found)}{hint}"

    return said


def _allowed(context: Mapping[str, Any]) -> list[str]:
    return str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")


def _one_of(wrong: Wrong) -> str:
    allowed, field = _allowed(wrong.context), wrong.field
    near = () if isinstance(wrong.found, dict | list) else nearest(wrong.found, allowed, field.path if field else "")
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if near == (wrong.found,):
        hint = ": write it without quotes"
    elif isinstance(wrong.found, dict) and field is not None:
        hint = value_hint(wrong.found, field)
    elif not near:
        hint = off_hint(wrong.found, field)
    return f"must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}, got {shown(wrong.found)}{hint}"


def _length(wrong: Wrong) -> str:
    low, high = wrong.context.get("min_length"), wrong.context.get("max_length")
    wanted, limit = ("at least", low) if high is None else ("at most", high)
    if isinstance(wrong.found, str):
        return f"must have {wanted} {limit} characters, got {shown(wrong.found)}"
    entries = "entry" if limit == 1 else "entries"
    return f"must have {wanted} {limit} {entries}, got {len(wrong.found)}"


def _number(*, whole: bool) -> Callable[[Wrong], str]:
    def hint(wrong: Wrong) -> str:
        if isinstance(wrong.found, dict) and wrong.field is not None:
            return value_hint(wrong.found, wrong.field)
        if isinstance(wrong.found, list):
            return ": write one of them"
        return number_hint(wrong.found, wrong.field, whole=whole)

    return _expected("a whole number" if whole else "a number", hint)


def _truth(wrong: Wrong) -> str:
    return truth_hint(wrong.found)


def _text(wrong: Wrong) -> str:
    if isinstance(wrong.found, list):
        return ": write one of them"
    return "" if isinstance(wrong.found, dict | None) else ": put it in quotes"


def _section(wrong: Wrong) -> str:
    return section_hint(wrong.found, wrong.field) if wrong.field is not None else ""


def _stated(wrong: Wrong) -> str:
    """What a validator of ours says, and the value behind it, unless that is a section; questions come last."""
    said, asked, question = f"{wrong.context['error']}".partition("; did you mean ")
    return (
        said + asked + question
        if isinstance(wrong.found, dict)
        else f"{said}; got {shown(wrong.found)}{asked}{question}"
    )


def _name(wrong: Wrong) -> str:
    usable = _usable(str(wrong.found), wrong.field)
    hint = f"; for example {usable}" if usable else ""
    return f"a name has {NAME_RULE}; got {shown(wrong.found)}{hint}"


def _usable(text: str, field: Field | None) -> str:
    """The nearest text that is a name, and an alias that is free."""
    usable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")
    is_alias = field is not None and field.path == "register.alias"
    return "candidate" if is_alias and RESERVED_ALIAS.fullmatch(usable) else usable


_WORDS: dict[str, Callable[[Wrong], str]] = {
    "int_type": _number(whole=True),
    "int_parsing": _number(whole=True),
    "int_from_float": _number(whole=True),
    "float_type": _number(whole=False),
    "float_parsing": _number(whole=False),
    "finite_number": _expected("a finite number"),
    "bool_type": _expected("true or false", _truth),
    "bool_parsing": _expected("true or false", _truth),
    "string_type": _expected("text", _text),
    "tuple_type": _expected("a list"),
    "list_type": _expected("a list"),
    "model_type": _expected("a section of `key: value` lines", _section),
    "model_attributes_type": _expected("a section of `key: value` lines", _section),
    "string_pattern_mismatch": _name,
    "string_too_short": _length,
    "literal_error": _one_of,
    "too_short": _length,
    "too_long": _length,
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("below", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "value_error": _stated,
}
