import numpy as np
import pytest
import torch
from scipy import ndimage

from udt_cluster.data.augment import RECIPES, augment, draw
from udt_cluster.data.augment_geometry import Geometry, apply_geometry, released_geometry
from udt_cluster.data.augment_random import uniforms


def geometry(angle: int, flip: int = -1) -> Geometry:
    return Geometry(angle=np.array([angle]), flip=np.array([flip]))


def batch(size: tuple[int, int], *, channels: int = 3, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (count, channels, *size), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 4, (count, *size), dtype=torch.uint8, generator=generator)


def test_uniforms_are_uniform_and_independent_of_the_company():
    samples = np.arange(50_000)
    numbers = uniforms(7, 3, samples)
    assert numbers.shape == (50_000, 4)
    assert 0 <= numbers.min() < 1e-3
    assert 1 - 1e-3 < numbers.max() < 1
    histogram = np.stack([np.histogram(column, bins=20, range=(0, 1))[0] for column in numbers.T])
    chi_square = ((histogram - 2500) ** 2 / 2500).sum(axis=1)
    assert (chi_square < 43.8).all()  # 19 degrees of freedom, p = 0.001
    assert np.abs(np.corrcoef(numbers, rowvar=False) - np.eye(4)).max() < 0.02
    assert np.array_equal(uniforms(7, 3, samples[[5, 40_000]]), numbers[[5, 40_000]])


@pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 4}, {"seed": 3, "epoch": 7}, {"samples": np.arange(1, 101)}])
def test_uniforms_depend_on_seed_epoch_and_sample(other):
    same = {"seed": 7, "epoch": 3, "samples": np.arange(100)}
    assert not np.isclose(uniforms(**same), uniforms(**{**same, **other})).any()


def test_uniforms_take_any_seed_that_a_job_may_have():
    assert uniforms(2**70 + 1, 0, np.array([0])).shape == (1, 4)


def test_released_recipe_has_the_released_frequencies():
    drawn = released_geometry(uniforms(1, 0, np.arange(20_000)), square=True)
    reflected = drawn.flip >= 0
    rotated = ~reflected & (drawn.angle != 0)
    assert reflected.mean() == pytest.approx(0.5, abs=0.015)
    assert rotated.mean() == pytest.approx(0.25 * 39 / 40, abs=0.015)
    assert sorted(set(drawn.angle[reflected].tolist())) == [0, 90, 180, 270]
    assert sorted(set(drawn.flip.tolist())) == [-1, 0, 1]
    assert set(drawn.angle[~reflected].tolist()) == set(range(-20, 20))
    counts = np.bincount(drawn.angle[reflected] // 90)
    assert counts == pytest.approx(np.full(4, reflected.sum() / 4), rel=0.1)


def test_quarter_turns_are_left_out_where_the_sample_is_not_square():
    drawn = draw("released", seed=1, epoch=0, samples=np.arange(2_000), size=(32, 48)).geometry
    assert set(drawn.angle[drawn.flip >= 0].tolist()) == {0, 180}


def test_unknown_recipe_names_the_known():
    with pytest.raises(ValueError, match="allowed: none, released, strong"):
        draw("elastic", seed=0, epoch=0, samples=np.arange(2), size=(16, 16))


@pytest.mark.parametrize("size", [(16, 16), (15, 15), (32, 32)])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [-1, 0, 1])
def test_quarter_turns_and_flips_are_exact(size, turns, flip):
    images, labels = batch(size)
    x, y = apply_geometry(images, labels, geometry(90 * turns, flip))
    for ours, source in ((x, images), (y, labels)):
        expected = torch.rot90(source, turns, (-2, -1))
        assert torch.equal(ours, expected.flip(-2 + flip) if flip >= 0 else expected)


@pytest.mark.parametrize("size", [(16, 32), (48, 16)])
@pytest.mark.parametrize("flip", [-1, 0, 1])
def test_half_turns_of_oblong_samples_are_exact(size, flip):
    images, labels = batch(size)
    x, y = apply_geometry(images, labels, geometry(180, flip))
    for ours, source in ((x, images), (y, labels)):
        expected = torch.rot90(source, 2, (-2, -1))
        assert torch.equal(ours, expected.flip(-2 + flip) if flip >= 0 else expected)


