"""The answer in sentences, made by rules: no winner without a corrected test, no equality from a missing difference."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from udt_cluster.statistics import ALPHA, LEAST_GROUPS
from udt_cluster.studies.columns import shown_skips
from udt_cluster.studies.design import Contrast, Design, metric_named
from udt_cluster.studies.findings import ComparisonResult, DatasetFacts, Findings, OrderResult
from udt_cluster.studies.wording import correlation, counted, double_effect, effect, listed, number, p_text, signed, who

_LITTLE = 4  # degrees of freedom
_MOST_NAMED, _MOST_DEPENDENT = 4, 2
_SHOWN = ("better", "worse")


def conclude(findings: Findings) -> Findings:
    """The same findings with their conclusion; the first sentence is the answer."""
    found = {facts.name: list(_of_dataset(findings, facts)) for facts in findings.datasets}
    sentences = [sentence for told in found.values() for sentence in told[: 1 if len(found) > 1 else None]]
    if not sentences:
        sentences = ["Nothing can be said yet: no training has scores."]
    sentences = [*_dependence(findings), *sentences, *_across(findings), *_caveats(findings)]
    details = {name: tuple(told[1:]) for name, told in found.items()} if len(found) > 1 else {}
    return replace(findings, conclusion=tuple(sentences), details=details)


def is_shown(result: ComparisonResult) -> bool:
    """Whether a difference is shown, in either direction."""
    return result.verdict in _SHOWN


def common_reference(design: Design) -> str:
    """The arm that all comparisons are against; empty where there is no such one."""
    seconds = {contrast.pair[1] if contrast.pair else "" for contrast in design.contrasts}
    return seconds.pop() if len(seconds) == 1 else ""


def short_name(name: str, design: Design) -> str:
    """The name of a comparison; the first arm alone where all are against one reference."""
    contrast = {one.name: one for one in design.contrasts}.get(name)
    return contrast.pair[0] if contrast and contrast.pair and common_reference(design) else name


def statement(result: ComparisonResult, contrast: Contrast | None) -> str:
    """A is better than B."""
    pair = contrast.pair if contrast is not None else None
    if pair is not None:
        first, second = pair
        return f"{first} is {result.verdict} than {second}"
    return f"{result.name}: {'above' if result.difference > 0 else 'below'} zero"


def _of_dataset(findings: Findings, facts: DatasetFacts) -> Iterator[str]:
    prefix = f"{facts.name}: " if len(findings.datasets) > 1 else ""
    found = [one for one in findings.of(dataset=facts.name) if one.verdict != "no data"]
    if not found:
        yield f"{prefix}Nothing can be said yet: no comparison has scores of all its arms."
        return
    yield prefix + _headline(findings, facts, found)
    shown = [one for one in found if is_shown(one)]
    if shown and len(found) > 1:
        yield from _others(findings.design, found, shown)
    yield from _best(findings, facts)
    yield from _skips(findings, facts)


def _headline(findings: Findings, facts: DatasetFacts, found: Sequence[ComparisonResult]) -> str:
    noun = findings.design.group
    shown = sorted((one for one in found if is_shown(one)), key=lambda one: (one.verdict, -abs(one.difference)))
    largest = max(found, key=lambda one: abs(one.difference))
    if shown:
        first = shown[0]
        contrast = {one.name: one for one in findings.design.contrasts}.get(first.name)
        against = common_reference(findings.design)
        lead = f"No arm is shown to be better than {against}; " if against and first.verdict == "worse" else ""
        lead = lead if len(found) > 1 else ""
        return f"{lead}{statement(first, contrast)}: {_numbers(first, noun, facts.unit)}."
    if all(one.verdict == "too few cases" for one in found):
        return _too_few(findings, facts, found, largest)
    sure = _how_equal(findings, found)
    lead = "No difference shown" if len(found) == 1 else f"No difference shown in any of {len(found)} comparisons"
    what = "" if len(found) == 1 else "; the largest is "
    return f"{lead}{what or ': '}{largest.name}, {_numbers(largest, noun, facts.unit)}. {sure}"


def _how_equal(findings: Findings, found: Sequence[ComparisonResult]) -> str:
    margin, metric = findings.design.margin, findings.design.metric
    if margin is not None and all(one.within_margin for one in found):
        return f"Every difference is likely smaller than the {number(margin, metric)} that would matter."
    few = any(one.verdict == "too few cases" for one in found)
    also = f" Some comparisons have fewer than {LEAST_GROUPS} {findings.design.group}s." if few else ""
    return f"This does not show that the arms are equal: the interval is what the data allow.{also}"


def _too_few(
    findings: Findings, facts: DatasetFacts, found: Sequence[ComparisonResult], largest: ComparisonResult
) -> str:
    noun = findings.design.group
    groups = max(one.groups for one in found)
    if groups < LEAST_GROUPS:
        why = f"with fewer than {LEAST_GROUPS} {noun}s no test can show a difference"
    else:
        tests = counted(largest.tests, "comparison")
        why = f"with {counted(groups, noun)} and {tests} no corrected p can come below {ALPHA}"
    seen = f"{largest.name}, {_numbers(largest, noun, facts.unit, p=False)}"
    return f"Too few cases: {why}. The largest difference seen, which may be chance, is {seen}."


def _numbers(result: ComparisonResult, noun: str, unit: str, *, p: bool = True) -> str:
    corrected = f"corrected p {p_text(result.corrected_p)}; " if p else ""
    return f"{effect(result, unit=unit)} ({corrected}{who(result.cases, result.groups, noun)})"


def _others(design: Design, found: Sequence[ComparisonResult], shown: Sequence[ComparisonResult]) -> Iterator[str]:
    against = common_reference(design)
    first, *ordered = sorted(shown, key=lambda one: (one.verdict, -abs(one.difference)))
    for verdict in _SHOWN:
        names = [f"{short_name(one.name, design)} ({_short(one)})" for one in ordered if one.verdict == verdict]
        if names:
            than = f" than {against}" if against else ""
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            text = ", ".join(names[:_MOST_NAMED]) if more else listed(names)
            lead = f"Also {verdict}" if verdict == first.verdict else verdict.capitalize()
            yield f"{lead}{than}: {text}{more}."
    rest = len(found) - len(shown)
    if rest:
        yield f"For the other {counted(rest, 'comparison')} no difference is shown."


def _short(result: ComparisonResult) -> str:
    return signed(result.difference, metric_named(result.metric))


def _best(findings: Findings, facts: DatasetFacts) -> Iterator[str]:
    """The highest mean and how sure its rank is: which of many is best is another question than what beats what."""
    ranked = sorted((one for one in findings.arms_of(facts.name) if one.rank), key=lambda one: one.rank)
    if len(ranked) < 3:
        return
    first = ranked[0]
    metric = findings.design.metric
    mean = f"{first.arm} has the best mean {metric.label} ({number(first.mean, metric)})"
    if first.rank_high > 1:
        ranks = f"1 to {first.rank_high} of {len(ranked)}"
        yield f"{mean}; in 95 % of resamples its rank is {ranks}, so which is best is not known."
    else:
        yield f"{mean}; it stays first of {len(ranked)} in 95 % of resamples."


def _skips(findings: Findings, facts: DatasetFacts) -> Iterator[str]:
    skips = shown_skips(findings.comparisons, findings.design, facts.name)
    if not skips or all(one.verdict == "too few cases" for one in skips):
        return
    for verdict, word in (("better", "help"), ("worse", "hurt")):
        names = [f"{one.level} ({_short(one)})" for one in skips if one.verdict == verdict]
        if names:
            yield f"Skip{'s' if len(names) > 1 else ''} {listed(names)} {word}{'s' if len(names) == 1 else ''}."
    rest = [str(one.level) for one in skips if not is_shown(one)]
    if rest:
        yield f"For skip{'s' if len(rest) > 1 else ''} {listed(rest)} no contribution is shown."


def _dependence(findings: Findings) -> Iterator[str]:
    """The answer to a study of several data sets, where it is that they differ; the surest first."""
    found = [one for one in findings.interactions if one.verdict == "depends on the data set"]
    ordered = sorted(found, key=lambda one: (one.kind != "comparison", one.corrected_p, -abs(one.difference)))
    names = list(
        dict.fromkeys(
            f"{short_name(one.name, findings.design)} in {one.first} against {one.second} ({double_effect(one)})"
            for one in ordered
        )
    )
    if names:
        more = f", and {len(names) - _MOST_DEPENDENT} more" if len(names) > _MOST_DEPENDENT else ""
        lead = f"The answer depends on the data set. The effect on {findings.design.metric.label} differs for"
        yield f"{lead} {'; '.join(names[:_MOST_DEPENDENT])}{more}."


def _across(findings: Findings) -> Iterator[str]:
    tested = [one for one in findings.interactions if one.verdict != "too few cases"]
    if tested and all(one.verdict == "no dependence shown" for one in tested):
        yield f"That the answer depends on the data set is not shown ({counted(len(tested), 'double difference')})."
    yield from (_order(one) for one in findings.orders if not math.isnan(one.spearman))
    for one in findings.of("tuned"):
        if one.groups:
            gain = "" if is_shown(one) else "no gain shown: "
            yield f"{one.dataset}, {one.name}: {gain}{effect(one)}."


def _order(one: OrderResult) -> str:
    interval = "" if math.isnan(one.low) else f" [{correlation(one.low)}, {correlation(one.high)}]"
    text = f"{correlation(one.spearman)}{interval}"
    return f"The order of {one.arms} arms in {one.first} and {one.second} has a rank correlation of {text}."


def _caveats(findings: Findings) -> Iterator[str]:
    missing = findings.missing
    if not missing.is_complete:
        tail = "; arms are compared on the cases that both have" if missing.runs_found else ""
        yield f"Incomplete: {missing.runs_found} of {counted(missing.runs_expected, 'training')} have scores{tail}."
    single = [facts for facts in findings.datasets if facts.seeds == 1]
    if single:
        names = f" ({listed([facts.name for facts in single])})" if len(findings.datasets) > 1 else ""
        df = min((len(findings.design.arms) - 1) * (facts.folds - 1) for facts in single)
        known = "is not known" if df < 1 else "can hardly be judged" if df < _LITTLE else "was judged from the folds"
        yield f"Every arm was trained once per fold (one seed): what a retraining alone would change {known}{names}."
    comparisons = findings.of()
    noisy = [
        f"{one.name} ({one.dataset})" if len(findings.datasets) > 1 else one.name
        for one in comparisons
        if not is_shown(one) and one.sign_flip_p < ALPHA < one.retraining_p
    ]
    if noisy:
        yield f"{listed(noisy[:_MOST_NAMED])}: a retraining may change as much as the difference seen."
    if undefined := sum(one.undefined for one in comparisons):
        sided = sum(one.one_sided for one in comparisons)
        yield (
            f"{counted(undefined, 'undefined pair')} of scores {'is' if undefined == 1 else 'are'} left out, "
            f"{sided} of them defined in one of the two arms."
        )
