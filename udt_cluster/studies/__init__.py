"""Studies: one question, arms that differ in one thing, and an answer that says how sure it is."""

from udt_cluster.studies.analyze import analyze
from udt_cluster.studies.design import Arm, Contrast, Design, Measurement, Metric, SkipGap, metric_named
from udt_cluster.studies.findings import Findings
from udt_cluster.studies.join import joined
from udt_cluster.studies.missing import Missing, find_missing
from udt_cluster.studies.report import write_report
from udt_cluster.studies.skips import all_subsets
from udt_cluster.studies.table import RunKey, ScoreFile, ScoreRow, ScoreTable, read_scores

__all__ = [
    "Arm",
    "Contrast",
    "Design",
    "Findings",
    "Measurement",
    "Metric",
    "Missing",
    "RunKey",
    "ScoreFile",
    "ScoreRow",
    "ScoreTable",
    "SkipGap",
    "all_subsets",
    "analyze",
    "find_missing",
    "joined",
    "metric_named",
    "read_scores",
    "write_report",
]
