"""Findings about the data set as a whole: formats, classes, names, text about persons."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from data_prep.alike import alike
from data_prep.case import Discovery
from data_prep.check.finding import SHOWN, Finding, Row, Severity, remedy_of
from data_prep.check.survey import Survey, Tally
from data_prep.privacy import suspicious_ids
from udt_cluster.config.data import DataConfig

_TRACES: dict[str, tuple[Severity, str]] = {
    "identifying": ("warning", "{field} has content: it is there to say who somebody is"),
    "text": ("note", "{field} has content, which may be about a person"),
    "burned_in": ("warning", "{field}: text about the patient may be drawn into the pixels, which are stored"),
}
_LONGEST_ID = 200


def of_places(survey: Survey) -> Iterator[Finding]:
    """D2: headers that say two things."""
    remedy = "Find out which is right, and write it to both (nibabel: set_sform, set_qform)."
    for line, tally in sorted(survey.doubts.items()):
        yield _finding("D2", "warning", line, tally, remedy=remedy)


def of_values(survey: Survey) -> Iterator[Finding]:
    """D5: what the readers decided, and values of several kinds."""
    for line, tally in sorted(survey.decisions.items()):
        yield _finding("D5", "note", line, tally, remedy="")
    if len(survey.channels) > 1:
        usual = max(survey.channels, key=lambda number: (survey.channels[number].count, number))
        for number in sorted(set(survey.channels) - {usual}):
            message = f"{number} channel(s), where most cases have {usual}"
            yield _finding("D5", "refused", message, survey.channels[number], remedy="Make all grey, or all RGB.")
    if len(survey.dtypes) > 1:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(survey.dtypes.items()))
        message = f"cases have values of several types: {kinds}; the widest is stored"
        yield Finding(row="D5", severity="warning", message=message, remedy="Check that they are of one scale.")


def of_classes(survey: Survey) -> Iterator[Finding]:
    """D6: empty masks, and classes that nobody could learn."""
    if survey.good and survey.empty_cases.count == len(survey.good):
        yield _finding("D6", "refused", "every mask is empty: there is nothing to learn", survey.empty_cases)
        return
    if survey.empty_cases.count:
        yield _finding("D6", "note", "the mask has no foreground", survey.empty_cases, remedy="")
    for index, name in enumerate(survey.class_names):
        if survey.good and index and not survey.class_cases[index]:
            message = f"class {name} has no pixel in any case"
            yield Finding(row="D6", severity="refused", message=message, remedy=remedy_of("D6"))
    for index, tally in sorted(survey.lost.items()):
        everywhere = tally.count == survey.class_cases[index]
        message = f"class {survey.class_names[index]} is so small that nothing of it is left at data.size"
        yield _finding("D6", "refused" if everywhere else "warning", message, tally, remedy="Raise data.size.")


def of_names(discovery: Discovery, files: Iterable[str]) -> Iterator[Finding]:
    """D7: ids that are not one name everywhere, and that would make trouble as names of files."""
    ids = [case.id for case in discovery.cases]
    twins = _repeated(ids)
    for name in twins:
        same = [case for case in discovery.cases if case.id == name]
        message = f"{same[0].images[0]} and {same[1].images[0]} would both be case {name!r}"
        yield Finding(row="D7", severity="refused", message=message, remedy="Rename one of them.", case=name)
    for group in alike(ids):
        message = f"{' and '.join(map(repr, group[:SHOWN]))} are one name where case and Unicode forms do not count"
        yield Finding(
            row="D7", severity="warning", message=message, remedy="Rename all but one.", case=group[0], cases=group[1:]
        )
    for message, is_odd, severity in _ODD:
        tally = Tally()
        for name in dict.fromkeys([*ids, *files]):
            if is_odd(name):
                tally.add(name)
        if tally.count:
            yield _finding("D7", severity, message, tally, remedy="" if severity == "note" else remedy_of("D7"))


def of_privacy(survey: Survey, discovery: Discovery, config: DataConfig, *, upload: bool) -> Iterator[Finding]:
    """S9: fields by name, never their content; ids that say who the patient is."""
    for (kind, name), tally in sorted(survey.traces.items()):
        severity, text = _TRACES[kind]
        remedy = "Look at the pixels, and blank the text out." if kind == "burned_in" else remedy_of("S9")
        yield _finding("S9", severity, text.format(field=name), tally, remedy=remedy)
    if config.pseudonymize:
        return
    reasons: dict[str, Tally] = defaultdict(Tally)
    names = dict.fromkeys(name for case in discovery.cases for name in (case.id, case.group, case.site))
    for suspicion in suspicious_ids(names):
        reasons[suspicion.reason].add(suspicion.id)
    for reason, tally in sorted(reasons.items()):
        remedy = "Set data.pseudonymize: true, or rename the files"
        remedy += "." if upload else "; storage in s3:// refuses them otherwise."
        yield _finding(
            "S9", "refused" if upload else "warning", f"case ids that look like {reason}", tally, remedy=remedy
        )


def are_names(ids: Iterable[str]) -> bool:
    """Whether these ids could be those of a data set: each once, and text."""
    names = list(ids)
    return len(set(names)) == len(names) and not any(map(_is_no_text, names))


def _finding(row: Row, severity: Severity, message: str, tally: Tally, *, remedy: str | None = None) -> Finding:
    return Finding(
        row=row,
        severity=severity,
        message=message,
        remedy=remedy_of(row) if remedy is None else remedy,
        case=tally.cases[0] if tally.cases else "",
        cases=tuple(tally.cases[1:SHOWN]),
        file=tally.file,
        count=tally.count,
    )


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _is_no_text(name: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in name)


def _is_unprintable(name: str) -> bool:
    return not _is_no_text(name) and not name.isprintable()


def _has_edges(name: str) -> bool:
    return any(part != part.strip() for part in name.split("/"))


def _is_unusual(name: str) -> bool:
    return name.isprintable() and (" " in name or not name.isascii()) and not _has_edges(name)


_ODD: tuple[tuple[str, Callable[[str], bool], Severity], ...] = (
    ("names that are not UTF-8", _is_no_text, "refused"),
    ("names with line breaks or other signs that cannot be printed", _is_unprintable, "warning"),
    ("names with blanks at an end", _has_edges, "warning"),
    (f"names longer than {_LONGEST_ID} characters", lambda name: len(name) > _LONGEST_ID, "warning"),
    ("names with blanks or letters outside ASCII: they are kept as they are", _is_unusual, "note"),
)
