"""What a sweep came to: its answer in a sentence, figures with their numbers, and one HTML page."""

from udt_cluster.search.report.answer import Answer, answer
from udt_cluster.search.report.from_job import sweep_of_job
from udt_cluster.search.report.sweep import Allowance, Budget, Parameter, Space, Sweep, score, spread
from udt_cluster.search.report.write import write_report

__all__ = [
    "Allowance",
    "Answer",
    "Budget",
    "Parameter",
    "Space",
    "Sweep",
    "answer",
    "score",
    "spread",
    "sweep_of_job",
    "write_report",
]
