"""Overlays: what is shown, in which colours, and which way round."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from udt_cluster.evaluation.figures import Panel, displayed, draw_overlay, overlay_name
from udt_cluster.evaluation.summary import CaseScore

NAMES = ("background", "gland", "other")
RED, YELLOW, VIOLET = (255, 45, 32), (255, 214, 10), (143, 63, 255)


def panel(prediction, reference, *, image=None, case="patient1", scores=None, **look):
    scores = scores or {1: {"dice": 0.5, "hd95": 2.0}, 2: {"dice": 0.25, "hd95": 4.0}}
    sizes = dict.fromkeys(scores, 1)
    row = CaseScore(
        case=case, group="g", unit="mm", scores=scores, reference_voxels=sizes, prediction_voxels=sizes, voxels=9
    )
    image = np.zeros((1, 32, 32), np.uint8) if image is None else image
    look = {"aspect": 1.0, "resize": "stretch", "slice": (0, 1)} | look
    return Panel(row=row, image=image, prediction=prediction, reference=reference, **look)


def drawn(shown):
    with Image.open(BytesIO(draw_overlay(shown, NAMES, title="worst, rank 1"))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def near(picture, color, distance=70):
    """Pixels of about a colour in the picture of the difference."""
    right = picture[100:-60, picture.shape[1] * 3 // 4 :]
    return int((np.abs(right - np.array(color)).sum(-1) < distance).sum())


def masks():
    prediction, reference = np.zeros((2, 60, 60), np.uint8)
    reference[10:40, 10:30] = 1
    prediction[20:50, 10:30] = 1
    return prediction, reference


def test_missed_and_too_much_have_colours_of_their_own():
    prediction, reference = masks()
    both = drawn(panel(prediction, reference))
    assert near(both, RED) > 1000
    assert near(both, YELLOW) > 1000
    assert near(both, VIOLET) == 0
    missed = drawn(panel(prediction * 0, reference))
    assert near(missed, RED) > 1000
    assert near(missed, YELLOW) == 0
    assert near(drawn(panel(reference * 2, reference)), VIOLET) > 1000
    assert near(drawn(panel(reference, reference)), RED) == 0


@pytest.mark.parametrize("value", [0, 1])
def test_empty_and_full_masks_can_be_drawn(value):
    mask = np.full((40, 50), value, np.uint8)
    scores = {1: {"dice": float("nan"), "hd95": float("nan")}}
    assert drawn(panel(mask, mask, scores=scores)).shape[1] == 1496


@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (522, 775)])
def test_odd_shapes_fit_on_the_page(shape):
    mask = np.zeros(shape, np.uint8)
    mask[5:10, 5:15] = 1
    height, width, _ = drawn(panel(mask, mask)).shape
    assert width == 1496
    assert 200 < height < 1300


def test_a_canonical_slice_is_turned_to_the_radiological_view():
    prediction, reference = masks()
    image = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32)
    turned = panel(prediction[::-1, ::-1], reference[::-1, ::-1], image=image[:, ::-1, ::-1].copy())
    by_flag, by_hand = drawn(panel(prediction, reference, image=image, is_canonical=True)), drawn(turned)
    below_the_head = slice(105, -60)
    assert np.abs(by_flag[below_the_head] - by_hand[below_the_head]).mean() < 0.5
    assert np.abs(by_flag[below_the_head] - drawn(panel(prediction, reference, image=image))[below_the_head]).mean() > 5


def test_colours_are_shown_as_they_are_and_grey_between_percentiles():
    colours = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    np.testing.assert_allclose(displayed(colours, (16, 16), "stretch"), colours.transpose(1, 2, 0) / 255, atol=1e-6)
    grey = displayed(np.random.default_rng(0).normal(1000, 50, (1, 16, 16)).astype(np.float32), (20, 30), "stretch")
    assert grey.shape == (20, 30, 3)
    assert grey.min() == 0
    assert grey.max() == 1
    assert not displayed(np.zeros((2, 16, 16), np.int16), (16, 16), "pad").any()


def test_file_names_are_safe_whatever_the_id():
    assert overlay_name("worst_1", "../a b/ü:c") == "worst_1_..-a-b-c.png"
    assert len(overlay_name("best_2", "x" * 300)) < 100


def test_a_long_id_and_many_classes_do_not_break_the_layout():
    prediction, reference = masks()
    scores = {index: {"dice": 0.5} for index in (1, 2)}
    assert drawn(panel(prediction, reference, case="x" * 200, scores=scores)).shape[1] == 1496
