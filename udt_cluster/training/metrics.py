"""Validation Dice per case, on hard predictions, with counts that add up exactly over batches and ranks.

Policy: a case is all its slices together. Its Dice for a class is ``2 |P n R| / (|P| + |R|)`` at the training size;
where both are empty it is undefined (NaN) and counts for nothing; where only one is empty it is 0. A case's Dice is
the mean over its defined foreground classes, ``val_dice`` the mean over the cases that have one.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

Counts = dict[int, np.ndarray]
"""Case index -> int64 (foreground classes, 3): pixels in both, in the prediction, in the reference."""


def hard_prediction(logits: Tensor) -> Tensor:
    """Class indices int64 (B,H,W) of logits (B,K,H,W); one channel is a foreground logit, cut at probability 0.5."""
    return (logits.squeeze(1) > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def pixel_counts(prediction: Tensor, reference: Tensor, *, num_classes: int) -> np.ndarray:
    """Counts int64 (B, foreground classes, 3) of class maps (B,H,W)."""
    classes = torch.arange(1, num_classes, device=prediction.device).view(1, -1, 1, 1)
    predicted, referred = prediction.unsqueeze(1) == classes, reference.unsqueeze(1) == classes
    counts = torch.stack([(predicted & referred).sum((2, 3)), predicted.sum((2, 3)), referred.sum((2, 3))], dim=-1)
    result: np.ndarray = counts.cpu().numpy()
    return result


def add_counts(total: Counts, cases: np.ndarray, counts: np.ndarray) -> None:
    """Add the counts (B, ...) of samples to those of their cases (B,), in place."""
    for case, of_sample in zip(cases.tolist(), counts, strict=True):
        total[case] = total[case] + of_sample if case in total else of_sample.astype(np.int64)


def merge_counts(parts: Iterable[Mapping[int, np.ndarray]]) -> Counts:
    """The counts of all ranks; a case may be spread over several."""
    total: Counts = {}
    for part in parts:
        for case, counts in part.items():
            total[case] = total[case] + counts if case in total else counts
    return total


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice float64 of counts (..., 3); NaN where prediction and reference are empty."""
    size = counts[..., 1] + counts[..., 2]
    return np.where(size > 0, 2 * counts[..., 0] / np.maximum(size, 1), np.nan)


def dice_metrics(counts: Mapping[int, np.ndarray]) -> dict[str, float]:
    """``val_dice`` and ``val_dice_class_1``, ``_2``, ...: means over the cases where they are defined, else NaN."""
    table = np.stack([dice(counts[case]) for case in sorted(counts)])
    metrics = {"val_dice": defined_mean(defined_mean(row) for row in table)}
    for index, column in enumerate(table.T, start=1):
        metrics[f"val_dice_class_{index}"] = defined_mean(column)
    return metrics


def defined_mean(values: Iterable[float]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
