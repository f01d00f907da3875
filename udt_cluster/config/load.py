"""A job file and its overrides -> a :class:`Job`, or every finding at once."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

from udt_cluster.config.document import JSON, Document, Place, read_document
from udt_cluster.config.explain import explained, missing, named_fields, without_name
from udt_cluster.config.fields import all_fields
from udt_cluster.config.job import Job
from udt_cluster.config.overrides import overridden
from udt_cluster.config.problems import FieldPath, FindingsError, Problem, dotted
from udt_cluster.config.suggest import allowed_keys, suggestions, unknown_key
from udt_cluster.errors import JobFileError

# What stands in for a required field that is wrong, so that the checks between fields can still be made.
_STAND_INS: dict[str, JSON] = {"name": "a", "data": {}, "data.source": "a", "data.adapter": "acdc"}
_PATHS: dict[tuple[str, str], Callable[[str], bool]] = {
    ("data", "source"): lambda text: True,
    ("model", "pretrained"): lambda text: text not in {"none", "imagenet"},
    ("train", "init_from"): lambda text: text.startswith((".", "/", "~")),
}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: The file.
        overrides: `train.epochs=10`: a dotted field and its value in YAML, put over the file's in this order.

    Returns:
        The job, every default filled in. A relative `data.source` is made absolute: one in the file against the
        file's folder, one of an override against the current folder.

    Raises:
        JobFileError: the job is wrong; `problems` has every finding with its line, the field, what was found, what is
            allowed and the nearest known key.
    """
    found = check_job(path, overrides)
    if isinstance(found, Job):
        return found
    count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
    raise JobFileError(f"{path} is not a job that can run: {count}", [str(problem) for problem in found])


def check_job(path: str | Path, overrides: Sequence[str] = ()) -> Job | tuple[Problem, ...]:
    """The job, or everything that is wrong with it, for callers that want to show findings in their own way."""
    try:
        document = overridden(read_document(Path(path)), overrides)
    except FindingsError as error:
        return error.problems
    values = _with_absolute_paths(document, Path(path).parent)
    job, findings = _validated(values, document.places)
    problems = [*document.problems, *(_located(finding, document.places) for finding in findings)]
    if job is None or problems:
        return tuple(sorted(problems, key=lambda problem: problem.line or 10**9))
    return job


@dataclass(frozen=True)
class _Finding:
    path: FieldPath
    message: str
    suggested: tuple[str, ...] = ()
    is_missing: bool = False
    is_unknown: bool = False


def _validated(values: dict[str, JSON], places: Mapping[FieldPath, Place]) -> tuple[Job | None, list[_Finding]]:
    """Validate; set what is wrong aside and validate again, for a wrong field hides the checks between fields."""
    findings: list[_Finding] = []
    aside: set[FieldPath] = set()
    while True:
        try:
            job = Job.model_validate_json(to_json(values, inf_nan_mode="constants"), strict=True)
        except ValidationError as error:
            found = _findings(error.errors(include_url=False), places)
        else:
            return (None if findings else job), findings
        findings += [finding for finding in found if not _concerned(finding, aside)]
        wrong = {_top(finding.path) for finding in found}
        if wrong <= aside:
            return None, findings
        aside |= wrong
        values = _without(values, aside)


def _findings(errors: Iterable[ErrorDetails], places: Mapping[FieldPath, Place]) -> list[_Finding]:
    found = list(_with_allowed_keys(_finding(error, places) for error in errors if not _is_echo(error)))
    meant = {path for finding in found for path in finding.suggested}
    merged: dict[FieldPath, _Finding] = {}
    for finding in found:
        if finding.is_missing and dotted(finding.path) in meant:
            continue
        first = merged.setdefault(finding.path, finding)
        if first is not finding:
            merged[finding.path] = _merged(first, finding)
    return list(merged.values())


