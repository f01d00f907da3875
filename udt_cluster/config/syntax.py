"""Why a text is no YAML: the parser's words, which tell where it gave up, turned into what the writer did."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

_PLAIN_WORDS = {
    "mapping values are not allowed": "a ':' where none may stand; look at the indentation, and quote a text with ': '",
    "found unexpected end of stream": "a quote is opened and never closed",
    "expected <block end>": "the indentation does not fit the lines above",
    "could not find expected ':'": "a key without ':'; write `key: value`",
    "expected ',' or '}'": "a '{' is not closed, or a ',' is missing",
    "expected ',' or ']'": "a '[' is not closed, or a ',' is missing",
    "expected the node content": "a value is missing, or a bracket is not closed",
    "'\\t' that cannot start": "a tab; YAML is indented with spaces",
    "that cannot start any token": "a text that begins with a special character needs quotes",
    "expected alphabetic or numeric character": "a text that begins with '*' or '&' needs quotes",
    "special characters are not allowed": "a control character that no text file should have",
    "expected escape sequence": "in \"...\" a backslash begins an escape; folders are divided by '/'",
    "unknown escape character": "in \"...\" a backslash begins an escape; folders are divided by '/'",
}
_MAGIC = {
    b"\x89PNG": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"GIF8": "an image (GIF)",
    b"II*\x00": "an image (TIFF)",
    b"MM\x00*": "an image (TIFF)",
    b"BM": "an image (BMP)",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_NO_SPACE = re.compile(r"\s*(?:- )?([A-Za-z_]\w*):([^\s/].*)")
_COMMENT = re.compile(r"\s*(//|/\*)|.*[,{\[]\s*//\s")
_QUOTE_WITHIN = re.compile(r":\s*'[^']*[^\s':,]'[^\s',}\]]|:\s*\"[^\"]*[^\s\":,\\]\"[^\s\",}\]]")
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_STRANGE_SPACE = re.compile(r"[ \t]*([^\S \t\r\n])")


@dataclass(frozen=True)
class Fault:
    """A line, counted from 1, and what is wrong there."""

    line: int
    message: str


@dataclass(frozen=True)
class _Context:
    """Where the parser gave up, and the text up to there."""

    lines: list[str]
    at: int
    problem: str
    opened: int
    is_json: bool

    @property
    def line(self) -> str:
        return self.text(self.at)

    def text(self, at: int) -> str:
        """A line by its index; nothing behind the end."""
        return self.lines[at] if at < len(self.lines) else ""

    @property
    def before(self) -> int | None:
        """The last line above that says something."""
        return next((at for at in range(min(self.at, len(self.lines)) - 1, -1, -1) if _says(self.lines[at])), None)


def explained_syntax(error: YAMLError, text: str, name: str) -> Fault:
    """What the writer of `text` did; `name` ends in `.json` where it is meant to be JSON."""
    context = _context(error, text, name)
    kind = "JSON" if context.is_json else "YAML"
    fault = next((found for rule in _RULES if (found := rule(context)) is not None), None)
    if fault is None:
        words = next((words for part, words in _PLAIN_WORDS.items() if part in context.problem), context.problem)
        fault = Fault(context.at + 1, words)
    return Fault(fault.line, f"this is not {kind}: {fault.message}")


def strange_indentation(text: str) -> Fault | None:
    """The first line that is indented with something that only looks like spaces."""
    for number, line in enumerate(text.split("\n"), start=1):
        if (match := _STRANGE_SPACE.match(line)) and line.strip():
            return Fault(number, f"indented with U+{ord(match[1]):04X}, which looks like a space; write spaces")
    return None


def kind_of_file(data: bytes) -> str | None:
    """What a file is by its first bytes, when it is something else than text."""
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def _context(error: YAMLError, text: str, name: str) -> _Context:
    at = opened = 0
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        at = error.problem_mark.line
        opened = error.context_mark.line if error.context_mark is not None else at
    elif isinstance(error, ReaderError):
        at = opened = text.count("\n", 0, error.position)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    is_json = name.lower().endswith(".json")
    return _Context(lines=_BREAK.split(text), at=at, problem=problem, opened=opened, is_json=is_json)


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _quote_never_closed(context: _Context) -> Fault | None:
    if "found unexpected end of stream" not in context.problem:
        return None
    return Fault(context.opened + 1, _PLAIN_WORDS["found unexpected end of stream"])


def _comment_of_json(context: _Context) -> Fault | None:
    found = [at for at, line in enumerate(context.lines[: context.at + 1]) if _COMMENT.match(line)]
    if not found or not (context.is_json or context.lines[0].lstrip().startswith("{")):
        return None
    return Fault(found[0] + 1, "a comment; begin it with #, not with //")


def _template(context: _Context) -> Fault | None:
    if re.search(r":\s*\{\{|:\s*\{%", context.line):
        return Fault(
            context.at + 1, "a text with '{' needs quotes, and templates are not expanded: write the value itself"
        )
    return None


def _quote_within(context: _Context) -> Fault | None:
    if _QUOTE_WITHIN.search(context.line):
        return Fault(context.at + 1, "a quote inside quotes; use the other kind of quotes around the text")
    return None


def _bracket_in_a_text(context: _Context) -> Fault | None:
    if "expected <block end>" in context.problem and (match := re.search(r":\s*([{\[]).*[}\]]\s*\S", context.line)):
        return Fault(
            context.at + 1, f"something stands behind the closing bracket; a text with '{match[1]}' needs quotes"
        )
    return None


def _hash_in_a_text(context: _Context) -> Fault | None:
    for at in (context.opened, context.before or 0):
        if "expected" in context.problem and re.search(r"[\[{,]\s*#", context.text(at)):
            return Fault(at + 1, "a '#' begins a comment; a text with it needs quotes")
    return None


def _never_closed(context: _Context) -> Fault | None:
    match = re.match(r"expected ',' or '([}\]])'", context.problem)
    if match is None or context.opened == context.at:
        return None
    opened = "{" if match[1] == "}" else "["
    return Fault(context.at + 1, f"the '{opened}' of line {context.opened + 1} is not closed, or a ',' is missing")


def _equals(context: _Context) -> Fault | None:
    above = context.before
    if above is None or not (match := re.match(r"\s*([\w.-]+)\s*=\s*\S", context.lines[above])):
        return None
    return Fault(above + 1, f"'=' where ':' belongs; write {match[1]}: ...")


def _no_space(context: _Context) -> Fault | None:
    if "mapping values" not in context.problem and "could not find expected ':'" not in context.problem:
        return None
    for at in (context.before, context.at):
        if at is not None and (match := _NO_SPACE.fullmatch(context.text(at))):
            return Fault(at + 1, f"a space is missing after '{match[1]}:'")
    return None


def _no_colon(context: _Context) -> Fault | None:
    above = context.before
    if above is None or not re.search("mapping values|could not find expected ':'", context.problem):
        return None
    word = re.fullmatch(r"\s*(\w+)\s*", context.lines[above])
    return Fault(above + 1, f"a ':' is missing after {word[1]!r}") if word else None


def _colon_in_a_text(context: _Context) -> Fault | None:
    if "mapping values" in context.problem and re.match(r"\s*[\w-]+: +[^'\"{\[\s].*: ", context.line):
        return Fault(
            context.at + 1, "a second ':' in a line; keys go on lines of their own, and a text with ': ' needs quotes"
        )
    return None


def _deeper(context: _Context) -> Fault | None:
    above = context.before
    if "mapping values" not in context.problem or above is None or not re.match(r" *[\w-]+:(\s|$)", context.line):
        return None
    here, there = (len(line) - len(line.lstrip()) for line in (context.line, context.lines[above]))
    if here <= there or context.lines[above].rstrip().endswith(":"):
        return None
    return Fault(context.at + 1, f"indented by {here} spaces, the line above by {there}; keys of a section are aligned")


def _tab_behind(context: _Context) -> Fault | None:
    if "'\\t' that cannot start" in context.problem and "\t" not in context.line[: _indent(context.line)]:
        return Fault(context.at + 1, "a tab after ':'; write a space")
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


_RULES: tuple[Callable[[_Context], Fault | None], ...] = (
    _quote_never_closed,
    _comment_of_json,
    _template,
    _quote_within,
    _bracket_in_a_text,
    _hash_in_a_text,
    _never_closed,
    _equals,
    _no_space,
    _no_colon,
    _colon_in_a_text,
    _deeper,
    _tab_behind,
)
