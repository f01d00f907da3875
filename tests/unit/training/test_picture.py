import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.training.fakes import Samples, blobs
from udt_cluster.training.picture import TILE, Gallery


def _opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_each_of_the_first_cases_shows_its_slice_with_most_foreground() -> None:
    data = blobs(12, slices_per_case=2)
    data.labels[1::2] = 0
    gallery = Gallery(("background", "gland"))
    gallery.add(data.take(range(0, 5)), torch.zeros(5, 16, 16, dtype=torch.int64))
    gallery.add(data.take(range(5, 12)), torch.zeros(7, 16, 16, dtype=torch.int64))
    assert [(row.case, row.slice) for row in gallery._best.values()] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert _opened(gallery.render()).shape[0] > 4 * TILE


def test_a_later_slice_with_more_foreground_takes_the_place() -> None:
    data = blobs(4, slices_per_case=4)
    data.labels[:3] = 0
    gallery = Gallery(("background", "gland"))
    for index in range(4):
        gallery.add(data.take([index]), data.labels[index : index + 1])
    assert [(row.case, row.slice) for row in gallery._best.values()] == [(0, 3)]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (20, 64), (300, 100)])
def test_any_number_of_channels_and_any_aspect(channels: int, size: tuple[int, int]) -> None:
    images, labels = torch.randn(2, channels, *size), torch.randint(0, 9, (2, *size))
    numbers = np.arange(2)
    gallery = Gallery([f"class {k}" for k in range(9)])
    gallery.add(Samples(images, labels, numbers, numbers, numbers), labels)
    picture = _opened(gallery.render())
    assert picture.shape[1] > 3 * TILE


def test_reference_and_prediction_are_drawn_where_they_are() -> None:
    images = torch.zeros(1, 1, 32, 32)
    reference, prediction = torch.zeros(2, 1, 32, 32, dtype=torch.int64)
    reference[0, :, :16], prediction[0, :, 16:] = 1, 1
    zero = np.zeros(1, dtype=int)
    gallery = Gallery(("background", "gland"))
    gallery.add(Samples(images, reference, zero, zero, zero), prediction)
    picture = _opened(gallery.render())
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 40)[40 : TILE - 20]
    halves = [coloured[:, 10 + column * (TILE + 10) :][:, :TILE] for column in range(3)]
    left = [half[:, : TILE // 2].mean() > 0.9 for half in halves]
    right = [half[:, TILE // 2 :].mean() > 0.9 for half in halves]
    assert left == [False, True, False]
    assert right == [False, False, True]


def test_nothing_seen_is_nothing_to_show() -> None:
    assert not Gallery(("background", "gland"))
