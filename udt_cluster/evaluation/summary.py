"""Scores of many cases in a few numbers, with what could not be scored beside them, and the baseline to beat.

How the numbers are made. A case's value of a metric is the mean over its classes where the metric is defined; ``mean``,
``median`` and ``std`` (n - 1) are over the cases that have one. ``dice`` is over all classes in this sense,
``dice_class_1`` over the cases of the first foreground class alone, and so on.

The baseline is the best that a constant image can do: every pixel called that class, in every case whose reference has
it. For one foreground class it is the Dice of "all foreground"; for several no single image reaches it for all of them.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from udt_cluster.evaluation.metrics import EMPTY_MASK_POLICY, METRICS

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """Scores of one case.

    Attributes:
        case: Id.
        group: What must not be split over folds: the patient.
        unit: Of distances: "mm" where the spacing is known, else "px".
        scores: By class index and metric; NaN = undefined.
        reference_voxels: Size of each class in the reference, by class index.
        prediction_voxels: The same of the prediction.
        voxels: Size of the whole case.
    """

    case: str
    group: str
    unit: str
    scores: Mapping[int, Numbers]
    reference_voxels: Mapping[int, int]
    prediction_voxels: Mapping[int, int]
    voxels: int

    def mean(self, metric: str) -> float:
        """The metric's mean over the classes that have it; NaN where none has."""
        return _mean([values[metric] for values in self.scores.values()])

    def baseline(self, index: int) -> float:
        """Dice of calling every voxel this class; NaN where the reference does not have it."""
        reference = self.reference_voxels[index]
        return 2 * reference / (reference + self.voxels) if reference else math.nan


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A scored set of cases.

    Attributes:
        class_names: By class index, the background first.
        cases: One entry per case, in the order in which they were scored.
        metrics: What was computed; "dice" always.
        mean: By metric name ("dice", "dice_class_1", "hd95", ...); NaN where nothing is defined. So median, std.
        median: See mean.
        std: Sample standard deviation; NaN for a single case.
        undefined: Number of cases that have no value, by the same names.
        empty: By class index: cases in which "both" masks, only the "prediction" or only the "reference" is empty.
        baseline: Dice of the best constant prediction, "dice" and per class.
        unit: "mm", "px" or, where the spacing of some cases only is known, "mixed" (HD95 is then not averaged).
    """

    class_names: tuple[str, ...]
    cases: tuple[CaseScore, ...]
    metrics: tuple[str, ...]
    mean: Numbers
    median: Numbers
    std: Numbers
    undefined: Mapping[str, int]
    empty: Mapping[int, Mapping[str, int]]
    baseline: Numbers
    unit: str

    @property
    def beats_baseline(self) -> bool:
        """Whether the mean Dice is above that of the best constant prediction."""
        return self.mean["dice"] > self.baseline["dice"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the scores must know before using them."""
        return (*self._baseline_warnings(), *self._empty_warnings(), *self._unit_warnings())

    @property
    def headline(self) -> str:
        """One line: "Dice 0.87 (5 cases; baseline 0.61), HD95 4.2 mm"."""
        number = len(self.cases)
        line = f"Dice {_two(self.mean['dice'])} ({number} case{'' if number == 1 else 's'}; "
        line += f"baseline {_two(self.baseline['dice'])})"
        if "hd95" in self.metrics and not math.isnan(self.mean["hd95"]):
            line += f", HD95 {self.mean['hd95']:.1f} {self.unit}"
        return line

    def to_dict(self) -> dict[str, Any]:
        """JSON values; undefined numbers are null."""
        return {
            "headline": self.headline,
            "cases": len(self.cases),
            "class_names": list(self.class_names),
            "metrics": list(self.metrics),
            "unit": self.unit,
            "mean": _json(self.mean),
            "median": _json(self.median),
            "std": _json(self.std),
            "undefined": dict(self.undefined),
            "empty_masks": {self.class_names[index]: dict(counts) for index, counts in self.empty.items()},
            "empty_mask_policy": EMPTY_MASK_POLICY,
            "baseline": _json(self.baseline),
            "beats_baseline": self.beats_baseline,
            "warnings": list(self.warnings),
        }

    def _baseline_warnings(self) -> list[str]:
        if not self.beats_baseline:
            return [
                f"the model does not beat the best constant prediction: Dice {_two(self.mean['dice'])} against "
                f"{_two(self.baseline['dice'])}. Train longer, or look at the overlays before using it."
            ]
        beaten = [
            f"{self.class_names[index]} ({_two(self.mean[name])} against {_two(self.baseline[name])})"
            for index in self.empty
            if self.mean[name := f"dice_class_{index}"] <= self.baseline[name]
        ]
        return [f"no better than a constant prediction for: {', '.join(beaten)}"] if beaten else []

    def _empty_warnings(self) -> list[str]:
        return [
            f"{self.class_names[index]}: predicted nowhere in {counts['prediction']} of the "
            f"{self._having(counts)} cases that have it; their HD95 is undefined and not in the mean"
            for index, counts in self.empty.items()
            if counts["prediction"] and "hd95" in self.metrics
        ]

    def _having(self, counts: Mapping[str, int]) -> int:
        """Cases whose reference has the class."""
        return len(self.cases) - counts["both"] - counts["reference"]

    def _unit_warnings(self) -> list[str]:
        if self.unit != "mixed" or "hd95" not in self.metrics:
            return []
        known = sum(case.unit == "mm" for case in self.cases)
        return [f"HD95 has no mean: the spacing is known for {known} of {len(self.cases)} cases; see per_case.csv"]