@pytest.mark.parametrize("angle", range(-20, 20))
def test_small_rotations_agree_with_scipy(angle):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 48)), 3)
    label = (smooth > np.median(smooth)).astype(np.uint8)
    ours = apply_geometry(torch.zeros(1, 1, 64, 48), torch.from_numpy(label)[None], geometry(angle))[1][0].numpy()
    theirs = ndimage.rotate(label, angle, reshape=False, order=0, mode="grid-constant")
    assert (ours == theirs).mean() > 0.999


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_image_and_label_stay_aligned_under_every_geometry(size):
    """An image whose pixels hold their own coordinates says where each pixel of the label must have come from."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    coordinates = torch.from_numpy(np.stack([rows + 1, columns + 1]).astype(np.int16)).expand(200, 2, *size)
    labels = torch.from_numpy(((rows * 7 + columns * 3) % 5).astype(np.uint8)).expand(200, *size)
    moved, moved_labels = augment(coordinates, labels, recipe="released", seed=5, epoch=2, samples=np.arange(200))
    y, x = moved[:, 0].long(), moved[:, 1].long()
    outside = y == 0
    assert torch.equal(outside, x == 0)
    assert outside.any()
    expected = ((y - 1) * 7 + (x - 1) * 3) % 5
    assert torch.equal(moved_labels.long(), torch.where(outside, 0, expected))


def test_outside_is_zero_in_image_and_label():
    images, labels = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8), torch.ones(1, 32, 32, dtype=torch.uint8)
    x, y = apply_geometry(images, labels, geometry(20))
    assert set(x.unique().tolist()) == {0, 255}
    assert torch.equal(x[:, 0] == 0, y == 0)
    assert x[0, 0, 0, 0] == 0
    assert x[0, 0, 16, 16] == 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_dtype_is_kept_and_the_source_untouched(dtype):
    images, labels = (tensor.to(dtype) for tensor in batch((16, 16), count=8))
    before = images.clone()
    x, y = augment(images, labels, recipe="released", seed=0, epoch=0, samples=np.arange(8))
    assert x.dtype == y.dtype == dtype
    assert torch.equal(images, before)


def test_a_sample_gets_the_same_in_any_batch():
    images, labels = batch((32, 32), count=32)
    samples = np.arange(100, 132)
    x, y = augment(images, labels, recipe="released", seed=3, epoch=9, samples=samples)
    for row in (0, 7, 31):
        one, part = (
            slice(row, row + 1),
            augment(
                images[row : row + 1], labels[row : row + 1], recipe="released", seed=3, epoch=9, samples=samples[[row]]
            ),
        )
        assert torch.equal(x[one], part[0])
        assert torch.equal(y[one], part[1])


def test_epochs_differ():
    images, labels = batch((32, 32), count=16)
    first, second = (
        augment(images, labels, recipe="released", seed=3, epoch=epoch, samples=np.arange(16))[0] for epoch in (0, 1)
    )
    assert not torch.equal(first, second)


def test_none_changes_nothing():
    images, labels = batch((16, 16), count=4)
    x, y = augment(images, labels, recipe="none", seed=0, epoch=0, samples=np.arange(4))
    assert x is images
    assert y is labels


def test_the_largest_size_does_not_overflow():
    """At 4096 the fixed point comes closest to the end of int32; a sum that wrapped would land inside again."""
    images, labels = torch.zeros(1, 1, 4096, 4096, dtype=torch.uint8), torch.ones(1, 4096, 4096, dtype=torch.uint8)
    _, tilted = apply_geometry(images, labels, geometry(-20))
    corners = tilted[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [0, 0, 0, 0]
    # What a turned square keeps of itself: 1 less four right-angled corner triangles.
    sine, cosine = np.sin(np.deg2rad(20)), np.cos(np.deg2rad(20))
    height = (cosine + sine - 1) / 2
    assert tilted.float().mean().item() == pytest.approx(1 - 4 * height**2 / (2 * sine * cosine), abs=1e-3)


@pytest.mark.parametrize(
    ("angle", "flip", "words"),
    [(0, -1, []), (-7, -1, ["rotated -7°"]), (90, 0, ["rotated +90°", "flipped"]), (0, 1, ["mirrored"])],
)
def test_geometry_says_what_it_does(angle, flip, words):
    assert geometry(angle, flip).describe(0) == words


def test_recipes_are_those_of_the_job_file():
    from typing import get_args

    from udt_cluster.config.job import TrainConfig

    assert set(get_args(TrainConfig.model_fields["augment"].annotation)) == set(RECIPES)
