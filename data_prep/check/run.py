"""The check itself: one pass over the cases by the tasks of an executor, then what is to be said of all of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import data_prep.check.judge as judge
import data_prep.check.leaks as leaks
from data_prep.adapters import get as get_adapter
from data_prep.case import Case, Discovery
from data_prep.check.facts import Facts, Sample, facts_of
from data_prep.check.finding import Finding, Severity, of_problem, remedy_of
from data_prep.check.look import Look, LookTask, look
from data_prep.check.pictures import PictureTask, draw
from data_prep.check.report import CheckReport, ordered
from data_prep.check.survey import Survey
from data_prep.discovery import Found, discover_rest
from data_prep.executor import Died, Executor
from data_prep.prepare import choose_groups
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

OnProgress = Callable[[int, int, str], None]
"""(done, total, what), called after every task."""

_MOST_PICTURES = 48
_SAMPLES = 12
_LEAVE_OUT = "Mend the file or its name in the source, or leave it out (data.on_bad_case: quarantine)."


@dataclass
class _Check:
    """A check under way."""

    config: DataConfig
    source: Location
    executor: Executor
    on_progress: OnProgress
    findings: list[Finding] = field(default_factory=list)
    pairs: dict[int, tuple[Case, ...]] = field(default_factory=dict)

    def add(self, findings: Sequence[Finding], cases: Sequence[tuple[Case, ...]] = ()) -> None:
        """Findings, and the cases that show what is meant."""
        for number, finding in enumerate(findings):
            if number < len(cases) and cases[number]:
                self.pairs[len(self.findings)] = cases[number]
            self.findings.append(finding)


def check_source(
    config: DataConfig,
    *,
    executor: Executor,
    on_progress: OnProgress = lambda done, total, what: None,
    upload: bool = False,
    pictures: bool = True,
) -> CheckReport:
    """Look at everything in a source that could spoil a training, and say it in one report.

    Cases are found and read by the very code that prepares them, each by one task that reads its files once; nothing is
    written. What is wrong with the source is in the report, not raised.

    Args:
        config: The `data` section of a job.
        executor: Where tasks run.
        on_progress: Told after every task.
        upload: Whether the store will be in `s3://`: case ids that identify somebody are then refused.
        pictures: Whether to draw thumbnails, for the page: of at most 60 cases, which are read once more.

    Raises:
        StorageUnreachableError, AuthError: the source cannot be reached.
    """
    started = time.monotonic()
    check = _Check(config, Location.parse(config.source), executor, on_progress)
    found = _discover(check)
    if found.discovery is None or not found.discovery.cases:
        return _report(check, found, None, (), started)
    survey = _survey(check, found)
    _judge(check, found.discovery, survey, upload=upload)
    check.add(list(judge.of_names(found.discovery, found.files)))
    return _report(check, found, survey, _draw(check, survey) if pictures else (), started)


def _discover(check: _Check) -> Found:
    if check.source.is_local and check.source.local_path.is_file():
        check.add([Finding(row="S7", severity="refused", message="data.source is a file, not a folder")])
        return Found(discovery=None, problems=(), files=frozenset())
    try:
        adapter = get_adapter(check.config.adapter)
        found = discover_rest(adapter, check.source, check.config)
    except DataError as error:
        found = Found(discovery=None, problems=(error.message, *error.problems), files=frozenset())
    severity: Severity = "warning" if check.config.on_bad_case == "quarantine" and found.covered else "refused"
    lines = [of_problem(line, severity=severity, files=found.files, otherwise="D7") for line in found.problems]
    check.add([replace(f, remedy=_LEAVE_OUT) if found.covered and severity == "refused" else f for f in lines])
    if found.discovery is not None:
        if not found.discovery.cases and not found.problems:
            message = "no case was found; check data.source and data.adapter"
            check.add([Finding(row="D7", severity="refused", message=message)])
        check.add([Finding(row="D4", severity="warning", message=line) for line in found.discovery.warnings])
    return found


def _survey(check: _Check, found: Found) -> Survey:
    """The pass over all cases."""
    assert found.discovery is not None
    cases = found.discovery.cases
    survey = Survey(class_names=get_adapter(check.config.adapter).class_names(check.config))
    tasks = (LookTask(source=check.source, case=case, config=check.config) for case in cases)
    severity: Severity = "refused" if check.config.on_bad_case == "fail" else "warning"
    results = check.executor.map(look, tasks, description="checking cases")
    for done, (case, result) in enumerate(zip(cases, results, strict=True), start=1):
        seen = result if isinstance(result, Look) else Look(problems=(_died(case, result),))
        keys = frozenset((*case.images, *case.labels))
        problems = [of_problem(p, severity=severity, case=case.id, files=keys, known=seen.known) for p in seen.problems]
        check.add(problems, [(case,)] * len(problems))
        survey.add(case, seen)
        check.on_progress(done, len(cases), "cases")
    if cases and not survey.good and check.config.on_bad_case == "quarantine":
        check.add([Finding(row="D1", severity="refused", message="every case is bad: nothing is left to train on")])
    return survey


def _died(case: Case, died: Died) -> str:
    return f"{case.id}: not enough memory, or its task died: {died.reason}"


def _judge(check: _Check, discovery: Discovery, survey: Survey, *, upload: bool) -> None:
    group_by = "case"
    try:
        group_by, warnings = choose_groups(check.config, discovery)
        check.add([Finding(row="D4", severity="warning", message=line) for line in warnings])
    except DataError as error:
        check.add([Finding(row="D4", severity="refused", message=error.message, remedy="Say data.group_by: case.")])
    check.add(list(judge.of_places(survey)))
    check.add(list(judge.of_values(survey)))
    check.add(list(judge.of_classes(survey)))
    check.add(list(judge.of_privacy(survey, discovery, check.config, upload=upload)))
    if survey.good and judge.are_names(case.id for case in survey.good):
        judged = leaks.find(check.source, check.config, survey, group_by=group_by)
        check.add(judged.findings, judged.pairs)


def _draw(check: _Check, survey: Survey) -> tuple[Sample, ...]:
    """Pictures of the first suspicious cases, and of a few others that are spread over the data set."""
    by_id = {case.id: case for case in survey.good}
    for number, finding in enumerate(check.findings):
        if finding.row in ("D4", "D5", "D6", "S9") and finding.severity != "note" and finding.case in by_id:
            check.pairs.setdefault(number, (by_id[finding.case],))
    order = sorted(check.pairs, key=lambda n: check.findings[n].severity != "refused")[:_MOST_PICTURES]
    step = max(1, len(survey.good) // _SAMPLES)
    samples = survey.good[::step][:_SAMPLES]
    wanted = [*(check.pairs[number] for number in order), *((case,) for case in samples)]
    tasks = [PictureTask(source=check.source, cases=cases[:2], config=check.config) for cases in wanted]
    drawn = []
    for done, picture in enumerate(check.executor.map(draw, tasks, description="drawing"), start=1):
        drawn.append(picture if isinstance(picture, bytes) else None)
        check.on_progress(done, len(tasks), "pictures")
    for number, picture in zip(order, drawn, strict=False):
        check.findings[number] = replace(check.findings[number], picture=picture)
    pairs = zip(samples, drawn[len(order) :], strict=True)
    return tuple(Sample(case=case.id, picture=picture) for case, picture in pairs if picture)


def _report(
    check: _Check, found: Found, survey: Survey | None, samples: tuple[Sample, ...], started: float
) -> CheckReport:
    cases = found.discovery.cases if found.discovery else ()
    severities = {name: sum(f.severity == name for f in check.findings) for name in ("refused", "warning", "note")}
    counts = {
        "cases": len(cases),
        "good_cases": len(survey.good) if survey else 0,
        "bad_cases": survey.bad if survey else 0,
        "groups": len({case.group for case in cases}),
        "samples": survey.num_samples if survey else 0,
        "files": len(found.discovery.files) if found.discovery else 0,
        "bytes": survey.num_bytes if survey else 0,
        "empty_slices": survey.empty_slices if survey else 0,
        "empty_cases": survey.empty_cases.count if survey else 0,
        **severities,
    }
    return CheckReport(
        source=check.config.source,
        adapter=check.config.adapter,
        findings=ordered([f if f.remedy or f.severity != "refused" else _with_remedy(f) for f in check.findings]),
        counts=counts,
        facts=facts_of(survey) if survey else Facts(),
        samples=samples,
        seconds=time.monotonic() - started,
    )


def _with_remedy(finding: Finding) -> Finding:
    return replace(finding, remedy=remedy_of(finding.row))
