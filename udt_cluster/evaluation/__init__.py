"""How good a model is, and the model as something that predicts: layer 4, beside training."""

from udt_cluster.evaluation.export import export_example, export_module, exported_program
from udt_cluster.evaluation.metrics import EMPTY_MASK_POLICY, METRICS, case_metrics
from udt_cluster.evaluation.model import SegmentationModel, load_model
from udt_cluster.evaluation.score import score
from udt_cluster.evaluation.spec import ModelSpec
from udt_cluster.evaluation.summary import CaseScore, Summary, summarize

__all__ = [
    "EMPTY_MASK_POLICY",
    "METRICS",
    "CaseScore",
    "ModelSpec",
    "SegmentationModel",
    "Summary",
    "case_metrics",
    "export_example",
    "export_module",
    "exported_program",
    "load_model",
    "score",
    "summarize",
]
