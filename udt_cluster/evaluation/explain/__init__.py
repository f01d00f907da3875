"""What the skips of a trained network do: each one taken away, compared, and looked at; nothing is trained."""

from udt_cluster.evaluation.explain.run import PAGE_NAME, REPORT_NAME, explain
from udt_cluster.evaluation.explain.settings import ExplainSettings

__all__ = ["PAGE_NAME", "REPORT_NAME", "ExplainSettings", "explain"]
