"""What a change of skips does to the Dice of each case, and what that comes to."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udt_cluster.evaluation.explain.changes import Change
from udt_cluster.evaluation.metrics import ClassCounts, Mask, count_classes, overlap
from udt_cluster.statistics import LEAST_GROUPS, UNKNOWN, group_means, mean_interval

Dice = Mapping[int, float]
MEAN_OF_CLASSES = "mean"
_SEED = 0  # of the bootstrap


@dataclass(frozen=True, kw_only=True)
class CaseEffect:
    """One case under one change.

    Attributes:
        member: Which network of an ensemble, from 0.
        case: Id.
        group: What must not be split over folds: the patient.
        change: What was done.
        intact: Dice of each class of the network as it is; NaN where neither mask has the class.
        changed: Dice of each class under the change.
    """

    member: int
    case: str
    group: str
    change: Change
    intact: Dice
    changed: Dice

    def values(self, index: int | None) -> tuple[float, float]:
        """Dice before and after, of a class or (None) the mean over classes in which both are defined; NaN if none."""
        chosen = list(self.intact) if index is None else [index]
        pairs = [(self.intact[name], self.changed[name]) for name in chosen]
        defined = [pair for pair in pairs if not any(map(math.isnan, pair))]
        if not defined:
            return math.nan, math.nan
        return statistics.fmean(a for a, _ in defined), statistics.fmean(b for _, b in defined)

    def drop(self, index: int | None = None) -> float:
        """By how much Dice fell; negative where the change helped."""
        intact, changed = self.values(index)
        return intact - changed


class Tally:
    """Counts of one case's masks under every change, batch by batch."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._counts: dict[Change | None, ClassCounts] = {}

    def add(self, change: Change | None, prediction: Mask, reference: Mask) -> None:
        """Count some slices; None is the network as it is."""
        new = count_classes(prediction, reference, num_classes=self._num_classes)
        known = self._counts.get(change)
        self._counts[change] = new if known is None else ClassCounts(*map(np.add, known, new))

    def dice(self, change: Change | None) -> Dice:
        """Dice of each foreground class so far."""
        return {index: overlap(self._counts[change], index)["dice"] for index in range(1, self._num_classes)}


@dataclass(frozen=True, kw_only=True)
class GroupMean:
    """A mean over groups (patients) with its 95 % bootstrap interval; no ends below six groups.

    Attributes:
        mean: Of the groups' means; NaN where nothing is defined.
        low: Lower end, or None.
        high: Upper end, or None.
        cases: That have a value.
        groups: That have one.
    """

    mean: float
    low: float | None
    high: float | None
    cases: int
    groups: int


def mean_by_group(values: Sequence[float], groups: Sequence[str]) -> GroupMean:
    """The mean of what is defined, and how sure it is.

    Args:
        values: One for each case; NaN is left out.
        groups: Of each case.
    """
    means = group_means(values, groups)
    found = mean_interval(list(means.values()), seed=_SEED) if len(means) >= LEAST_GROUPS else UNKNOWN
    return GroupMean(
        mean=_mean(means),
        low=found.low if found.is_known else None,
        high=found.high if found.is_known else None,
        cases=sum(not math.isnan(value) for value in values),
        groups=len(means),
    )


def _mean(means: Mapping[str, float]) -> float:
    return statistics.fmean(means.values()) if means else math.nan


def summarize_effects(effects: Sequence[CaseEffect], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each change and class, the mean over classes first: what tables and pages show."""
    indices: list[int | None] = [None, *(range(1, len(class_names)) if len(class_names) > 2 else ())]
    return [
        _row(change, [effect for effect in effects if effect.change == change], index, class_names)
        for change in dict.fromkeys(effect.change for effect in effects)
        for index in indices
    ]


def _row(
    change: Change, effects: Sequence[CaseEffect], index: int | None, class_names: Sequence[str]
) -> dict[str, Any]:
    groups = [effect.group for effect in effects]
    intact, changed = zip(*(effect.values(index) for effect in effects), strict=True)
    drops = [effect.drop(index) for effect in effects]
    found = mean_by_group(drops, groups)
    return {
        "kind": change.kind,
        "level": change.level,
        "class": MEAN_OF_CLASSES if index is None else class_names[index],
        "cases": found.cases,
        "groups": found.groups,
        "undefined": len(effects) - found.cases,
        "dice": _mean(group_means(intact, groups)),
        "dice_changed": _mean(group_means(changed, groups)),
        "drop": found.mean,
        "drop_low": found.low,
        "drop_high": found.high,
        "worst_drop": max((drop for drop in drops if not math.isnan(drop)), default=math.nan),
    }


def case_rows(effects: Sequence[CaseEffect], class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each case, change and class, the mean over classes too where there are several."""
    indices: list[int | None] = [*([None] if len(class_names) > 2 else []), *range(1, len(class_names))]
    for effect in effects:
        for index in indices:
            intact, changed = effect.values(index)
            yield {
                "member": effect.member,
                "case": effect.case,
                "group": effect.group,
                "level": effect.change.level,
                "class": MEAN_OF_CLASSES if index is None else class_names[index],
                "dice": intact,
                "dice_changed": changed,
                "drop": intact - changed,
            }
