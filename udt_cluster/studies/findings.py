"""What a study came to: plain values, to JSON and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from udt_cluster.studies.design import Design
from udt_cluster.studies.missing import Missing
from udt_cluster.studies.plain import from_plain, to_plain

Verdict = Literal["better", "worse", "no difference shown", "too few cases", "no data"]
Kind = Literal["comparison", "left out", "alone", "shapley", "tuned"]
"""What is compared: arms as the design says; all skips against all but one; one skip against none; the mean worth of a
skip over all subsets of the others; an arm tuned on the data set against one arm for all data sets."""


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Scores of one arm on one data set.

    Attributes:
        dataset: Which.
        metric: Which.
        class_name: Empty: the mean over classes.
        arm: Which.
        mean: Over groups; NaN without scores.
        low: Of its interval.
        high: Of its interval.
        cases: That have a score.
        groups: That have a score.
        undefined: Scores (case, class, seed) that are not defined.
        rank: 1 = best mean on the groups that all arms have; 0 where that was not to be told.
        rank_low: Best rank in 95 % of the resamples.
        rank_high: Worst rank.
        rank_groups: That all arms have: the rank is on these.
        seed_sd: Of a fold's mean when it is trained again with another seed; NaN with one seed.
        fold_sd: Of a fold's mean beyond its patients and seeds; NaN with one fold.
    """

    dataset: str
    metric: str
    class_name: str
    arm: str
    mean: float
    low: float
    high: float
    cases: int
    groups: int
    undefined: int
    rank: int = 0
    rank_low: int = 0
    rank_high: int = 0
    rank_groups: int = 0
    seed_sd: float = math.nan
    fold_sd: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A case on which the first arm of a comparison is worse."""

    case: str
    group: str
    difference: float


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """One comparison on one data set; differences are in the units of the metric, first minus second.

    Attributes:
        dataset: Which.
        metric: Which.
        class_name: Empty: the mean over classes.
        kind: See `Kind`.
        name: Of the comparison, or of the skip.
        level: Of the skip, for the kinds that are about one; else 0.
        difference: Mean over groups; NaN without data.
        low: Of its interval.
        high: Of its interval.
        median: Of the groups.
        p: The one that decides, before correction: the larger of the next and of `retraining_p`.
        sign_flip_p: Permutation test of the mean.
        wilcoxon_p: Signed-rank test.
        retraining_p: Against the noise of trainings too; NaN where that is not known.
        corrected_p: `p` after Holm's correction over the family.
        tests: In the family.
        rank_biserial: Positive: larger values in the first.
        cohens_dz: The same sign.
        wins: Groups in which the first is better (the direction of the metric counted).
        ties: Groups without a difference.
        losses: Groups in which it is worse.
        cases: Compared.
        groups: Compared.
        undefined: Scores left out because they are undefined in an arm.
        one_sided: Those of them that the other arm has.
        left_out: Cases without any defined pair.
        seed_sd: Of the difference of a fold's means, from seed to seed; NaN with one seed.
        fold_sd: Of the same, from fold to fold, beyond patients and seeds; NaN with one fold.
        verdict: Of the first against the second.
        within_margin: Whether the interval lies within what the user called too small to matter.
        regressions: The cases that lose most.
    """

    dataset: str
    metric: str
    class_name: str
    kind: Kind
    name: str
    level: int
    difference: float
    low: float
    high: float
    median: float
    p: float
    sign_flip_p: float
    wilcoxon_p: float
    retraining_p: float
    rank_biserial: float
    cohens_dz: float
    wins: int
    ties: int
    losses: int
    cases: int
    groups: int
    undefined: int
    one_sided: int
    left_out: int
    seed_sd: float
    fold_sd: float
    corrected_p: float = math.nan
    tests: int = 0
    verdict: Verdict = "no data"
    within_margin: bool = False
    regressions: tuple[Regression, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InteractionResult:
    """Whether a comparison comes out differently in two data sets.

    Attributes:
        metric: Which.
        kind: Of the comparison.
        name: Of the comparison.
        level: Of the skip, for the kinds that are about one; else 0.
        first: Data set.
        second: Data set.
        difference: Effect in the first minus effect in the second.
        low: Of its interval.
        high: Of its interval.
        p: Before correction.
        corrected_p: After Holm's correction over the family.
        tests: In the family.
        groups: In the first and the second.
        verdict: "depends on the data set", "no dependence shown" or "too few cases".
    """

    metric: str
    kind: Kind
    name: str
    level: int
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    groups: tuple[int, int]
    corrected_p: float = math.nan
    tests: int = 0
    verdict: Literal["depends on the data set", "no dependence shown", "too few cases"] = "too few cases"


@dataclass(frozen=True, kw_only=True)
class OrderResult:
    """Whether two data sets put the arms into the same order.

    Attributes:
        metric: Which.
        first: Data set.
        second: Data set.
        arms: Compared.
        spearman: Of the arms' means; 1 = the same order. NaN below three arms.
        kendall: Tau-b.
        low: Of Spearman's interval, groups resampled.
        high: Of it.
    """

    metric: str
    first: str
    second: str
    arms: int
    spearman: float
    kendall: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen without the cases that then scored it.

    Attributes:
        dataset: Which.
        part: The fold, or half, that was held out.
        tuned: Best arm on the data set's other parts.
        fixed: Best arm on all data sets' other parts.
    """

    dataset: str
    part: str
    tuned: str
    fixed: str


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A point of a curve over ordered arms; `low` and `high` are NaN for measurements without an interval."""

    dataset: str
    series: str
    arm: str
    position: float
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ScatterPoint:
    """A point of two columns set against each other."""

    dataset: str
    label: str
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ScatterResult:
    """Two columns against each other, with the correlation of their ranks.

    Attributes:
        name: File name.
        title: For readers.
        x_label: Of the horizontal axis.
        y_label: Of the vertical one.
        points: At least two.
        spearman: -1..1.
        kendall: Tau-b.
        low: Of Spearman's interval; NaN below six points.
        high: Of it.
        p: Permutation test.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    points: tuple[ScatterPoint, ...]
    spearman: float
    kendall: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What was compared in one data set."""

    name: str
    cases: int
    groups: int
    folds: int
    seeds: int
    classes: tuple[str, ...]
    unit: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The answer of a study.

    Attributes:
        design: What was asked.
        missing: What is not there yet.
        datasets: What there is.
        arms: Scores of arms.
        comparisons: All of them, of all kinds.
        interactions: Between data sets.
        orders: Of arms between data sets.
        choices: Behind the comparisons of kind "tuned".
        curve: Points over ordered arms.
        scatters: Columns against each other.
        conclusion: Sentences; the first is the answer.
        details: More sentences by data set, where there are several.
    """

    design: Design
    missing: Missing
    datasets: tuple[DatasetFacts, ...]
    arms: tuple[ArmResult, ...]
    comparisons: tuple[ComparisonResult, ...]
    interactions: tuple[InteractionResult, ...] = ()
    orders: tuple[OrderResult, ...] = ()
    choices: tuple[Choice, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    scatters: tuple[ScatterResult, ...] = ()
    conclusion: tuple[str, ...] = ()
    details: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(
        self, kind: Kind = "comparison", *, dataset: str | None = None, metric: str | None = None, class_name: str = ""
    ) -> list[ComparisonResult]:
        """Comparisons of one kind; by default of the first metric, over all classes and data sets."""
        wanted = metric if metric is not None else self.design.metrics[0]
        return [
            found
            for found in self.comparisons
            if (found.kind, found.metric, found.class_name) == (kind, wanted, class_name)
            and dataset in (None, found.dataset)
        ]

    def arms_of(self, dataset: str, *, metric: str | None = None, class_name: str = "") -> list[ArmResult]:
        """Scores of the arms in one data set, in the design's order."""
        wanted = metric if metric is not None else self.design.metrics[0]
        return [
            found
            for found in self.arms
            if (found.dataset, found.metric, found.class_name) == (dataset, wanted, class_name)
        ]

    def facts(self, dataset: str) -> DatasetFacts:
        """What there is of one data set."""
        return next(facts for facts in self.datasets if facts.name == dataset)

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(to_plain(self), indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is no such document.
        """
        return from_plain(cls, json.loads(text))