def summarize(cases: Sequence[CaseScore], *, class_names: Sequence[str], metrics: Sequence[str] = METRICS) -> Summary:
    """Put the scores of cases together; they may come from several runs that held out different cases."""
    assert cases, "there is at least one case"
    chosen = tuple(name for name in METRICS if name in metrics or name == "dice")
    units = {case.unit for case in cases}
    unit = units.pop() if len(units) == 1 else "mixed"
    columns = _columns(cases, chosen)
    shown = {name: [] if unit == "mixed" and name.startswith("hd95") else values for name, values in columns.items()}
    return Summary(
        class_names=tuple(class_names),
        cases=tuple(cases),
        metrics=chosen,
        mean={name: _mean(values) for name, values in shown.items()},
        median={name: _reduced(statistics.median, values, 1) for name, values in shown.items()},
        std={name: _reduced(statistics.stdev, values, 2) for name, values in shown.items()},
        undefined={name: sum(map(math.isnan, values)) for name, values in columns.items()},
        empty={index: _empty_counts(cases, index) for index in cases[0].scores},
        baseline=_baseline(cases),
        unit=unit,
    )


def _columns(cases: Sequence[CaseScore], metrics: Sequence[str]) -> dict[str, list[float]]:
    """Every number that is averaged over cases, by its name."""
    columns = {}
    for metric in metrics:
        columns[metric] = [case.mean(metric) for case in cases]
        for index in cases[0].scores:
            columns[f"{metric}_class_{index}"] = [case.scores[index][metric] for case in cases]
    return columns


def _baseline(cases: Sequence[CaseScore]) -> dict[str, float]:
    table = [{index: case.baseline(index) for index in case.scores} for case in cases]
    per_class = {f"dice_class_{index}": _mean([row[index] for row in table]) for index in cases[0].scores}
    return {"dice": _mean([_mean(list(row.values())) for row in table]), **per_class}


def _empty_counts(cases: Sequence[CaseScore], index: int) -> dict[str, int]:
    pairs = [(case.prediction_voxels[index] == 0, case.reference_voxels[index] == 0) for case in cases]
    return {
        "both": pairs.count((True, True)),
        "prediction": pairs.count((True, False)),
        "reference": pairs.count((False, True)),
    }


def _mean(values: Sequence[float]) -> float:
    return _reduced(statistics.fmean, values, 1)


def _reduced(function: Callable[[list[float]], float], values: Sequence[float], at_least: int) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return function(defined) if len(defined) >= at_least else math.nan


def _json(values: Numbers) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _two(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"
