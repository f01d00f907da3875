"""Arms and comparisons of one data set and metric as results, and the correction over the families of tests."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from udt_cluster.statistics import (
    ALPHA,
    LEAST_GROUPS,
    holm,
    mean_interval,
    paired,
    percentile_interval,
    resampled_means,
    smallest_p,
)
from udt_cluster.studies.design import Contrast, Design, metric_named
from udt_cluster.studies.findings import ArmResult, ComparisonResult, Kind, Regression, Verdict
from udt_cluster.studies.values import Contrasted, Scores, contrasted, shared_means

WORST_CASES = 5
"""Regressions that are named in each comparison."""


def arm_results(scores: Scores, design: Design, *, class_name: str = "") -> list[ArmResult]:
    """Scores of every arm; those without scores have none, and no rank."""
    ranks = _ranks(scores, design) if not class_name else {}
    metric = metric_named(scores.metric)
    results = []
    for arm in scores.arms:
        found = contrasted(scores, {arm: 1.0}, class_name=class_name)
        column, parts = found.column, found.components
        interval = mean_interval(column, seed=design.seed, noise=found.noise).clipped(metric.low, metric.high)
        rank, rank_low, rank_high, rank_groups = ranks.get(arm, (0, 0, 0, 0))
        result = ArmResult(
            dataset=scores.dataset,
            metric=scores.metric,
            class_name=class_name,
            arm=arm,
            mean=float(column.mean()) if len(column) else math.nan,
            low=interval.low,
            high=interval.high,
            cases=len(found.cases),
            groups=len(column),
            undefined=found.undefined,
            rank=rank,
            rank_low=rank_low,
            rank_high=rank_high,
            rank_groups=rank_groups,
            seed_sd=parts.seed_sd,
            fold_sd=parts.fold_sd,
        )
        results.append(result)
    return results


def compare(
    scores: Scores,
    contrast: Contrast,
    design: Design,
    *,
    kind: Kind = "comparison",
    level: int = 0,
    class_name: str = "",
) -> ComparisonResult:
    """One comparison, not yet corrected."""
    found = contrasted(scores, contrast.weights, class_name=class_name)
    return result_of(found, scores, design, kind=kind, name=contrast.name, level=level, class_name=class_name)


def result_of(
    found: Contrasted,
    scores: Scores,
    design: Design,
    *,
    kind: Kind,
    name: str,
    level: int = 0,
    class_name: str = "",
) -> ComparisonResult:
    """What the values of patients show, not yet corrected."""
    metric = metric_named(scores.metric)
    shown = paired(found.column, seed=design.seed, noise=found.noise)
    gains, losses = (shown.wins, shown.losses) if metric.higher_is_better else (shown.losses, shown.wins)
    return ComparisonResult(
        dataset=scores.dataset,
        metric=scores.metric,
        class_name=class_name,
        kind=kind,
        name=name,
        level=level,
        difference=shown.mean,
        low=shown.interval.low,
        high=shown.interval.high,
        median=shown.median,
        p=shown.p,
        sign_flip_p=shown.sign_flip_p,
        wilcoxon_p=shown.wilcoxon_p,
        retraining_p=math.nan if shown.retraining_p is None else shown.retraining_p,
        rank_biserial=shown.rank_biserial,
        cohens_dz=shown.cohens_dz,
        wins=gains,
        ties=shown.ties,
        losses=losses,
        cases=len(found.cases),
        groups=shown.groups,
        undefined=found.undefined,
        one_sided=found.one_sided,
        left_out=found.left_out,
        seed_sd=found.components.seed_sd,
        fold_sd=found.components.fold_sd,
        regressions=_regressions(found, metric.sign),
    )


def with_verdicts(results: Sequence[ComparisonResult], design: Design) -> list[ComparisonResult]:
    """Correct over each family and say what each comparison shows.

    A family is all comparisons of one kind and metric over all data sets; those of single classes are one of their own.
    """
    corrected: dict[int, ComparisonResult] = {}
    families: dict[tuple[Any, ...], list[int]] = {}
    for index, result in enumerate(results):
        families.setdefault((result.metric, result.kind, bool(result.class_name)), []).append(index)
    for family in families.values():
        members = [results[index] for index in family]
        tests = sum(not math.isnan(member.p) for member in members)
        can_show = any(smallest_p(member.groups) * tests <= ALPHA for member in members)
        for index, p in zip(family, holm([member.p for member in members]), strict=True):
            result = replace(results[index], corrected_p=p, tests=tests)
            corrected[index] = replace(
                result, verdict=_verdict(result, can_show=can_show), within_margin=_is_within(result, design)
            )
    return [corrected[index] for index in range(len(results))]


def means(scores: Scores, arms: Sequence[str], design: Design) -> tuple[dict[str, float], Callable[[int], Any]]:
    """Means of arms on the groups that all of them have, and a way to draw them again with groups resampled."""
    _, table = shared_means(scores, arms)
    averages = dict(zip(arms, table.mean(axis=0).tolist(), strict=True)) if len(table) else {}
    return averages, lambda seed: resampled_means(table, seed=design.seed + seed)


def _verdict(result: ComparisonResult, *, can_show: bool) -> Verdict:
    if not result.groups:
        return "no data"
    if result.groups < LEAST_GROUPS or not can_show:
        return "too few cases"
    if not result.corrected_p <= ALPHA:
        return "no difference shown"
    gain = result.difference * metric_named(result.metric).sign
    return "better" if gain > 0 else "worse"


def _is_within(result: ComparisonResult, design: Design) -> bool:
    if design.margin is None or result.metric != design.metrics[0] or result.kind != "comparison":
        return False
    return -design.margin <= result.low and result.high <= design.margin


def _regressions(found: Contrasted, sign: int) -> tuple[Regression, ...]:
    """The cases that lose most, worst first."""
    ordered = sorted(found.cases.items(), key=lambda item: (item[1] * sign, item[0]))
    return tuple(
        Regression(case=case, group=found.case_groups[case], difference=value)
        for case, value in ordered[:WORST_CASES]
        if value * sign < 0
    )


def _ranks(scores: Scores, design: Design) -> dict[str, tuple[int, int, int, int]]:
    """Rank of each arm that has scores, 1 = best, where it lies in 95 % of resamples, and on how many groups."""
    arms = scores.arms_with_scores
    averages, drawn = means(scores, arms, design)
    groups = len(shared_means(scores, arms)[0])
    if len(averages) < 2:
        return {}
    sign = metric_named(scores.metric).sign
    order = stats.rankdata([-sign * averages[arm] for arm in arms], method="min")
    again = stats.rankdata(-sign * drawn(0), method="min", axis=1)
    ranks = {}
    for at, arm in enumerate(arms):
        interval = percentile_interval(again[:, at])
        ranks[arm] = (int(order[at]), int(np.floor(interval.low)), int(np.ceil(interval.high)), groups)
    return ranks
