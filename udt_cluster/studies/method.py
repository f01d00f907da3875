"""How a study was analysed, in words that can be put into a paper; only what applies to it."""

from udt_cluster.statistics import ALPHA, LEAST_GROUPS, RESAMPLES
from udt_cluster.studies.findings import Findings

_PAIRS = """Every case was scored by a network that was not trained on it. Scores were averaged over classes, then
over seeds, then over the cases of a {noun}, so each {noun} counts once. Two arms are compared on the cases, classes
and seeds that both have; a score that is undefined in one of them (a class in neither mask) is left out as a pair
and counted."""

_TESTS = """Intervals are 95 % BCa bootstrap intervals over {noun}s ({resamples:,} resamples), stretched for small
samples (Hesterberg 2015). p values are of two-sided sign-flip permutation tests of the mean difference, exact to 13
{noun}s; Wilcoxon's signed-rank test stands beside them, uncorrected. They are corrected by Holm's method over all
comparisons of the same kind and metric, in all data sets; a difference is called shown if the corrected p is at
most {alpha}. Below {least} {noun}s no such test can come below 0.05, and the verdict is: too few cases."""

_SEEDS = """Trainings were repeated with other seeds. What a new seed changes in a fold's mean was estimated from
all arms together and widens the intervals; a difference is called shown only if it is also larger than that
(Student's t, degrees of freedom after Satterthwaite). The choice of the folds is taken as given."""

_ONE_SEED = """Every arm was trained once per fold, so the noise of trainings is judged from the folds: what the
arms differ by from fold to fold, beyond their {noun}s and in all arms together, widens the intervals, and a
difference is called shown only if it is also larger than that (Student's t). Few folds of few arms see only a part
of this noise: in simulations with 2 folds of 2 arms and a noise of a quarter of the {noun}s' spread, 18 % of
studies without a difference found one. Repeat trainings with other seeds to be sure."""

_ONE_TRAINING = """Every arm was trained once, so intervals and tests speak of other {noun}s scored by these
networks, not of networks trained again."""

_SKIPS = """A skip's contribution is what the metric loses when it alone is left out of all skips, what it gains
alone against none and, where all 16 subsets were trained, its Shapley value: the mean gain over all orders of
adding skips."""

_DATASETS = """Whether an effect depends on the data set is the difference of the two effects, each data set
resampled on its own, with p by permuting {noun}s between data sets (Welch's t). Intervals of rank correlations
resample {noun}s; noise in the means lowers a correlation. The tuned and the fixed arm were chosen by means over
other folds than the one that scores them; with a single fold, over the other half of the {noun}s."""


def method_text(findings: Findings) -> list[str]:
    """Paragraphs."""
    texts = [_PAIRS, _TESTS]
    if any(facts.seeds > 1 for facts in findings.datasets):
        texts.append(_SEEDS)
    if any(facts.seeds == 1 and facts.folds > 1 for facts in findings.datasets):
        texts.append(_ONE_SEED)
    if any(facts.seeds == facts.folds == 1 for facts in findings.datasets):
        texts.append(_ONE_TRAINING)
    if any(one.level for one in findings.comparisons):
        texts.append(_SKIPS)
    if findings.interactions:
        texts.append(_DATASETS)
    numbers = {"resamples": RESAMPLES, "alpha": ALPHA, "least": LEAST_GROUPS}
    return [" ".join(text.format(noun=findings.design.group, **numbers).split()) for text in texts]
