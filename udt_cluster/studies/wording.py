"""Numbers in words, the same in the conclusion, the tables and the figures."""

import math
from collections.abc import Sequence

from udt_cluster.studies.design import Metric, metric_named
from udt_cluster.studies.findings import ArmResult, ComparisonResult, InteractionResult

MINUS = "\u2212"
UNDEFINED = "n/a"


def number(value: float, metric: Metric) -> str:
    """A score: 0.873, or 4.2 for distances."""
    return UNDEFINED if math.isnan(value) else f"{value:.{_decimals(metric)}f}".replace("-", MINUS)


def signed(value: float, metric: Metric) -> str:
    """A difference: +0.021."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.{_decimals(metric)}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("+-")


def bracket(low: float, high: float, metric: Metric, *, sign: bool = True) -> str:
    """An interval: [+0.010, +0.032]; "no interval" where it is not known."""
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    text = signed if sign else number
    return f"[{text(low, metric)}, {text(high, metric)}]"


def p_text(p: float) -> str:
    """A p value: 0.031, < 0.001."""
    if math.isnan(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def correlation(value: float) -> str:
    """A correlation: +0.80."""
    return UNDEFINED if math.isnan(value) else f"{value:+.2f}".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """1 case, 2 cases."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def who(cases: int, groups: int, noun: str) -> str:
    """85 cases of 16 patients; 85 cases where each is a patient of its own."""
    return counted(cases, "case") if cases == groups else f"{counted(cases, 'case')} of {counted(groups, noun)}"


def unit_text(metric: Metric, unit: str) -> str:
    """Of a difference: " mm", or nothing."""
    return f" {unit}" if metric.is_distance and unit in ("mm", "px") else ""


def effect(result: ComparisonResult, *, unit: str = "") -> str:
    """Dice +0.021 [+0.010, +0.032]."""
    metric = metric_named(result.metric)
    shown = f"{signed(result.difference, metric)}{unit_text(metric, unit)} {bracket(result.low, result.high, metric)}"
    return f"{metric.label} {shown}"


def double_effect(result: InteractionResult) -> str:
    """+0.021 [+0.010, +0.032]."""
    metric = metric_named(result.metric)
    return f"{signed(result.difference, metric)} {bracket(result.low, result.high, metric)}"


def mean_text(result: ArmResult) -> str:
    """0.873 [0.861, 0.884]."""
    metric = metric_named(result.metric)
    return f"{number(result.mean, metric)} {bracket(result.low, result.high, metric, sign=False)}"


def listed(names: Sequence[str]) -> str:
    """A, B and C."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _decimals(metric: Metric) -> int:
    return 3 if metric.high <= 1 else 2
