"""Preparation: find the version, do nothing if it is there, else prepare every case and write the store."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any, Literal, TypeVar

from data_prep.adapters import get as get_adapter
from data_prep.case import CaseSummary, Discovery
from data_prep.executor import Executor, Handle
from data_prep.file_index import FileIndex
from data_prep.preparation import CaseReport, CaseTask, run_case_task
from data_prep.statistics import Statistics
from data_prep.writer import StorePlan, finish, plan_store, promoted_dtype, shard_tasks, write_shard, write_tables
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import CorruptError, DataError
from udt_cluster.storage import COMMIT_NAME, Location, ObjectRecord, read_commit, verify

PREP_VERSION = 2
"""Raised whenever the same input would give other samples."""

OnProgress = Callable[[int, int, str], None]
"""(done, total, what), called after every task."""

_PACKAGES = ("h5py", "nibabel", "numcodecs", "numpy", "pillow", "torch", "zarr")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A committed data-set version.

    Attributes:
        location: Of the store.
        version: Its hash, the last part of the location.
        already_there: Whether nothing had to be done.
        group_by: What folds keep together: `data.group_by`; where it is not set and patients are known, `patient`.
        warnings: What the user should know.
        seconds: How long it took.
    """

    location: Location
    version: str
    already_there: bool
    group_by: Literal["patient", "case"]
    warnings: tuple[str, ...]
    seconds: float


def prepare(
    config: DataConfig,
    dataset: str,
    storage: Location,
    *,
    executor: Executor,
    index: FileIndex,
    on_progress: OnProgress = lambda done, total, what: None,
) -> Prepared:
    """Make sure that a data set is in the store.

    Args:
        config: The `data` section of a job.
        dataset: Name, the folder of its versions.
        storage: Storage root of the target; the store is `<storage>/data/<dataset>/<version>`.
        executor: Where tasks run.
        index: Of files that were hashed before.
        on_progress: Told after every task.

    Raises:
        DataError: ``problems`` lists everything that is wrong with the source, file by file.
    """
    started = time.monotonic()
    version, discovery = find_version(config, dataset, index)
    group_by, warnings = choose_groups(config, discovery)
    root = storage / "data" / dataset / version
    already_there, repair = _state(root)
    if not already_there:
        order = _Order(config=config, dataset=dataset, version=version, root=root, discovery=discovery)
        _write(order, executor=executor, on_progress=on_progress)
    return Prepared(
        location=root,
        version=version,
        already_there=already_there,
        group_by=group_by,
        warnings=(*discovery.warnings, *warnings, *repair),
        seconds=time.monotonic() - started,
    )


def find_version(config: DataConfig, dataset: str, index: FileIndex) -> tuple[str, Discovery]:
    """The version that this data set has, or will have, and what it consists of.

    A hash of every input file, of the parameters that matter to samples (not splits, not normalisation, not where the
    source lies), and of PREP_VERSION.

    Raises:
        DataError: the source is missing, incomplete or unreadable.
    """
    source = Location.parse(config.source)
    discovery = get_adapter(config.adapter).discover(source, config)
    _refuse_twins(source, discovery)
    choose_groups(config, discovery)
    parameters = {
        "prep_version": PREP_VERSION,
        "dataset": dataset,
        "adapter": config.adapter,
        "classes": get_adapter(config.adapter).class_names(config),
        "label_values": config.label_values,
        "pairs": config.pairs.model_dump() if config.adapter == "image_folder" else None,
        "size": config.size,
        "resize": config.resize,
        "files": index.digests(source, discovery.files),
    }
    canonical = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16], discovery


def choose_groups(config: DataConfig, discovery: Discovery) -> tuple[Literal["patient", "case"], tuple[str, ...]]:
    """What folds keep together, and what is to be said about it.

    Raises:
        DataError: patients are asked for and not known, or nothing is said where they are not known.
    """
    if discovery.patients_known:
        if config.group_by != "case":
            return "patient", ()
        return "case", (
            "data.group_by: case, although the patients are known: folds may leak. Remove it to keep them whole.",
        )
    if config.group_by == "case":
        return "case", ()
    said = "data.group_by: patient cannot be met" if config.group_by else "data.group_by is not set"
    raise DataError(
        f"{said}: this source does not say which cases are of one patient"
        + "".join(f" ({warning})" for warning in discovery.warnings)
        + ". Set data.group_by: case to make every case a group of its own; scores may then be too good where a "
        "patient has several cases."
    )


