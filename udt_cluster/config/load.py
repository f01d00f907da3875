"""A job file and its overrides -> a :class:`Job`, or every finding at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

from udt_cluster.config import arms, searches
from udt_cluster.config.document import JSON, Document, Place, read_document
from udt_cluster.config.explain import explained, meant_values, missing, named_fields, without_name
from udt_cluster.config.fields import field_at, without_keys
from udt_cluster.config.hints import lists, proposed
from udt_cluster.config.job import Job
from udt_cluster.config.overrides import overridden, with_value
from udt_cluster.config.paths import absolute
from udt_cluster.config.problems import FieldPath, FindingsError, Problem, dotted
from udt_cluster.config.suggest import allowed_keys, suggestions, unknown_key
from udt_cluster.errors import JobFileError

# What stands in for a required field that is wrong, so that the checks between fields can still be made.
_STAND_INS: dict[str, JSON] = {"name": "a", "data": {}, "data.source": "a", "data.adapter": "acdc"}
_SEARCH_STAND_IN: JSON = {"model.dropout": {"choice": [0.1]}}
_PATHS: dict[str, Callable[[str], bool]] = {
    "data.source": lambda text: True,
    "data.splits.file": lambda text: True,
    "model.pretrained": lambda text: "/" in text or bool(Path(text).suffix),
    "train.init_from": lambda text: text.startswith((".", "/", "~")),
}


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Args:
        path: The file.
        overrides: `train.epochs=10`: a dotted field and its value in YAML, put over the file's in this order.

    Returns:
        The job, every default filled in. Relative paths are made absolute: one in the file against the file's
        folder, one of an override against the current folder.

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
    job, findings = _validated(values, document.places, Path(path).stem)
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
    lists: tuple[tuple[JSON, ...], ...] = ()
    """Lists that may have been meant, in groups; those that the job takes are proposed."""


def _validated(
    values: dict[str, JSON], places: Mapping[FieldPath, Place], file_stem: str
) -> tuple[Job | None, list[_Finding]]:
    """Validate; set what is wrong aside and validate again, for a wrong field hides the checks between fields."""
    findings: list[_Finding] = []
    aside: set[FieldPath] = set()
    written = values
    while True:
        job, errors = _tried(values)
        if job is not None:
            findings += [finding for finding in _of_whole(job, places) if not _concerned(finding, aside)]
            return (None if findings else job), [_with_list(finding, values, written) for finding in findings]
        found = _findings(errors, places, file_stem)
        findings += [finding for finding in found if not _concerned(finding, aside)]
        wrong = {_top(finding.path) for finding in found}
        if wrong <= aside:
            return None, [_with_list(finding, values, written) for finding in findings]
        aside |= wrong
        values = _without(values, aside)


def _of_whole(job: Job, places: Mapping[FieldPath, Place]) -> Iterator[_Finding]:
    """What is wrong with a sweep or a study of a job that is right otherwise."""
    for sentence in (*searches.faults(job), *arms.faults(job)):
        path = _blamed(sentence, (), places)
        yield _Finding(path, without_name(sentence, dotted(path)))


def _tried(values: dict[str, JSON]) -> tuple[Job | None, list[ErrorDetails]]:
    try:
        return Job.model_validate_json(to_json(values, inf_nan_mode="constants"), strict=True), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _with_list(finding: _Finding, right: dict[str, JSON], written: dict[str, JSON]) -> _Finding:
    """The finding with the lists that the job takes in place of what was found.

    They are tried in the job as it was `written`, and in what is `right` of it, for what else is wrong hides checks.
    """
    if not finding.lists:
        return finding
    groups = (
        (entries for entries in group if _takes(right, written, finding.path, entries)) for group in finding.lists
    )
    accepted = [first for group in groups if (first := next(group, None)) is not None]
    hint = proposed(accepted, field_at(dotted(finding.path)))
    return replace(finding, message=finding.message + hint)


def _takes(right: dict[str, JSON], written: dict[str, JSON], path: FieldPath, value: JSON) -> bool:
    """Whether the job has nothing to say against this value of a field."""
    job, _ = _tried(with_value(written, path, value))
    if job is not None:
        return True
    _, errors = _tried(with_value(right if _top(path) == path else written, path, value))
    found = _findings(errors, {path: Place("")}, "")
    return not any(finding.path[: len(path)] == path for finding in found)


def _findings(errors: Iterable[ErrorDetails], places: Mapping[FieldPath, Place], file_stem: str) -> list[_Finding]:
    made = (_finding(error, places, file_stem) for error in errors if not _is_echo(error))
    found = list(_with_allowed_keys(made))
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
    """Whether it only says that something else is wrong.

    A list is too short without its wrong entries, or a default depends on what was refused.
    """
    if error["type"] == "default_factory_not_called":
        return True
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _with_allowed_keys(findings: Iterable[_Finding]) -> Iterator[_Finding]:
    """The first unknown key of a section is told which keys there are; the next ones need no second list."""
    told: set[str] = set()
    for finding in findings:
        section = dotted(without_keys(finding.path)[:-1])
        if finding.is_unknown and section not in told:
            told.add(section)
            yield replace(finding, message=f"{finding.message} {allowed_keys(section)}")
        else:
            yield finding


def _finding(error: ErrorDetails, places: Mapping[FieldPath, Place], file_stem: str) -> _Finding:
    path, kind, found = _known(error["loc"]), error["type"], error["input"]
    field = field_at(dotted(without_keys(path)))
    if kind == "extra_forbidden":
        section, key = dotted(without_keys(error["loc"])[:-1]), str(error["loc"][-1])
        message = unknown_key(section, key, found)
        return _Finding(error["loc"], message, suggestions(section, key), is_unknown=True)
    if kind == "missing" and isinstance(path[-1], int):
        return _Finding(path[:-1], f"must have {path[-1] + 1} entries, got {len(found)}")
    if kind == "missing" and field is not None:
        return _Finding(path, missing(field, file_stem), is_missing=True)
    if kind == "model_type" and found is None:
        return _Finding(path, "the section is empty; indent its keys under it, or remove the line")
    message = explained(error, field)
    if kind == "value_error" and (field is None or field.section is not None):
        path = _blamed(message, path, places)
    meant = lists(found, dotted(path)) if kind in ("tuple_type", "list_type") else ()
    return _Finding(path, without_name(message, dotted(path)), meant_values(error, field), lists=meant)


def _merged(first: _Finding, second: _Finding) -> _Finding:
    """Two findings for one field, as a field of several kinds has."""
    if "got" not in first.message or "got" not in second.message:
        return first
    allowed, _, _ = second.message.partition(", got")
    parts = "; got" if "; got" in first.message else ", got"
    head, got, tail = first.message.rpartition(parts)
    if "; did you mean " not in tail and ": write " in second.message:
        tail += f": write {second.message.partition(': write ')[2]}"
    joined = f"{head}{'; or ' if parts == '; got' else ', or '}{allowed.removeprefix('must be ')}{got}{tail}"
    return replace(first, message=joined)


def _blamed(message: str, section: FieldPath, places: Mapping[FieldPath, Place]) -> FieldPath:
    """The first field that the message names and the user wrote; a check between fields points to its line."""
    if begun := [path for path in places if path and message.startswith(f"{dotted(path)}: ")]:
        return max(begun, key=len)
    if section in places and not any(path[:-1] == section for path in places):
        return section  # one value stands where a section could
    paths: list[FieldPath] = [tuple(name.split(".")) for name in named_fields(message, dotted(section))]
    return next((path for path in paths if path in places), paths[0] if paths else section)


def _known(location: tuple[str | int, ...]) -> FieldPath:
    """The location without what pydantic adds for the branches of a union."""
    path: FieldPath = ()
    for part in location:
        longer = (*path, part)
        if isinstance(part, str) and field_at(dotted(without_keys(longer))) is None:
            break
        path = longer
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
    return tuple(takewhile(lambda part: isinstance(part, str), path))


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
    sweep = remaining.get("tune")
    if isinstance(sweep, dict) and not sweep.get("search"):
        sweep["search"] = _SEARCH_STAND_IN
    return remaining


def _with_absolute_paths(document: Document, folder: Path) -> dict[str, JSON]:
    """A worker runs in another folder: every path is made absolute, from where its writer saw it."""
    values = document.values
    sources = _value_at(values, ("study", "datasets"))
    of_studies = (
        {("study", "datasets", name, "source"): _PATHS["data.source"] for name in sources or {}}
        if isinstance(sources, dict)
        else {}
    )
    for path, is_path in [*((tuple(name.split(".")), test) for name, test in _PATHS.items()), *of_studies.items()]:
        text = _value_at(values, path)
        if isinstance(text, str) and is_path(text):
            in_file = _place_of(path, document.places).line is not None
            values = with_value(values, path, absolute(text, folder if in_file else Path()))
    return values


def _value_at(values: JSON, path: FieldPath) -> JSON:
    for part in path:
        values = values.get(str(part)) if isinstance(values, dict) else None
    return values
