"""How good a model is, and the model as something that predicts: layer 4, beside training."""

from udt_cluster.evaluation.metrics import EMPTY_MASK_POLICY, METRICS, case_metrics

__all__ = ["EMPTY_MASK_POLICY", "METRICS", "case_metrics"]
