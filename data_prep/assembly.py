"""From cases that were found to a committed store: cases are staged, shards are put together of them, COMMIT is last.

Every task can be killed and run again: what is whole is found and left alone. Two preparations of one version do the
same work with the same bytes; the first to commit removes what was staged, and the other one sees the COMMIT.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version as package_version
from typing import Any, TypeVar

from data_prep.adapters import get as get_adapter
from data_prep.case import BadCase, Case, CaseSummary, Discovery
from data_prep.executor import Died, Executor
from data_prep.hashed_source import HashedSource
from data_prep.kept import KeptCases, StagedPlaces
from data_prep.preparation import CaseReport, CaseTask, run_case_task
from data_prep.quarantine import describe, left_out, mixed_channels
from data_prep.shard_tasks import count_shards, shard_tasks, write_shard
from data_prep.staging import staged_path
from data_prep.statistics import Statistics
from data_prep.writer import StorePlan, finish, plan_store, promoted_dtype, write_tables
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import AuthError, CorruptError, DataError, JobFailedError, StorageUnreachableError
from udt_cluster.storage import COMMIT_NAME, Location, ObjectRecord, read_commit, verify

PREP_VERSION = 3
"""Raised whenever the same input would give other samples."""

OnProgress = Callable[[int, int, str], None]
"""(done, total, what), called after every task."""

_PACKAGES = ("h5py", "nibabel", "numcodecs", "numpy", "pillow", "pydicom", "torch", "zarr")
_ROUNDS = 4
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made of which cases, and where it goes.

    Attributes:
        config: The `data` section of a job.
        dataset: Name.
        version: Hash.
        root: Of the store.
        discovery: The cases.
        keys: Under which the pixels of each case wait; they follow from the content of its files.
        digests: SHA-256 of the files, by key.
        staging: Where they wait.
        unreadable: What is already known to be wrong, by the id of the case.
    """

    config: DataConfig
    dataset: str
    version: str
    root: Location
    discovery: Discovery
    keys: tuple[str, ...]
    digests: Mapping[str, str]
    staging: Location
    unreadable: dict[str, tuple[str, ...]]

    @property
    def records(self) -> Location:
        """Where shards of this version are written down."""
        return self.staging / "shards" / self.version


@dataclass(kw_only=True, eq=False)
class _Cases:
    """The cases that came back so far. Statistics are put together at once: a histogram a case would be too much."""

    kept: KeptCases = field(default_factory=KeptCases)
    bad: list[BadCase] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    """Ids of those of `bad` whose task died: with more memory they might be good."""
    totals: dict[tuple[int, bool], Statistics] = field(default_factory=dict)
    """By the number of channels, and of training cases or of the others."""

    def add(self, key: str, summary: CaseSummary, statistics: Statistics) -> None:
        """Take one more case."""
        kind = (summary.channels, summary.split != "test")
        self.kept.add(key, summary)
        self.totals[kind] = self.totals[kind].merged(statistics) if kind in self.totals else statistics


@dataclass(frozen=True)
class Assembled:
    """A version that is committed now.

    Attributes:
        root: Of the store.
        warnings: What the user should know.
    """

    root: Location
    warnings: tuple[str, ...]


def assemble(order: Order, *, executor: Executor, on_progress: OnProgress) -> Assembled:
    """Write and commit a version; what is there of it already is not done again.

    A version follows from the source alone. Where cases are left out because their tasks died, which follows from this
    day's memory, it becomes another version, whose name says which cases those are: two preparations of which one had
    less memory never write to one place.

    Raises:
        DataError: everything that is wrong with any case, or with all of them together.
        JobFailedError: tasks that write shards die.
        StorageUnreachableError: what is written to storage does not stay there.
    """
    for _ in range(_ROUNDS):
        cases = _prepare_cases(order, executor, on_progress)
        made, warnings = _without(order, cases.dead)
        plan, staged = _plan(made, cases)
        records = None if _is_committed(made) else _write_shards(made, plan, staged, executor, on_progress)
        if records is not None:
            finish(plan, [*records, *write_tables(plan)])
        if records is not None or _is_committed(made):
            return Assembled(made.root, (*warnings, *_clean(made, staged=not cases.dead)))
    raise StorageUnreachableError(
        f"{order.staging}: prepared cases disappeared {_ROUNDS} times before they were used. Does something delete "
        "objects there? Prepare again when it no longer does."
    )


