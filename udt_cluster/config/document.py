"""Text of a job file -> plain values, with the place of every key.

The YAML is read as data and nothing else: tags, anchors, aliases and a second document are refused before anything is
built, so a job file can neither run code nor grow in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from udt_cluster.config.problems import FieldPath, FindingsError, Problem, dotted, shown
from udt_cluster.config.syntax import explained_syntax, kind_of_file, strange_indentation

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 16
MAX_NODES = 10_000
_LONGEST_NUMBER = 40
_BASES = {"0x": 16, "0o": 8, "0b": 2}


@dataclass(frozen=True)
class Place:
    """Where a value was written: `jobs/x.yaml:12`, or `--set train.epochs=ten`."""

    text: str
    line: int | None = None


@dataclass(frozen=True)
class Document:
    """What a job file says.

    Attributes:
        values: The values as plain Python; of a key that is written twice, the first.
        places: Where each key and list entry stands.
        problems: Keys that are written twice, and the like; the rest was read all the same.
    """

    values: dict[str, JSON]
    places: dict[FieldPath, Place]
    problems: tuple[Problem, ...]


def read_document(path: Path) -> Document:
    """Read a job file.

    Raises:
        FindingsError: there is no such file, or it is not one YAML mapping of plain values.
    """
    return parse_document(_read_text(path), str(path))


def parse_document(text: str, name: str) -> Document:
    """Read YAML text; `name` stands for the file in messages.

    Raises:
        FindingsError: the text is not one YAML mapping of plain values; every tag, anchor and alias is listed.
    """
    node = _compose(text, name)
    if node is None:
        raise _finding(name, "the file is empty; `udt-cluster init --template acdc` writes one to begin from")
    if not isinstance(node, MappingNode):
        raise _finding(name, f"a job file is made of `key: value` lines; this is {_kind(node)}", line=_line(node))
    builder = _Builder(name)
    builder.places[()] = _place(name, _line(node))
    values = builder.mapping(node, ())
    return Document(values=values, places=builder.places, problems=tuple(builder.problems))


def parse_value(text: str, place: str) -> JSON:
    """Read the value of a `--set`, with the same rules as a file.

    Raises:
        FindingsError: the text is not YAML, or has tags, anchors or aliases.
    """
    try:
        node = _compose(text, place)
        if node is None:
            return None
        builder = _Builder(place)
        value = builder.value(node, ())
    except FindingsError as error:
        raise FindingsError(Problem(place=place, message=found.message) for found in error.problems) from error
    if builder.problems:
        raise FindingsError(Problem(place=place, message=found.message) for found in builder.problems)
    return value


def _read_text(path: Path) -> str:
    name = str(path)
    try:
        if path.is_dir():
            raise _finding(name, "this is a folder; name the job file in it")
        if not path.exists():
            raise _finding(name, "no such file; `udt-cluster init --list` names the templates to begin from")
        if not path.is_file():
            raise _finding(name, "not a regular file")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _finding(name, f"{size:,} bytes; a job file has at most {MAX_BYTES:,}. Is this the right file?")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _finding(repr(name), f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if kind := kind_of_file(data):
        raise _finding(name, f"this is {kind}, not a job file{'; save it as UTF-8' if 'text' in kind else ''}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _finding(name, f"not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8", line=line) from error


def _compose(text: str, name: str) -> Node | None:
    if fault := strange_indentation(text):
        raise _finding(name, fault.message, line=fault.line)
    try:
        if problems := _forbidden(YAML(typ="safe", pure=True).parse(text), name):
            raise FindingsError(problems)
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        fault = explained_syntax(error, text, name)
        raise _finding(name, fault.message, line=fault.line) from error
    return node


def _forbidden(events: Iterable[Event], name: str) -> list[Problem]:
    """Everything that is YAML and has no place in a job file, found before anything is built."""
    problems: list[Problem] = []
    documents = depth = 0
    for count, event in enumerate(events):
        line = event.start_mark.line + 1
        documents += isinstance(event, DocumentStartEvent)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        problems += [_problem(name, message, line=line) for message in _refusals(event)]
        if documents > 1:
            return [*problems, _problem(name, "a second document begins here; one file is one job", line=line)]
        if depth > MAX_DEPTH:
            return [*problems, _problem(name, f"nested more than {MAX_DEPTH} deep", line=line)]
        if count > MAX_NODES:
            return [*problems, _problem(name, f"more than {MAX_NODES:,} values; is this a job file?", line=line)]
    return problems


def _refusals(event: Event) -> list[str]:
    if isinstance(event, DocumentStartEvent):
        return ["a %YAML or %TAG line; job files are plain YAML 1.2: remove it"] if event.version or event.tags else []
    if isinstance(event, AliasEvent):
        return [f"the alias *{event.anchor}; write the value itself (a text that begins with '*' needs quotes)"]
    if not isinstance(event, NodeEvent):
        return []
    found = []
    if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
        found.append("merge keys (<<) are not supported; write the keys out")
    if event.anchor:
        found.append(f"the anchor &{event.anchor}; job files have none: remove it")
    if tag := getattr(event, "tag", None):
        written = str(tag).replace("tag:yaml.org,2002:", "!!")
        found.append(f"the tag {written}; job files hold plain values only (a text that begins with '!' needs quotes)")
    return found


class _Builder:
    """Builds plain values of YAML nodes, and notes where each stands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[FieldPath, Place] = {}
        self.problems: list[Problem] = []

    def value(self, node: Node, path: FieldPath) -> JSON:
        self.places.setdefault(path, _place(self.name, _line(node)))
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(entry, (*path, index)) for index, entry in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: FieldPath) -> dict[str, JSON]:
        values: dict[str, JSON] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, ScalarNode) else None
            if key is None:
                self.refuse(key_node, path, f"a key must be a plain word; this is {_kind(key_node)}")
            elif key in values:
                first = self.places[(*path, key)]
                self.refuse(key_node, (*path, key), f"the key is written twice, first in line {first.line}; keep one")
            else:
                self.places[(*path, key)] = _place(self.name, _line(key_node))
                values[key] = self.value(value_node, (*path, key))
        return values

    def scalar(self, node: ScalarNode, path: FieldPath) -> JSON:
        text = str(node.value)
        kind = str(node.tag).rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float") and len(text) <= _LONGEST_NUMBER:
            return _number(text, kind)
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.refuse(node, path, f"half a character (surrogate) in {shown(text)}")
            return ""
        return text

    def refuse(self, node: Node, path: FieldPath, message: str) -> None:
        self.problems.append(_problem(self.name, message, line=_line(node), field=dotted(path)))


def _number(text: str, kind: str) -> int | float:
    plain = text.replace("_", "").lower()
    if kind == "int":
        return int(plain, _BASES.get(plain.lstrip("+-")[:2], 10))
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))


def _finding(name: str, message: str, *, line: int | None = None) -> FindingsError:
    return FindingsError([_problem(name, message, line=line)])


def _problem(name: str, message: str, *, line: int | None, field: str = "") -> Problem:
    return Problem(place=_place(name, line).text, line=line, field=field, message=message)


def _place(name: str, line: int | None) -> Place:
    return Place(name if line is None else f"{name}:{line}", line)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, SequenceNode) else f"the single value {shown(str(node.value))}"
