"""`--set a.b=c`: one value of a job, changed from the command line."""

import json
from collections.abc import Sequence

from udt_cluster.config.document import JSON, Document, Place, parse_value
from udt_cluster.config.fields import Field, all_fields
from udt_cluster.config.problems import FieldPath, FindingsError, Problem
from udt_cluster.config.suggest import allowed_keys, suggestions, unknown_key
from udt_cluster.errors import without_credentials

_NULLS = {"", "~", "null"}


def overridden(document: Document, overrides: Sequence[str]) -> Document:
    """The document with every override put in, the later over the earlier."""
    values: dict[str, JSON] = json.loads(json.dumps(document.values))
    places, problems = dict(document.places), list(document.problems)
    for text in overrides:
        place = Place(f"--set {without_credentials(text)}")
        try:
            field, value = _read(text, place.text)
        except FindingsError as error:
            problems += error.problems
            continue
        path: FieldPath = tuple(field.path.split("."))
        if _put(values, path, value):
            places = {known: where for known, where in places.items() if known[: len(path)] != path}
            places[path] = place
            for end in range(1, len(path)):
                places.setdefault(path[:end], place)
    return Document(values=values, places=places, problems=tuple(problems))


def with_value(values: dict[str, JSON], path: FieldPath, value: JSON) -> dict[str, JSON]:
    """A copy with one value put in; what the path leads through and is no section becomes one."""
    return {**values, str(path[0]): _replaced(values.get(str(path[0])), path[1:], value)}


def _replaced(node: JSON, path: FieldPath, value: JSON) -> JSON:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        entries = node if isinstance(node, list) else []
        return [_replaced(entry, rest, value) if at == first else entry for at, entry in enumerate(entries)]
    return with_value(node if isinstance(node, dict) else {}, path, value)


def _read(text: str, place: str) -> tuple[Field, JSON]:
    name, equals, raw = text.partition("=")
    name = name.strip()
    if not equals or not name:
        message = "write --set section.key=value, for example --set train.epochs=10"
        raise FindingsError([Problem(place=place, message=message)])
    field = all_fields().get(name)
    if field is None:
        raise FindingsError([_unknown(name, place)])
    return field, _value(raw.strip(), field, place)


def _value(raw: str, field: Field, place: str) -> JSON:
    """The value as YAML; of a field that takes any text, the text as it stands, unless it is quoted or null."""
    if field.is_text and raw not in _NULLS and raw[:1] not in {"'", '"'}:
        return raw
    try:
        return parse_value(raw, place)
    except FindingsError as error:
        if field.is_text:
            return raw
        found = [Problem(place=place, field=field.path, message=problem.message) for problem in error.problems]
        raise FindingsError(found) from error


def _unknown(name: str, place: str) -> Problem:
    parts, known = name.split("."), all_fields()
    depth = next(i for i in range(len(parts)) if ".".join(parts[: i + 1]) not in known)
    section = ".".join(parts[:depth])
    if section and known[section].section is None:
        message = f"{section} is a value and has no keys; write --set {section}=..."
        return Problem(place=place, field=name, message=message)
    key = parts[-1]
    message = f"{unknown_key(section, key)} {allowed_keys(section)}"
    return Problem(place=place, field=name, message=message, suggested=suggestions(section, key))


def _put(values: dict[str, JSON], path: FieldPath, value: JSON) -> bool:
    """Set one value; False when the file has something else where a section must be (which is reported anyway)."""
    for part in path[:-1]:
        inner = values.setdefault(str(part), {})
        if inner is None:
            inner = values[str(part)] = {}
        if not isinstance(inner, dict):
            return False
        values = inner
    values[str(path[-1])] = value
    return True