def committed(root: Location) -> tuple[bool, tuple[str, ...]]:
    """Whether a version is there and whole; what is broken loses its COMMIT, and is said."""
    try:
        commit = read_commit(root)
        if commit is not None:
            verify(root, commit, checksums=False)
        return commit is not None, ()
    except CorruptError as error:
        (root / COMMIT_NAME).delete()
        return False, (f"the stored version was damaged and is written again: {error.message}", *error.problems)


def _without(order: Order, dead: Sequence[str]) -> tuple[Order, tuple[str, ...]]:
    """The order of the version without cases whose tasks died, and what is to be said."""
    if not dead or order.config.on_bad_case == "fail":
        return order, ()
    version = hashlib.sha256("\n".join([order.version, *sorted(dead)]).encode()).hexdigest()[: len(order.version)]
    root = order.root.parent / version
    _, repair = committed(root)
    said = f"{len(dead)} cases had not enough memory; this is the version without them, and the next preparation tries "
    return replace(order, version=version, root=root), (f"{said}them again", *repair)


def _prepare_cases(order: Order, executor: Executor, on_progress: OnProgress) -> _Cases:
    """Have every case staged."""
    source = Location.parse(order.config.source)
    pairs = list(zip(order.discovery.cases, order.keys, strict=True))
    readable = [(case, key) for case, key in pairs if case.id not in order.unreadable]
    cases = _Cases(bad=[BadCase(case, order.unreadable[case.id]) for case, _ in pairs if case.id in order.unreadable])
    tasks = (_task(order, source, case, key) for case, key in readable)
    reports = executor.map(run_case_task, tasks, description="preparing cases")
    counted = _counted(reports, len(readable), "cases", on_progress)
    for (case, key), report in zip(readable, counted, strict=True):
        _sort_in(cases, case, key, report)
    return cases


def _task(order: Order, source: Location, case: Case, key: str) -> CaseTask:
    staged = order.staging / staged_path(key)
    digests = {key: order.digests[key] for key in (*case.images, *case.labels) if key in order.digests}
    return CaseTask(source=HashedSource(source.uri, digests), case=case, config=order.config, staged=staged)


def _sort_in(cases: _Cases, case: Case, key: str, report: CaseReport | Died) -> None:
    if isinstance(report, Died):
        cases.dead.append(case.id)
        killed = f"{case.id}: its task died twice, the second time alone ({report.reason}). Give nodes more memory"
        cases.bad.append(BadCase(case, (killed,)))
    elif report.summary is None or report.statistics is None:
        cases.bad.append(BadCase(case, report.problems))
    else:
        cases.add(key, report.summary, report.statistics)


def _plan(order: Order, cases: _Cases) -> tuple[StorePlan, StagedPlaces]:
    """Put all cases together.

    Raises:
        DataError: everything that is wrong with any case, or a class that no training case has.
    """
    by_id = {case.id: case for case in order.discovery.cases}
    channels, odd = mixed_channels([summary for _, summary in cases.kept], by_id)
    bad = [*cases.bad, *odd]
    _refuse_bad(order, bad)
    unlike = {entry.case.id for entry in odd}
    kept = [(key, summary) for key, summary in cases.kept if summary.id not in unlike]
    summaries = [summary for _, summary in kept]
    config = order.config
    class_names = get_adapter(config.adapter).class_names(config)
    _refuse_absent_classes(config, class_names, cases.totals.get((channels, True)))
    plan = plan_store(
        order.root,
        summaries,
        [total for training in (True, False) if (total := cases.totals.get((channels, training))) is not None],
        dataset=order.dataset,
        adapter=config.adapter,
        version=order.version,
        size=config.size,
        resize=config.resize,
        class_names=class_names,
        provenance=_provenance(order, summaries, bad),
    )
    return plan, StagedPlaces(order.staging, [key for key, _ in kept])


