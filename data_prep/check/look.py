"""What a task does: prepare one case as preparation would, and keep what a report needs to know of it."""

from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.adapters import get as get_adapter
from data_prep.case import Case, CaseError, CaseSummary
from data_prep.check.formats import decisions, doubts, is_known
from data_prep.check.sources import WatchedSource
from data_prep.preparation import prepare_case
from data_prep.privacy import Trace, traces
from data_prep.statistics import Statistics
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import RefusedError
from udt_cluster.storage import Location


@dataclass(frozen=True, kw_only=True)
class LookTask:
    """One case to look at; small."""

    source: Location
    case: Case
    config: DataConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What there is to know of a case; small.

    Attributes:
        summary: None where the case is bad; like statistics.
        problems: What is wrong with it.
        class_pixels: Pixels of each class before any resize, the background first.
        lost_classes: Classes that have pixels in the files, and none at the size of a sample.
        empty_slices: Slices without foreground.
        decisions: (file, what a reader decided about it).
        doubts: (file, of two things that it says).
        traces: (file, where it has text about a person).
        known: Files that are empty or begin as an allowed format.
        num_bytes: Of its files.
    """

    summary: CaseSummary | None = None
    statistics: Statistics | None = None
    problems: tuple[str, ...] = ()
    class_pixels: tuple[int, ...] = ()
    lost_classes: tuple[int, ...] = ()
    empty_slices: int = 0
    decisions: tuple[tuple[str, str], ...] = ()
    doubts: tuple[tuple[str, str], ...] = ()
    traces: tuple[tuple[str, Trace], ...] = ()
    known: frozenset[str] = frozenset()
    num_bytes: int = 0


@dataclass
class _Seen:
    """Collects what files say while they are read."""

    case: Case
    decisions: list[tuple[str, str]] = field(default_factory=list)
    doubts: list[tuple[str, str]] = field(default_factory=list)
    traces: list[tuple[str, Trace]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def observe(self, key: str, data: bytes) -> None:
        if key in self.files:
            return
        self.files[key] = len(data)
        if is_known(data):
            self.known.add(key)
        images, labels = key in self.case.images, key in self.case.labels
        self.decisions += [(key, line) for line in decisions(data, is_image=images, is_label=labels and not images)]
        self.doubts += [(key, line) for line in doubts(data)]
        self.traces += [(key, trace) for trace in traces(data)]


def look(task: LookTask) -> Look:
    """Look at a case: all of its files are read once, whatever is wrong with it."""
    seen = _Seen(task.case)
    source = WatchedSource(task.source.uri, seen.observe)
    try:
        found = _prepared(task, source)
    except CaseError as error:
        found = Look(problems=error.problems)
    except RefusedError as error:  # a third party's adapter may raise what a reader would
        found = Look(problems=error.problems or (error.message,))
    _look_at_the_rest(task.case, source, seen)
    return replace(
        found,
        decisions=tuple(seen.decisions),
        doubts=tuple(seen.doubts),
        traces=tuple(seen.traces),
        known=frozenset(seen.known),
        num_bytes=sum(seen.files.values()),
    )


def _prepared(task: LookTask, source: Location) -> Look:
    prepared = prepare_case(source, task.case, task.config)
    native = prepared.pixels.native_label
    classes = len(get_adapter(task.config.adapter).class_names(task.config))
    pixels = np.bincount(native.ravel(), minlength=classes)
    kept = prepared.statistics.class_counts
    return Look(
        summary=prepared.summary,
        statistics=prepared.statistics,
        class_pixels=tuple(pixels.tolist()),
        lost_classes=tuple(i for i in range(1, classes) if pixels[i] and not kept[i]),
        empty_slices=int(np.count_nonzero(~native.any(axis=(1, 2)))),
    )


def _look_at_the_rest(case: Case, source: Location, seen: _Seen) -> None:
    """Files that the adapter did not get to, or did not read as a whole."""
    for key in dict.fromkeys((*case.images, *case.labels)):
        if key not in seen.files:
            try:
                (source / key).read_bytes()
            except (FileNotFoundError, RefusedError):
                seen.files[key] = 0
