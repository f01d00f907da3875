"""What a study asks: arms, the metric, and which arms are compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from udt_cluster.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a column of scores is read.

    Attributes:
        name: Of the column.
        label: For readers.
        higher_is_better: Direction.
        low: Smallest possible value.
        high: Largest possible value.
        is_distance: In mm or pixels, as the table's unit says.
    """

    name: str
    label: str
    higher_is_better: bool = True
    low: float = -math.inf
    high: float = math.inf
    is_distance: bool = False

    @property
    def sign(self) -> int:
        """What makes a gain positive."""
        return 1 if self.higher_is_better else -1


_KNOWN = (
    Metric(name="dice", label="Dice", low=0.0, high=1.0),
    Metric(name="iou", label="IoU", low=0.0, high=1.0),
    Metric(name="nsd", label="NSD", low=0.0, high=1.0),
    Metric(name="hd95", label="HD95", higher_is_better=False, low=0.0, is_distance=True),
    Metric(name="assd", label="ASSD", higher_is_better=False, low=0.0, is_distance=True),
    Metric(name="false_negative_rate", label="False-negative rate", higher_is_better=False, low=0.0, high=1.0),
    Metric(name="false_positive_rate", label="False-positive rate", higher_is_better=False, low=0.0, high=1.0),
)
_BY_NAME = {metric.name: metric for metric in _KNOWN}


def metric_named(name: str) -> Metric:
    """What is known of a metric; one that is not known: any value, more is better.

    `nsd_small` is read as `nsd` is, so that a metric can be split by the size of objects.
    """
    base = max((known for known in _BY_NAME if name == known or name.startswith(f"{known}_")), key=len, default="")
    if not base:
        return Metric(name=name, label=name.replace("_", " "))
    known = _BY_NAME[base]
    rest = name.removeprefix(base).replace("_", " ")
    return known if not rest else Metric(**{**vars(known), "name": name, "label": known.label + rest})


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One configuration of a study.

    Attributes:
        name: Unique in the study.
        settings: What differs from the job, by field.
        parameters: Trainable numbers of its network; 0 where not known.
        gmac: 1e9 multiply-adds of a forward pass of one image; 0 where not known.
        position: Its place on an ordered axis, as the share of the training cases; with one for all, a curve is drawn.
        skips: Levels that have a skip connection, 1 = full resolution; None where the study is not about skips.
        skip_kinds: Kind of skip at each level, level 1 first, "none" or "zero" where there is none. Needed where arms
            have skips of several kinds: only arms of the reference's kinds then tell what a level contributes.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    gmac: float = 0.0
    position: float | None = None
    skips: tuple[int, ...] | None = None
    skip_kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A comparison: a weighted sum of arms whose weights add up to 0.

    Attributes:
        name: For readers: "decoder A against decoder B".
        weights: By arm; a plain comparison is {first: 1, second: -1}.
    """

    name: str
    weights: Mapping[str, float]

    @classmethod
    def between(cls, first: str, second: str, *, name: str = "") -> Self:
        """The first arm minus the second."""
        return cls(name=name or f"{first} against {second}", weights={first: 1.0, second: -1.0})

    @property
    def pair(self) -> tuple[str, str] | None:
        """The two arms of a plain comparison; None for others."""
        if sorted(self.weights.values()) != [-1.0, 1.0]:
            return None
        first, second = sorted(self.weights, key=lambda arm: -self.weights[arm])
        return first, second


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Something else that was measured for an arm: its score on the training cases, the time of a step.

    Attributes:
        name: What it is: "train_dice".
        arm: Of which.
        value: The number.
        dataset: Where; empty if it holds for all.
    """

    name: str
    arm: str
    value: float
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class SkipGap:
    """How unlike the features of encoder and decoder are at one level: 1 - CKA.

    Attributes:
        dataset: Where it was measured.
        level: 1..4, 1 = full resolution.
        value: 0 (alike) .. 1.
    """

    dataset: str
    level: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Design:
    """A study.

    Attributes:
        name: Short.
        question: One sentence that ends with a question mark.
        arms: In the order in which they are shown.
        reference: Name of the arm that others are compared with.
        metrics: Columns of scores; the first decides, the others are secondary.
        comparisons: What is tested; empty: every arm against the reference.
        datasets: Which are expected, in order; empty: those that have scores.
        folds: How many are expected per data set; 0: those that have scores.
        seeds: Which are expected; empty: those that have scores.
        group: What a group is called: "patient", "slide".
        position_label: What the arms' positions are: "share of the training cases".
        margin: Smallest difference of the first metric that matters to the user; None: not stated.
        measurements: Other numbers of the arms.
        gaps: Of skip levels, to be set against what the skips contribute.
        scatters: Pairs of columns (x, y) to be set against each other, arm by arm: names of measurements or metrics,
            "parameters" or "gmac".
        seed: Of resampling.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    reference: str
    metrics: tuple[str, ...] = ("dice",)
    comparisons: tuple[Contrast, ...] = ()
    datasets: tuple[str, ...] = ()
    folds: int = 0
    seeds: tuple[int, ...] = ()
    group: str = "patient"
    position_label: str = ""
    margin: float | None = None
    measurements: tuple[Measurement, ...] = ()
    gaps: tuple[SkipGap, ...] = ()
    scatters: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [*self._arm_problems(), *self._comparison_problems()]
        if problems:
            raise UsageError(f"the study {self.name!r} cannot be analysed", problems)

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """What is tested."""
        if self.comparisons:
            return self.comparisons
        others = (arm.name for arm in self.arms if arm.name != self.reference)
        return tuple(Contrast.between(name, self.reference) for name in others)

    @property
    def metric(self) -> Metric:
        """The one that decides."""
        return metric_named(self.metrics[0])

    @property
    def has_curve(self) -> bool:
        """Whether its arms lie on an ordered axis."""
        return all(arm.position is not None for arm in self.arms)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def _arm_problems(self) -> list[str]:
        names = [arm.name for arm in self.arms]
        problems = [f"arm {name!r} is there twice; give each its own name" for name in _repeated(names)]
        if len(names) < 2:
            problems.append(f"it has {len(names)} arm{'' if len(names) == 1 else 's'}; a study compares at least two")
        if self.reference not in names:
            problems.append(f"the reference {self.reference!r} is no arm; the arms are {', '.join(names)}")
        if not self.metrics:
            problems.append("it has no metric; name at least one column of the scores, as dice")
        return problems

    def _comparison_problems(self) -> list[str]:
        names = {arm.name for arm in self.arms}
        problems = []
        for contrast in self.comparisons:
            if unknown := [arm for arm in contrast.weights if arm not in names]:
                problems.append(f"comparison {contrast.name!r}: {', '.join(unknown)} is no arm of the study")
            if not any(contrast.weights.values()) or abs(math.fsum(contrast.weights.values())) > 1e-9:
                problems.append(f"comparison {contrast.name!r}: weights must differ from 0 and add up to 0")
        repeated = _repeated([contrast.name for contrast in self.comparisons])
        return [*problems, *(f"comparison {name!r} is there twice" for name in repeated)]


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
