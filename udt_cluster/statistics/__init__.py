"""Statistics of paired studies: intervals by resampling patients, paired tests, corrections, ranks, noise."""

from udt_cluster.statistics.components import NO_COMPONENTS, Components, variance_components
from udt_cluster.statistics.interaction import Interaction, interaction
from udt_cluster.statistics.intervals import (
    LEVEL,
    RESAMPLES,
    UNKNOWN,
    FloatArray,
    Interval,
    Noise,
    difference_interval,
    group_means,
    mean_interval,
    percentile_interval,
    resampled_means,
)
from udt_cluster.statistics.multiple import holm
from udt_cluster.statistics.paired import (
    ALPHA,
    LEAST_GROUPS,
    Paired,
    paired,
    rank_biserial,
    sign_flip_p,
    smallest_p,
    wilcoxon_p,
)
from udt_cluster.statistics.ranks import LEAST_POINTS, RankCorrelation, rank_correlation, spearman_rows
from udt_cluster.statistics.training_noise import TrainingNoise, training_noise

__all__ = [
    "ALPHA",
    "LEAST_GROUPS",
    "LEAST_POINTS",
    "LEVEL",
    "NO_COMPONENTS",
    "RESAMPLES",
    "UNKNOWN",
    "Components",
    "FloatArray",
    "Interaction",
    "Interval",
    "Noise",
    "Paired",
    "RankCorrelation",
    "TrainingNoise",
    "difference_interval",
    "group_means",
    "holm",
    "interaction",
    "mean_interval",
    "paired",
    "percentile_interval",
    "rank_biserial",
    "rank_correlation",
    "resampled_means",
    "sign_flip_p",
    "smallest_p",
    "spearman_rows",
    "training_noise",
    "variance_components",
    "wilcoxon_p",
]