def _state(root: Location) -> tuple[bool, tuple[str, ...]]:
    """Whether the version is there and whole; what is broken loses its COMMIT, and is said."""
    try:
        commit = read_commit(root)
        if commit is not None:
            verify(root, commit, checksums=False)
        return commit is not None, ()
    except CorruptError as error:
        (root / COMMIT_NAME).delete()
        return False, (f"the stored version was damaged and is written again: {error.message}", *error.problems)


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What is to be made of which cases, and where it goes."""

    config: DataConfig
    dataset: str
    version: str
    root: Location
    discovery: Discovery


def _write(order: _Order, *, executor: Executor, on_progress: OnProgress) -> None:
    source = Location.parse(order.config.source)
    tasks = [CaseTask(source=source, case=case, config=order.config) for case in order.discovery.cases]
    made = executor.produce(run_case_task, tasks, description="preparing cases")
    results = list(_counted(made, len(tasks), "cases", on_progress))
    plan = _plan(order, [report for report, _ in results])
    records = _write_shards(plan, [handle for _, handle in results], executor=executor, on_progress=on_progress)
    finish(plan, [*records, *write_tables(plan)])


def _plan(order: _Order, reports: Sequence[CaseReport]) -> StorePlan:
    """Put all reports together.

    Raises:
        DataError: everything that is wrong with any case.
    """
    config, discovery = order.config, order.discovery
    summaries = [report.summary for report in reports if report.summary is not None]
    problems = [problem for report in reports for problem in report.problems] + _mixed_channels(summaries)
    if problems:
        raise DataError(f"{config.source}: {len(problems)} problems; nothing was written", problems)
    statistics = [report.statistics for report in reports if report.statistics is not None]
    class_names = get_adapter(config.adapter).class_names(config)
    return plan_store(
        order.root,
        summaries,
        statistics,
        dataset=order.dataset,
        adapter=config.adapter,
        version=order.version,
        size=config.size,
        resize=config.resize,
        class_names=class_names,
        provenance={
            "prep_version": PREP_VERSION,
            "packages": {name: package_version(name) for name in _PACKAGES},
            "files": len(discovery.files),
            "patients_known": discovery.patients_known,
            "warnings": [*discovery.warnings, *_promoted(summaries), *_absent_classes(class_names, statistics)],
        },
    )


def _write_shards(
    plan: StorePlan, handles: Sequence[Handle], *, executor: Executor, on_progress: OnProgress
) -> list[ObjectRecord]:
    tasks = list(shard_tasks(plan))
    calls = ((task, [handles[case] for case in cases]) for task, cases in tasks)
    written = executor.consume(write_shard, calls, total=len(tasks), description="writing shards")
    return [record for records in _counted(written, len(tasks), "shards", on_progress) for record in records]


def _counted(items: Iterable[_T], total: int, what: str, on_progress: OnProgress) -> Iterator[_T]:
    for done, item in enumerate(items, start=1):
        on_progress(done, total, what)
        yield item


def _refuse_twins(source: Location, discovery: Discovery) -> None:
    if not discovery.cases:
        raise DataError(f"{source}: no case was found. Check data.source and data.adapter.")
    first: dict[str, Any] = {}
    twins = [
        f"{case.images[0]} and {first[case.id].images[0]}: both would be case {case.id!r}"
        for case in discovery.cases
        if first.setdefault(case.id, case) is not case
    ]
    if twins:
        raise DataError(f"{source}: {len(twins)} cases have the name of another; rename them", twins)


def _mixed_channels(summaries: Sequence[CaseSummary]) -> list[str]:
    """Cases that have not as many channels as most."""
    counts = [case.channels for case in summaries]
    if len(set(counts)) < 2:
        return []
    usual = max(sorted(set(counts)), key=counts.count)
    return [
        f"{case.id}: {case.channels} channel(s), where most cases have {usual}; make all grey, or all RGB"
        for case in summaries
        if case.channels != usual
    ]


def _promoted(summaries: Sequence[CaseSummary]) -> list[str]:
    kinds = sorted({case.dtype for case in summaries})
    if len(kinds) == 1:
        return []
    return [f"cases have values of types {', '.join(kinds)}; all are stored as {promoted_dtype(kinds)}."]


def _absent_classes(class_names: Sequence[str], statistics: Sequence[Statistics]) -> list[str]:
    absent = [n for i, n in enumerate(class_names) if not any(s.class_counts[i] for s in statistics)]
    return [f"class {name} has no pixel in any case." for name in absent]
