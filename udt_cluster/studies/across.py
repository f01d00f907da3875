"""Several data sets: does an effect differ between them, do they order the arms alike, does it pay to tune on each."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from udt_cluster.statistics import (
    ALPHA,
    LEAST_GROUPS,
    NO_COMPONENTS,
    FloatArray,
    Noise,
    group_means,
    holm,
    interaction,
    percentile_interval,
    rank_correlation,
    spearman_rows,
)
from udt_cluster.studies.compare import means, result_of
from udt_cluster.studies.design import Design, metric_named
from udt_cluster.studies.findings import Choice, ComparisonResult, InteractionResult, OrderResult
from udt_cluster.studies.skips import SkipContrast, skip_contrasts
from udt_cluster.studies.values import Contrasted, Scores, contrasted, shared_means

LEAST_ARMS = 3
"""Arms from which their order in two data sets is correlated: two arms are always in the same order or in the other."""

_HALVES = 2


def interactions(scores: Sequence[Scores], design: Design) -> list[InteractionResult]:
    """Every comparison of arms and every skip, in every pair of data sets; corrected over all of one kind."""
    found = [
        _interaction(first, second, asked, design)
        for asked in (*_plain(design), *skip_contrasts(design))
        for first, second in combinations(scores, 2)
    ]
    results = []
    for kind in dict.fromkeys(result.kind for result in found):
        members = [result for result in found if result.kind == kind]
        tests = sum(not math.isnan(member.p) for member in members)
        for member, p in zip(members, holm([member.p for member in members]), strict=True):
            results.append(_decided(replace(member, corrected_p=p, tests=tests)))
    return results


def orders(scores: Sequence[Scores], design: Design) -> list[OrderResult]:
    """Rank correlation of the arms' means between each pair of data sets."""
    return [_order(first, second, design) for first, second in combinations(scores, 2)]


def tuned_against_fixed(scores: Sequence[Scores], design: Design) -> tuple[list[ComparisonResult], list[Choice]]:
    """One arm tuned on each data set against one arm for all, both chosen without the cases that score them.

    A data set is cut into its folds (with one fold: into two halves of its groups). For each part the tuned arm has the
    best mean on the data set's other parts; the fixed arm has the best mean over data sets, this part again left out.
    Arms on an ordered axis are not tuned: more cases cost more.
    """
    arms = _common_arms(scores)
    if len(scores) < 2 or len(arms) < 2 or design.has_curve:
        return [], []
    tables = {one.dataset: _Table(one, arms, design) for one in scores}
    results, choices = [], []
    for one in scores:
        chosen = list(_choices(one.dataset, tables, arms, metric_named(one.metric).sign))
        values = _tuned_values(one, tables[one.dataset], chosen)
        name = "tuned on this data set against one arm for all"
        results.append(result_of(values, one, design, kind="tuned", name=name))
        choices += chosen
    return results, choices


class _Table:
    """Groups that all arms have, the parts that they are cut into, and their scores (groups, arms)."""

    def __init__(self, scores: Scores, arms: Sequence[str], design: Design) -> None:
        self.groups, self.values = shared_means(scores, arms)
        folds = dict(zip(scores.groups, scores.folds, strict=True)) if scores.folds else {}
        if len(set(folds.values())) > 1:
            self.parts = [f"fold {folds[group]}" for group in self.groups]
        else:
            order = np.random.default_rng(design.seed).permutation(len(self.groups))
            self.parts = [f"half {int(place) % _HALVES}" for place in order]

    def mean(self, *, without: str = "") -> FloatArray:
        """Means of arms over groups that are not in a part."""
        kept = np.asarray([part != without for part in self.parts], dtype=bool)
        averages: FloatArray = self.values[kept].mean(axis=0) if kept.any() else np.zeros(self.values.shape[1])
        return averages


def _plain(design: Design) -> Iterator[SkipContrast]:
    for contrast in design.contrasts:
        yield SkipContrast("comparison", 0, contrast)


