"""Cases that belong on one side of a split, found in a source before it is prepared, by the rules of training."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.case import Case
from data_prep.check.finding import SHOWN, Finding, Row, Severity, remedy_of
from data_prep.check.survey import Survey
from data_prep.preparation import prepare_case
from udt_cluster.config.data import DataConfig
from udt_cluster.data.leaks import Leak, group_leaks, judge, side_table
from udt_cluster.data.schema import CaseTable
from udt_cluster.data.splits import grouped
from udt_cluster.data.splits_files import folds_from_file
from udt_cluster.data.splits_schemes import SCHEMES, Fold
from udt_cluster.errors import DataError, UsageError
from udt_cluster.storage import Location


@dataclass(frozen=True, kw_only=True)
class _Info:
    """What is asked of a store's StoreInfo."""

    size: tuple[int, int]
    resize: str
    shard_samples: int = 1


class SourcePictures:
    """Reads samples of a source as if they were stored: candidates for near duplicates are looked at a second time."""

    def __init__(
        self,
        source: Location,
        config: DataConfig,
        *,
        good: list[Case],
        cases: CaseTable,
        hashes: npt.NDArray[np.uint64],
        turned: npt.NDArray[np.uint64],
    ) -> None:
        self.cases = cases
        self.sample_hash, self.sample_turned = hashes, turned
        self.sample_case = np.repeat(np.arange(len(cases), dtype=np.int32), cases.num_samples)
        self.info: Any = _Info(size=config.size, resize=config.resize)
        self._source, self._config, self._good = source, config, good
        self._known: tuple[int, npt.NDArray[Any], npt.NDArray[np.uint8]] | None = None

    def read_samples(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Images (n, C, h, w) and labels (n, h, w) of one case's rows [start, stop); the last case stays in memory."""
        case = int(self.sample_case[start])
        assert stop <= int(self.cases.first_sample[case] + self.cases.num_samples[case]), "rows of one case"
        if self._known is None or self._known[0] != case:
            pixels = prepare_case(self._source, self._good[case], self._config).pixels
            self._known = case, pixels.images, pixels.labels
        first = int(self.cases.first_sample[case])
        return self._known[1][start - first : stop - first], self._known[2][start - first : stop - first]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What splits would say of the cases.

    Attributes:
        findings: One for each leak, and for whatever keeps folds from being made.
        pairs: The two cases of each finding, in the same order; empty where it is about none.
    """

    findings: list[Finding]
    pairs: list[tuple[Case, ...]]


def find(source: Location, config: DataConfig, survey: Survey, *, group_by: str) -> Judged:
    """Make the folds of the job, and hold every leak against them."""
    cases, presence = survey.table(), survey.presence
    pictures = SourcePictures(source, config, good=survey.good, cases=cases, hashes=survey.hashes, turned=survey.turned)
    pool, leaks, unseen = grouped(cases, config.splits, group_by=group_by, presence=presence, store=pictures)
    folds: tuple[Fold, ...]
    try:
        made = SCHEMES.get(config.splits.scheme, folds_from_file)(pool, config.splits)
    except (DataError, UsageError) as error:
        lines = [error.message, *error.problems]
        finding = Finding(row="D4", severity="refused", message="; ".join(lines[:SHOWN]), remedy="Change data.splits.")
        folds, test, findings = (), pool.test, [finding]
    else:
        folds, test = made.folds, made.test
        findings = [_plain("D4", "warning", line) for line in made.warnings] + _absent(survey, presence, folds)
    sides = side_table(folds or [Fold(train=pool.members, validation=())], test, len(cases))
    leaks = [*group_leaks(cases, sides, group_of=pool.group_of), *leaks]
    judged = [_judged(cases, leak, sides, config) for leak in leaks]
    findings += [_plain("D4", "note", line) for line in (*unseen, *_pointless(cases, leaks, sides, config))]
    pairs = [tuple(survey.good[case] for case in leak.members[:2]) for leak in leaks]
    return Judged(findings=[*findings, *judged], pairs=[*([()] * len(findings)), *pairs])


def _judged(cases: CaseTable, leak: Leak, sides: npt.NDArray[np.int8], config: DataConfig) -> Finding:
    names = tuple(cases.ids[case] for case in leak.members[:SHOWN])
    common = Finding(
        row="D4",
        severity="warning",
        message=f"{names[0]} and {names[1]} {leak.evidence}; they are on one side of every split",
        remedy="Remove one: such cases count twice.",
        case=names[0],
        cases=names[2:],
        count=len(leak.members) - 1,
    )
    try:
        verdict = judge(cases, [leak], sides, config.accept_leaks)
    except DataError as error:
        return replace(common, severity="refused", message="; ".join(error.problems), remedy=remedy_of("D4"))
    if verdict.accepted:
        reason = f"{names[0]} and {names[1]} {leak.evidence}; accepted: {verdict.accepted[0]['reason']}"
        return replace(common, severity="note", message=reason, remedy="")
    return common


def _pointless(cases: CaseTable, leaks: list[Leak], sides: npt.NDArray[np.int8], config: DataConfig) -> list[str]:
    """Entries of data.accept_leaks that name no leak."""
    named = {frozenset(leak.cases) for leak in config.accept_leaks}
    accepted = [leak for leak in leaks if any(pair <= {cases.ids[c] for c in leak.members} for pair in named)]
    notes = judge(cases, accepted, sides, config.accept_leaks).notes
    return [note for note in notes if note.startswith("data.accept_leaks")]


def _absent(survey: Survey, presence: npt.NDArray[np.bool_], folds: tuple[Fold, ...]) -> list[Finding]:
    """Classes that the training cases of a fold do not have; those that no case has are somebody else's."""
    anywhere = presence.any(axis=0)
    return [
        _plain("D6", "refused", f"no training case of fold {number} has class {survey.class_names[index]}")
        for number, fold in enumerate(folds)
        for index in np.flatnonzero(anywhere & ~presence[list(fold.train)].any(axis=0)).tolist()
    ]


def _plain(row: Row, severity: Severity, message: str) -> Finding:
    return Finding(row=row, severity=severity, message=message, remedy=remedy_of(row) if severity == "refused" else "")
