"""Validation Dice: exact over batches and ranks, by case, with the stated policy for empty masks."""

import math

import numpy as np
import pytest
import torch

from udt_cluster.training.metrics import add_counts, dice_metrics, hard_prediction, merge_counts, pixel_counts


def test_hard_prediction() -> None:
    one = torch.tensor([[[[-0.1, 0.0, 0.1]]]])
    assert hard_prediction(one).tolist() == [[[0, 0, 1]]]
    three = torch.tensor([0.0, 2.0, 1.0]).view(1, 3, 1, 1)
    assert hard_prediction(three).tolist() == [[[1]]]


def test_counts_are_pixels_in_both_in_the_prediction_in_the_reference() -> None:
    prediction = torch.tensor([[[0, 1, 1, 2]], [[2, 2, 0, 0]]])
    reference = torch.tensor([[[0, 1, 2, 2]], [[2, 0, 0, 0]]])
    counts = pixel_counts(prediction, reference, num_classes=3)
    assert counts.tolist() == [[[1, 2, 1], [1, 1, 2]], [[0, 0, 0], [1, 2, 1]]]


@pytest.mark.parametrize("cuts", [[6], [1, 5], [2, 2, 2], [1, 1, 1, 1, 1, 1]])
def test_a_case_counts_as_a_whole_however_it_was_dealt_out(cuts: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    prediction = torch.randint(0, 3, (6, 8, 8), generator=generator)
    reference = torch.randint(0, 3, (6, 8, 8), generator=generator)
    cases = np.array([4, 4, 9, 4, 9, 9])
    parts, start = [], 0
    for length in cuts:
        part: dict[int, np.ndarray] = {}
        stop = start + length
        counts = pixel_counts(prediction[start:stop], reference[start:stop], num_classes=3)
        add_counts(part, cases[start:stop], counts)
        parts.append(part)
        start = stop
    metrics = dice_metrics(merge_counts(parts))
    by_hand = []
    for case in (4, 9):
        of_case = torch.from_numpy(cases == case)
        p, r = prediction[of_case], reference[of_case]
        by_hand.append([2 * int(((p == k) & (r == k)).sum()) / int((p == k).sum() + (r == k).sum()) for k in (1, 2)])
    assert metrics["val_dice"] == pytest.approx(np.mean(by_hand), abs=0, rel=1e-12)
    assert metrics["val_dice_class_2"] == pytest.approx(np.mean(by_hand, axis=0)[1], rel=1e-12)


def test_empty_masks() -> None:
    both_empty, only_predicted, perfect = [0, 0, 0], [0, 5, 0], [4, 4, 4]
    counts = {1: np.array([both_empty, perfect]), 2: np.array([only_predicted, perfect]), 3: np.array([both_empty] * 2)}
    metrics = dice_metrics(counts)
    assert metrics["val_dice_class_1"] == 0.0  # case 2 alone defines it
    assert metrics["val_dice_class_2"] == 1.0
    assert metrics["val_dice"] == pytest.approx((1.0 + 0.5) / 2)  # case 3 has nothing to say


def test_nothing_defined_is_nan() -> None:
    assert all(math.isnan(value) for value in dice_metrics({0: np.zeros((2, 3), np.int64)}).values())


def test_adding_does_not_write_into_the_batch() -> None:
    total: dict[int, np.ndarray] = {}
    counts = np.ones((2, 1, 3), np.int64)
    add_counts(total, np.array([5, 5]), counts)
    assert total[5].tolist() == [[2, 2, 2]]
    assert counts.tolist() == [[[1, 1, 1]], [[1, 1, 1]]]