def _interaction(first: Scores, second: Scores, asked: SkipContrast, design: Design) -> InteractionResult:
    sides = [contrasted(scores, asked.contrast.weights) for scores in (first, second)]
    one, other = sides
    noises = (one.noise, other.noise)
    shown = interaction(one.column, other.column, seed=design.seed, noises=noises)
    return InteractionResult(
        metric=first.metric,
        kind=asked.kind,
        name=asked.contrast.name,
        level=asked.level,
        first=first.dataset,
        second=second.dataset,
        difference=shown.difference,
        low=shown.interval.low,
        high=shown.interval.high,
        p=shown.p,
        groups=shown.groups,
    )


def _decided(result: InteractionResult) -> InteractionResult:
    if min(result.groups) < LEAST_GROUPS:
        return replace(result, verdict="too few cases")
    shown = result.corrected_p <= ALPHA
    return replace(result, verdict="depends on the data set" if shown else "no dependence shown")


def _order(first: Scores, second: Scores, design: Design) -> OrderResult:
    arms = _common_arms([first, second])
    (averages, drawn), (others, drawn_others) = means(first, arms, design), means(second, arms, design)
    shared = bool(averages) and bool(others) and len(arms) >= LEAST_ARMS
    low = high = spearman = kendall = math.nan
    if shared:
        columns = [[side[arm] for arm in arms] for side in (averages, others)]
        found = rank_correlation(columns[0], columns[1], seed=design.seed)
        spearman, kendall = found.spearman, found.kendall
        interval = percentile_interval(spearman_rows(drawn(1), drawn_others(2)))
        low, high = interval.low, interval.high
    return OrderResult(
        metric=first.metric,
        first=first.dataset,
        second=second.dataset,
        arms=len(arms),
        spearman=spearman,
        kendall=kendall,
        low=low,
        high=high,
    )


def _common_arms(scores: Sequence[Scores]) -> list[str]:
    return [arm for arm in scores[0].arms if all(arm in one.arms_with_scores for one in scores)] if scores else []


def _choices(dataset: str, tables: Mapping[str, _Table], arms: Sequence[str], sign: int) -> Iterator[Choice]:
    own = tables[dataset]
    elsewhere = [table.mean() for name, table in tables.items() if name != dataset]
    for part in sorted(set(own.parts)):
        here = own.mean(without=part)
        everywhere = np.mean([here, *elsewhere], axis=0)
        yield Choice(
            dataset=dataset,
            part=part,
            tuned=arms[int(np.argmax(sign * here))],
            fixed=arms[int(np.argmax(sign * everywhere))],
        )


def _tuned_values(scores: Scores, table: _Table, choices: Sequence[Choice]) -> Contrasted:
    """The chosen arms' difference, case by case, each in the part that did not choose them."""
    parts = dict(zip(table.groups, table.parts, strict=True))
    changed = {choice.part for choice in choices if choice.tuned != choice.fixed}
    cases: dict[str, float] = {}
    groups: dict[str, str] = {}
    for choice in choices:
        weights = {choice.tuned: 1.0, choice.fixed: -1.0} if choice.tuned != choice.fixed else {choice.tuned: 0.0}
        found = contrasted(scores, weights)
        held_out = [case for case, group in found.case_groups.items() if parts.get(group) == choice.part]
        cases.update({case: found.cases[case] for case in held_out})
        groups.update({case: found.case_groups[case] for case in held_out})
    return Contrasted(
        cases=cases,
        case_groups=groups,
        groups=group_means(list(cases.values()), [groups[case] for case in cases]),
        components=NO_COMPONENTS,
        noise=_tuned_noise(scores, groups.values(), {group for group in groups.values() if parts[group] in changed}),
        undefined=0,
        one_sided=0,
        left_out=0,
    )


def _tuned_noise(scores: Scores, groups: Iterable[str], changed: Collection[str]) -> Noise | None:
    """Of trainings, for the groups whose two arms differ; the others have no difference and no noise."""
    pooled, folds = scores.noise.get(""), dict(zip(scores.groups, scores.folds, strict=False))
    if pooled is None or not folds or not changed:
        return None
    table = np.zeros((len(changed), len(scores.seeds)))
    noise = pooled.of_mean((1.0, -1.0), table, [folds[group] for group in changed])
    return replace(noise, variance=noise.variance * (len(changed) / len(set(groups))) ** 2)