def _is_echo(error: ErrorDetails) -> bool:
    """Whether a list is called too short only because its wrong entries were not counted."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _with_allowed_keys(findings: Iterable[_Finding]) -> Iterator[_Finding]:
    """The first unknown key of a section is told which keys there are; the next ones need no second list."""
    told: set[str] = set()
    for finding in findings:
        section = dotted(finding.path[:-1])
        if finding.is_unknown and section not in told:
            told.add(section)
            yield replace(finding, message=f"{finding.message} {allowed_keys(section)}")
        else:
            yield finding


def _finding(error: ErrorDetails, places: Mapping[FieldPath, Place]) -> _Finding:
    path, kind = _known(error["loc"]), error["type"]
    field = all_fields().get(dotted(path))
    if kind == "extra_forbidden":
        section, key = dotted(error["loc"][:-1]), str(error["loc"][-1])
        return _Finding(error["loc"], unknown_key(section, key), suggestions(section, key), is_unknown=True)
    if kind == "missing" and isinstance(path[-1], int):
        return _Finding(path[:-1], f"must have {path[-1] + 1} entries, got {len(error['input'])}")
    if kind == "missing" and field is not None:
        return _Finding(path, missing(field), is_missing=True)
    if kind == "model_type" and error["input"] is None:
        return _Finding(path, "the section is empty; put keys under it, or remove the line")
    message = explained(error)
    if kind == "value_error" and (field is None or field.section is not None):
        path = _blamed(message, path, places)
    return _Finding(path, without_name(message, dotted(path)))


def _merged(first: _Finding, second: _Finding) -> _Finding:
    """Two findings for one field, as a field of several kinds has."""
    if "got" in first.message and "got" in second.message:
        allowed = second.message.partition(", got")[0].removeprefix("must be ")
        head, got, tail = first.message.rpartition("; got")
        return _Finding(first.path, f"{head}; or {allowed}{got}{tail}" if got else first.message)
    return first


def _blamed(message: str, section: FieldPath, places: Mapping[FieldPath, Place]) -> FieldPath:
    """The first field that the message names and the user wrote; a check between fields points to its line."""
    paths: list[FieldPath] = [tuple(name.split(".")) for name in named_fields(message, dotted(section))]
    return next((path for path in paths if path in places), paths[0] if paths else section)


def _known(location: tuple[str | int, ...]) -> FieldPath:
    """The location without what pydantic adds for the branches of a union."""
    path: FieldPath = ()
    for part in location:
        if isinstance(part, str) and dotted((*path, part)) not in all_fields():
            break
        path = (*path, part)
    return path


def _located(finding: _Finding, places: Mapping[FieldPath, Place]) -> Problem:
    place = _place_of(finding.path, places)
    return Problem(
        place=place.text,
        line=place.line,
        field=dotted(finding.path),
        message=finding.message,
        suggested=finding.suggested,
    )


def _place_of(path: FieldPath, places: Mapping[FieldPath, Place]) -> Place:
    """Where the field was written, or else the section that it is missing from."""
    return next(places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in places)


def _top(path: FieldPath) -> FieldPath:
    """The field itself, for the entry of a list."""
    return tuple(part for part in path if isinstance(part, str))


def _concerned(finding: _Finding, aside: set[FieldPath]) -> bool:
    """Whether a finding is about a field that was set aside, and so about a stand-in and not about the file."""
    section = dotted(_top(finding.path)[:-1])
    paths = {tuple(name.split(".")) for name in named_fields(finding.message, section)} | {_top(finding.path)}
    return any(path[: len(gone)] == gone for path in paths for gone in aside)


def _without(values: dict[str, JSON], aside: set[FieldPath]) -> dict[str, JSON]:
    def kept(node: dict[str, JSON], at: FieldPath) -> Iterator[tuple[str, JSON]]:
        for key, value in node.items():
            if (path := (*at, key)) not in aside:
                yield key, dict(kept(value, path)) if isinstance(value, dict) else value

    remaining = dict(kept(values, ()))
    for name, stand_in in _STAND_INS.items():
        section, _, leaf = name.rpartition(".")
        node = remaining[section] if section else remaining
        if isinstance(node, dict):
            node.setdefault(leaf, stand_in)
    return remaining


def _with_absolute_paths(document: Document, folder: Path) -> dict[str, JSON]:
    """A worker runs in another folder: every path is made absolute, from where its writer saw it."""
    values = dict(document.values)
    for (section, key), is_path in _PATHS.items():
        part = values.get(section)
        text = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(text, str) and is_path(text):
            in_file = _place_of((section, key), document.places).line is not None
            values[section] = {**part, key: _absolute(text, folder if in_file else Path())}
    return values


def _absolute(text: str, folder: Path) -> str:
    if not text.strip() or "\0" in text or _SCHEME.match(text):
        return text
    home = Path.home() if text == "~" or text.startswith("~/") else None
    return str((folder / (home / text[2:] if home else text)).resolve())
