"""Scores of one case: Dice, IoU and HD95 of integer masks, per class, with every undefined score said to be so.

Policy for empty masks. A class that neither mask has: nothing was asked and nothing was claimed, so Dice and IoU are
undefined (NaN), not 1. A class that only one of them has: Dice and IoU are 0. HD95 needs two boundaries, so it is
undefined wherever either mask is empty. Whoever averages leaves the undefined out and says how many there were.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from udt_cluster.errors import DataError

METRICS = ("dice", "iou", "hd95")
"""What :func:`case_metrics` computes for each class."""

EMPTY_MASK_POLICY = (
    "class in neither mask: dice, iou and hd95 undefined; in one of them only: dice and iou 0, hd95 undefined; "
    "undefined scores are left out of mean, median and std, and counted"
)

Mask = npt.NDArray[np.integer[Any]]
BoolMask = npt.NDArray[np.bool_]


class ClassCounts(NamedTuple):
    """Voxels of each class, the background first; all three have the shape (num_classes,)."""

    prediction: npt.NDArray[np.int64]
    reference: npt.NDArray[np.int64]
    both: npt.NDArray[np.int64]


def case_metrics(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[int, dict[str, float]]:
    """Score the prediction of one case against its reference.

    Dice = 2 |P and R| / (|P| + |R|) and IoU = |P and R| / |P or R|. HD95 is the larger of the two directed 95th
    percentiles (linear interpolation) of the Euclidean distances between boundary voxels; a boundary voxel has a face
    neighbour outside its class, and everything beyond the array counts as outside. See Maier-Hein et al., "Metrics
    reloaded", https://doi.org/10.1038/s41592-023-02151-z.

    Args:
        prediction: Class indices, (H, W) or (D, H, W), an integer or boolean type; 0 is the background.
        reference: The same shape. A volume of one slice is a volume: pass (H, W) for an image.
        num_classes: Number of classes, the background counted.
        spacing: Size of a voxel along each axis in mm; None: distances are in pixels.
        metrics: Names out of :data:`METRICS`.

    Returns:
        For each foreground class 1..num_classes-1 its scores by name; NaN where a score is undefined.

    Raises:
        DataError: shapes differ, a value is no class index, the spacing does not fit, or a metric is unknown.
    """
    sampling = _check_arguments(num_classes=num_classes, metrics=metrics, spacing=spacing, ndim=np.ndim(reference))
    predicted = _as_mask(prediction, "prediction", num_classes)
    expected = _as_mask(reference, "reference", num_classes)
    if predicted.shape != expected.shape:
        raise DataError(f"prediction {predicted.shape} and reference {expected.shape} must have the same shape")
    counts = count_classes(predicted, expected, num_classes=num_classes)
    scores = {index: overlap(counts, index) for index in range(1, num_classes)}
    if "hd95" in metrics:
        for index in scores:
            scores[index]["hd95"] = hausdorff_95(predicted == index, expected == index, spacing=sampling)
    return {index: {name: scores[index][name] for name in metrics} for index in scores}


def count_classes(prediction: Mask, reference: Mask, *, num_classes: int) -> ClassCounts:
    """Voxels of each class in the prediction, in the reference, and in both at the same place."""
    pairs = reference.astype(np.int64).ravel() * num_classes + prediction.astype(np.int64).ravel()
    table = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return ClassCounts(prediction=table.sum(axis=0), reference=table.sum(axis=1), both=table.diagonal())


def overlap(counts: ClassCounts, index: int) -> dict[str, float]:
    """Dice and IoU of one class; NaN where neither mask has it."""
    together = int(counts.prediction[index] + counts.reference[index])
    both = int(counts.both[index])
    if together == 0:
        return {"dice": float("nan"), "iou": float("nan")}
    return {"dice": 2 * both / together, "iou": both / (together - both)}


def hausdorff_95(prediction: BoolMask, reference: BoolMask, *, spacing: Sequence[float] | None = None) -> float:
    """The larger of the two directed 95th percentiles of boundary distances; NaN where either mask is empty.

    Boundaries and distance transforms are MONAI's. Its `compute_hausdorff_distance` takes the same maximum, but works
    in float32, which is off by 1e-5 at distances of a few hundred; here everything stays in float64. Cutting both masks
    to the box around their union changes no boundary and no distance.

    Args:
        prediction: (H, W) or (D, H, W).
        reference: The same shape.
        spacing: Size of a voxel along each axis in mm; None: pixels.
    """
    from monai.metrics.utils import get_mask_edges  # 2-3 s, needed by nothing else here
    from monai.transforms.utils import distance_transform_edt

    if not (prediction.any() and reference.any()):
        return float("nan")
    box = _bounding_box(prediction | reference)
    edges = get_mask_edges(prediction[box], reference[box], crop=False)
    directed = [
        np.percentile(distance_transform_edt(~target[np.newaxis], sampling=spacing)[0][source], 95)
        for source, target in (edges, edges[::-1])
    ]
    return float(max(directed))


def _bounding_box(mask: BoolMask) -> tuple[slice, ...]:
    """The smallest box that holds every True of a mask that has one."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def _check_arguments(
    *, num_classes: int, metrics: Sequence[str], spacing: Sequence[float] | None, ndim: int
) -> tuple[float, ...] | None:
    if num_classes < 2:
        raise DataError(f"num_classes={num_classes}: the background counts, so there are at least 2 classes")
    if unknown := [name for name in metrics if name not in METRICS]:
        raise DataError(f"metrics {unknown} are not known; allowed: {list(METRICS)}")
    if spacing is None:
        return None
    sampling = tuple(float(size) for size in spacing)
    if len(sampling) != ndim or not all(np.isfinite(size) and size > 0 for size in sampling):
        raise DataError(
            f"spacing {sampling} must have one size above 0 mm for each of the {ndim} axes of the mask; "
            "leave it out where it is unknown"
        )
    return sampling


def _as_mask(values: npt.ArrayLike, what: str, num_classes: int) -> Mask:
    mask = np.asarray(values)
    if mask.ndim not in (2, 3):
        raise DataError(f"{what} has the shape {mask.shape}; a mask is (H, W) or (D, H, W)")
    if not (np.issubdtype(mask.dtype, np.integer) or mask.dtype == np.bool_):
        raise DataError(
            f"{what} is {mask.dtype}; a mask has whole class indices: take the argmax of probabilities first"
        )
    if mask.size and (int(mask.min()) < 0 or int(mask.max()) >= num_classes):
        outside = np.unique(mask[(mask < 0) | (mask >= num_classes)])
        shown = ", ".join(str(value) for value in outside[:8]) + (", ..." if len(outside) > 8 else "")
        raise DataError(
            f"{what} has the values {shown}; with num_classes={num_classes} allowed are 0..{num_classes - 1}"
        )
    return mask
