"""case_metrics against a brute-force computation that shares no code with it."""

import itertools
import math

import numpy as np
import pytest
import torch

from udt_cluster.errors import DataError
from udt_cluster.evaluation import METRICS, case_metrics
from udt_cluster.evaluation.metrics import hausdorff_95


def boundary_by_hand(mask):
    """Every voxel of the mask with a face neighbour outside it, found one voxel at a time."""
    points = []
    for point in itertools.product(*(range(size) for size in mask.shape)):
        if not mask[point]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = list(point)
            neighbour[axis] += step
            inside = 0 <= neighbour[axis] < mask.shape[axis]
            if not inside or not mask[tuple(neighbour)]:
                points.append(point)
                break
    return points


def percentile_by_hand(values, percent):
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


def hd95_by_hand(prediction, reference, spacing):
    ours, theirs = boundary_by_hand(prediction), boundary_by_hand(reference)
    if not ours or not theirs:
        return math.nan
    spacing = spacing or (1.0,) * prediction.ndim

    def directed(source, target):
        return percentile_by_hand(
            [
                min(math.sqrt(sum(((a - b) * s) ** 2 for a, b, s in zip(p, q, spacing, strict=True))) for q in target)
                for p in source
            ],
            95,
        )

    return max(directed(ours, theirs), directed(theirs, ours))


def scores_by_hand(prediction, reference, num_classes, spacing):
    scores = {}
    for index in range(1, num_classes):
        p, r = prediction == index, reference == index
        both, total, union = (p & r).sum(), p.sum() + r.sum(), (p | r).sum()
        scores[index] = {
            "dice": 2 * both / total if total else math.nan,
            "iou": both / union if union else math.nan,
            "hd95": hd95_by_hand(p, r, spacing),
        }
    return scores


def assert_same_scores(got, expected):
    assert got.keys() == expected.keys()
    for index, scores in expected.items():
        for name, value in scores.items():
            assert got[index][name] == pytest.approx(value, abs=1e-6, nan_ok=True), (index, name)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((13, 17), None),
        ((13, 17), (0.7, 2.5)),
        ((1, 9), None),
        ((6, 7, 8), None),
        ((4, 9, 7), (10.0, 1.5625, 0.8)),
        ((1, 8, 8), (5.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_agrees_with_brute_force_on_random_masks(shape, spacing, density, num_classes):
    random = np.random.default_rng([*shape, int(density * 100), num_classes])

    def draw():
        foreground = random.random(shape) < density
        return (foreground * random.integers(1, num_classes, shape)).astype(np.uint8)

    prediction, reference = draw(), draw()
    got = case_metrics(prediction, reference, num_classes=num_classes, spacing=spacing)
    assert_same_scores(got, scores_by_hand(prediction, reference, num_classes, spacing))


@pytest.mark.parametrize("spacing", [None, (8.0, 1.37, 1.37)])
def test_agrees_with_brute_force_on_shapes_that_touch_the_border(spacing):
    prediction, reference = np.zeros((5, 14, 15), int), np.zeros((5, 14, 15), int)
    prediction[0:3, 0:6, 2:9] = 1
    reference[1:5, 3:9, 0:6] = 1
    prediction[4, 13, 14] = 2  # one voxel, in the corner
    reference[0, 0, 14] = 2
    got = case_metrics(prediction, reference, num_classes=3, spacing=spacing)
    assert_same_scores(got, scores_by_hand(prediction, reference, 3, spacing))


def test_stays_exact_at_distances_where_float32_does_not():
    prediction, reference = np.zeros((10, 256, 216), np.uint8), np.zeros((10, 256, 216), np.uint8)
    prediction[1, 3, 5] = 1
    reference[8, 250, 207] = 1
    spacing = (9.9, 1.5625, 1.3671875)
    expected = math.sqrt((7 * 9.9) ** 2 + (247 * 1.5625) ** 2 + (202 * 1.3671875) ** 2)
    assert case_metrics(prediction, reference, num_classes=2, spacing=spacing)[1]["hd95"] == pytest.approx(
        expected, abs=1e-9
    )


def test_hd95_is_the_larger_of_both_directions_whichever_comes_first():
    small, large = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    small[10:14, 10:14] = True
    large[10:14, 10:38] = True
    assert hausdorff_95(small, large) == hausdorff_95(large, small) > 20


def test_hd95_is_what_monai_gives_in_float32():
    from monai.metrics import compute_hausdorff_distance

    random = np.random.default_rng(5)
    prediction, reference = random.random((2, 6, 20, 20)) < 0.1
    as_batch = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference))
    with pytest.warns(FutureWarning, match="always_return_as_numpy"):  # a call of MONAI's into itself
        theirs = compute_hausdorff_distance(*as_batch, include_background=True, percentile=95, spacing=(3.0, 1.0, 2.0))
    assert hausdorff_95(prediction, reference, spacing=(3.0, 1.0, 2.0)) == pytest.approx(theirs.item(), abs=1e-5)