def _refuse_bad(order: Order, bad: Sequence[BadCase]) -> None:
    source, problems = order.config.source, [problem for entry in bad for problem in entry.problems]
    if bad and order.config.on_bad_case == "fail":
        raise DataError(
            f"{source}: {len(problems)} problems; nothing was written. Mend them, or set data.on_bad_case: quarantine "
            "to leave these cases out:",
            problems,
        )
    if len(bad) == len(order.discovery.cases):
        raise DataError(f"{source}: no case is left; every one has something wrong", problems)


def _refuse_absent_classes(config: DataConfig, class_names: Sequence[str], training: Statistics | None) -> None:
    if training is None:
        return
    absent = [name for name, count in zip(class_names, training.class_counts, strict=True) if not count]
    if absent:
        raise DataError(
            f"{config.source}: no training case has a pixel of class {', '.join(absent)}, so it cannot be learned. "
            "Check data.classes and the label values, or leave the class out."
        )


def _provenance(order: Order, summaries: Sequence[CaseSummary], bad: Sequence[BadCase]) -> dict[str, Any]:
    return {
        "prep_version": PREP_VERSION,
        "packages": {name: package_version(name) for name in _PACKAGES},
        "files": len(order.discovery.files),
        "patients_known": order.discovery.patients_known,
        "empty_samples": sum(not count for case in summaries for count in case.foreground),
        "quarantined": [
            {"id": entry.case.id, "reason": describe(entry)} for entry in (*order.discovery.left_out, *bad)
        ],
        "warnings": [*order.discovery.warnings, *left_out(bad), *_promoted(summaries)],
    }


def _write_shards(
    order: Order, plan: StorePlan, staged: Sequence[Location], executor: Executor, on_progress: OnProgress
) -> list[ObjectRecord] | None:
    """Have every shard written; None if staged cases have gone."""
    tasks = shard_tasks(plan, staged, _records(order, plan, staged))
    reports = executor.map(write_shard, tasks, description="writing shards")
    records: list[ObjectRecord] = []
    lost = False
    for report in _counted(reports, count_shards(plan), "shards", on_progress):
        if isinstance(report, Died):
            raise JobFailedError(f"{order.root}: a task that writes a shard died twice ({report.reason}). Retry.")
        records += report.records
        lost = lost or report.lost
    return None if lost else records


def _records(order: Order, plan: StorePlan, staged: Sequence[Location]) -> Location:
    """Where the records of this plan are. Those of another plan are deleted before their shards are overwritten."""
    content = "\n".join([plan.info.dtype, str(plan.info.shard_samples), *(location.name for location in staged)])
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    stale = [entry.key for entry in order.records.entries() if not entry.key.startswith(f"{name}/")]
    order.records.delete_keys(stale)
    return order.records / name


def _is_committed(order: Order) -> bool:
    return read_commit(order.root) is not None


def _clean(order: Order, *, staged: bool) -> tuple[str, ...]:
    """Remove what is committed now: the records of shards, and what was `staged` unless it is wanted again."""
    try:
        records = [f"shards/{order.version}/{entry.key}" for entry in order.records.entries()]
        order.staging.delete_keys([*(map(staged_path, order.keys) if staged else ()), *records])
    except AuthError as error:
        return (f"what was staged under {order.staging} could not be removed: {error.message}",)
    return ()


def _counted(items: Iterable[_T], total: int, what: str, on_progress: OnProgress) -> Iterator[_T]:
    for done, item in enumerate(items, start=1):
        on_progress(done, total, what)
        yield item


def _promoted(summaries: Sequence[CaseSummary]) -> list[str]:
    kinds = sorted(Counter(case.dtype for case in summaries))
    if len(kinds) == 1:
        return []
    return [f"cases have values of types {', '.join(kinds)}; all are stored as {promoted_dtype(kinds)}."]