def test_empty_masks_follow_the_stated_policy():
    empty, full = np.zeros((8, 8), int), np.ones((8, 8), int)
    for prediction, reference, overlap in ((empty, empty, math.nan), (full, empty, 0.0), (empty, full, 0.0)):
        scores = case_metrics(prediction, reference, num_classes=2)[1]
        assert scores["dice"] == pytest.approx(overlap, nan_ok=True)
        assert scores["iou"] == pytest.approx(overlap, nan_ok=True)
        assert math.isnan(scores["hd95"])


def test_a_perfect_prediction():
    mask = np.zeros((3, 9, 9), np.int16)
    mask[1, 2:5, 2:6] = 2
    scores = case_metrics(mask, mask, num_classes=3)
    assert scores[2] == {"dice": 1.0, "iou": 1.0, "hd95": 0.0}
    assert all(math.isnan(value) for value in scores[1].values())


def test_every_integer_type_counts_alike():
    random = np.random.default_rng(3)
    prediction, reference = random.integers(0, 2, (2, 12, 12))
    expected = case_metrics(prediction, reference, num_classes=2)
    for kind in (np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.uint64):
        assert case_metrics(prediction.astype(kind), reference.astype(np.uint64), num_classes=2) == expected
    assert case_metrics(torch.from_numpy(prediction), torch.from_numpy(reference), num_classes=2) == expected


def test_only_the_metrics_asked_for():
    mask = np.eye(5, dtype=int)
    assert list(case_metrics(mask, mask, num_classes=2, metrics=("iou",))[1]) == ["iou"]
    assert tuple(case_metrics(mask, mask, num_classes=2)[1]) == METRICS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((4, 5), int)}, r"prediction \(4, 5\) and reference \(4, 4\)"),
        ({"prediction": np.full((4, 4), 7)}, r"prediction has the values 7; .* allowed are 0\.\.1"),
        ({"reference": np.full((4, 4), -1)}, "reference has the values -1"),
        ({"prediction": np.full((4, 4), 0.5)}, "prediction is float64"),
        ({"prediction": np.zeros(4, int)}, r"shape \(4,\)"),
        ({"num_classes": 1}, "the background counts"),
        ({"spacing": (1.0,)}, "each of the 2 axes"),
        ({"spacing": (1.0, 0.0)}, "above 0 mm"),
        ({"spacing": (1.0, math.nan)}, "leave it out"),
        ({"metrics": ("dice", "asd")}, r"\['asd'\] are not known; allowed: \['dice', 'iou', 'hd95'\]"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(change, message):
    arguments = {"prediction": np.zeros((4, 4), int), "reference": np.zeros((4, 4), int), "num_classes": 2} | change
    with pytest.raises(DataError, match=message):
        case_metrics(arguments.pop("prediction"), arguments.pop("reference"), **arguments)
