"""The strong recipe: what it may do, what it must leave alone, and that no company changes a bit of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from udt_cluster.data.augment import apply, augment, draw
from udt_cluster.data.augment_geometry import CONTROL_POINTS, Geometry, apply_geometry, warp
from udt_cluster.data.augment_intensity import Intensity, retouched, stained
from udt_cluster.data.augment_random import hashes, normals
from udt_cluster.data.normalization import Normalization

SEED = {"recipe": "strong", "seed": 3, "epoch": 2}


def batch(size, *, count=24, channels=3, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (count, channels, *size), generator=generator).to(dtype)
    return images, torch.randint(0, 4, (count, *size), generator=generator).to(torch.uint8)


def bytes_normalization(channels, context=0):
    return Normalization(
        kind="scale255", low=(0.0,) * channels, high=(255.0,) * channels, shift=(0.0,) * channels,
        scale=(255.0,) * channels,
    ).with_context(context)  # fmt: skip


def still(count=1, **changes) -> Intensity:
    """Nothing, but for what is named."""
    none = {name: np.full(count, neutral) for name, neutral in
            (("blur", 0.0), ("gamma", 1.0), ("contrast", 1.0), ("brightness", 0.0), ("noise", 0.0))}  # fmt: skip
    stain = np.array([[[1.0] * 3, [0.0] * 3]] * count)
    return Intensity(**{"stain": stain, **none, "keys": hashes(0, 0, np.arange(count), 1)[:, 0], **changes})


def unmoved(count=1, **changes) -> Geometry:
    return Geometry(**{"angle": np.zeros(count, np.int64), "flip": np.full(count, -1), **changes})


def touched(images, *, low=0.0, high=255.0, **changes):
    channels = images.shape[1]
    x = images.to(torch.float32).clone()
    return retouched(x, still(len(images), **changes), low=(low,) * channels, high=(high,) * channels)


@pytest.mark.parametrize("size", [(32, 32), (48, 33)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
@pytest.mark.parametrize("context", [0, 1])
def test_a_sample_gets_the_same_bits_in_any_company(size, dtype, context):
    channels = 3 * (2 * context + 1)
    images, labels = batch(size, channels=channels, dtype=dtype)
    samples = np.arange(len(images)) * 7
    normalization = bytes_normalization(3, context)
    drawn = draw("strong", seed=3, epoch=2, samples=samples, size=size).intensity
    for part in (drawn.is_stained, drawn.blur, drawn.gamma - 1, drawn.contrast - 1, drawn.brightness, drawn.noise):
        assert part.any(), "every change must be in the test"
    x, y = augment(images, labels, **SEED, samples=samples, normalization=normalization)
    assert x.dtype == dtype
    parts = [*(slice(row, row + 1) for row in range(len(images))), slice(0, 3), slice(3, 20), slice(5, None)]
    for part in parts:
        alone = augment(images[part], labels[part], **SEED, samples=samples[part], normalization=normalization)
        assert torch.equal(alone[0], x[part])
        assert torch.equal(alone[1], y[part])
    order = np.random.default_rng(1).permutation(len(images))
    mixed = augment(images[order], labels[order], **SEED, samples=samples[order], normalization=normalization)
    assert torch.equal(mixed[0], x[order])


def test_the_number_of_torch_s_threads_changes_nothing():
    images, labels = batch((64, 64), count=16)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(augment(images, labels, **SEED, samples=np.arange(16))[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_epochs_and_seeds_differ():
    images, labels = batch((32, 32))
    same = {"recipe": "strong", "samples": np.arange(24)}
    first = augment(images, labels, seed=3, epoch=2, **same)[0]
    assert torch.equal(augment(images, labels, seed=3, epoch=2, **same)[0], first)
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert (augment(images, labels, **other, **same)[0] != first).flatten(1).any(1).float().mean() > 0.9


def test_rotations_and_flips_are_those_of_the_released_recipe():
    same = {"seed": 1, "epoch": 0, "samples": np.arange(500), "size": (32, 32)}
    strong, released = draw("strong", **same).geometry, draw("released", **same).geometry
    assert np.array_equal(strong.angle, released.angle)
    assert np.array_equal(strong.flip, released.flip)


def test_how_often_and_how_much():
    drawn = draw("strong", seed=1, epoch=0, samples=np.arange(20_000), size=(32, 32))
    geometry, intensity = drawn.geometry, drawn.intensity
    parts = {
        "zoom": (geometry.zoom, 1, 0.4, (0.7, 1.4)),
        "blur": (intensity.blur, 0, 0.2, (0.5, 1.5)),
        "gamma": (intensity.gamma, 1, 0.3, (0.7, 1.5)),
        "contrast": (intensity.contrast, 1, 0.3, (0.75, 1.25)),
        "brightness": (intensity.brightness, 0, 0.3, (-0.1, 0.1)),
        "noise": (intensity.noise, 0, 0.2, (0.01, 0.05)),
    }
    for name, (values, neutral, share, bounds) in parts.items():
        some = values[values != neutral]
        assert len(some) / len(values) == pytest.approx(share, abs=0.015), name
        assert (some.min(), some.max()) == pytest.approx(bounds, abs=0.01), name
        assert some.mean() == pytest.approx(np.mean(bounds), abs=0.01), name
    bent = geometry.elastic.any(axis=(1, 2, 3))
    assert bent.mean() == pytest.approx(0.4, abs=0.015)
    assert np.abs(geometry.elastic).max() <= 0.3 / 4
    assert intensity.is_stained.mean() == pytest.approx(0.5, abs=0.015)
    together = np.corrcoef(np.stack([values != neutral for values, neutral, *_ in parts.values()] + [bent]))
    assert np.abs(together - np.eye(len(together))).max() < 0.03


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_whole_numbers_stay_within_their_dtype_and_labels_get_no_new_value(dtype):
    images, labels = batch((32, 32), count=200, dtype=dtype)
    labels[labels == 2] = 200
    limits = torch.iinfo(dtype)
    extreme = torch.where(images > 128, limits.max, limits.min).to(dtype)
    x, y = augment(extreme, labels, **SEED, samples=np.arange(200))
    assert x.dtype == dtype
    assert (int(x.min()), int(x.max())) == (limits.min, limits.max)
    assert set(y.unique().tolist()) == {0, 1, 3, 200}
    for brightness, end in ((0.4, limits.max), (-0.4, limits.min)):
        change = still(200, brightness=np.full(200, brightness))
        drawn = replace(draw_of(200), geometry=unmoved(200, zoom=np.ones(200)), intensity=change)
        x, _ = apply(extreme, labels, drawn)
        assert (x[extreme == end] == end).all(), "a number that wrapped around would be at the other end"


def test_image_and_label_stay_on_top_of_each_other():
    """A soft blob in the image and its half-height region in the label, under every movement."""
    rows, columns = np.mgrid[:64, :64]
    blob = 255 * np.exp(-((rows - 38) ** 2 / 300 + (columns - 26) ** 2 / 150))
    image = torch.from_numpy(blob.astype(np.float32)).expand(100, 1, 64, 64)
    label = (image[:, 0] > 127).to(torch.uint8)
    drawn = draw("strong", seed=9, epoch=0, samples=np.arange(100), size=(64, 64))
    x, y = apply(image, label, replace(drawn, intensity=still(100)))
    assert (y.flatten(1).sum(1) > 100).all()
    wrong = (x[:, 0] > 127) != (y > 0)
    # The nearest pixel is at most 0.71 away from what is interpolated, and a step of a pixel is at most 18 greys.
    assert (x[:, 0][wrong] - 127).abs().max() < 14
    assert wrong.any()


def test_what_lies_outside_is_zero_whatever_happens_to_the_numbers():
    images, labels = batch((64, 64), count=300, dtype=torch.int16)
    labels += 1
    changes = still(300, brightness=np.full(300, 0.4), noise=np.full(300, 0.05), blur=np.full(300, 1.5))
    drawn = draw("strong", seed=5, epoch=0, samples=np.arange(300), size=(64, 64))
    x, y = apply(images + 500, labels, replace(drawn, intensity=changes))
    assert torch.equal((x == 0).all(1), y == 0)
    assert 0.02 < (y == 0).float().mean() < 0.3
    assert x[x != 0].min() > 400, "no dark rim where the outside begins"


def test_padding_stays_zero_and_moves_along():
    images, labels = batch((64, 64), count=200)
    images[:, :, 40:], images[:, :, :, 50:], labels[:] = 0, 0, 1
    labels[:, 40:], labels[:, :, 50:] = 0, 0
    images[:, :, 10:14, 10:14] = 0  # black, but part of the picture
    drawn = draw("strong", seed=5, epoch=0, samples=np.arange(200), size=(64, 64))
    changes = still(200, brightness=np.full(200, 0.3))
    x, y = apply(images, labels, replace(drawn, intensity=changes))
    assert torch.equal((x == 0).all(1), y == 0)
    unmoved_ones = torch.tensor([drawn.describe(row).startswith("unchanged") for row in range(200)])
    plain, _ = apply(images, labels, replace(drawn, geometry=unmoved(200, zoom=np.ones(200)), intensity=changes))
    assert (plain[:, :, 10:14, 10:14] > 0).all()
    assert unmoved_ones.sum() < 100


def test_zoom_agrees_with_scipy():
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 48)), 3).astype(np.float32)
    image, nothing = torch.from_numpy(smooth)[None, None], torch.zeros(1, 64, 48, dtype=torch.bool)
    for zoom, angle in ((1.3, 0), (0.75, 0), (1.2, 17)):
        geometry = unmoved(zoom=np.array([zoom]), angle=np.array([angle]))
        ours, _, outside = warp(image, torch.zeros(1, 64, 48, dtype=torch.uint8), nothing, geometry)
        turn = np.deg2rad(angle)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / zoom
        centre = (np.array(smooth.shape) - 1) / 2
        theirs = ndimage.affine_transform(smooth, matrix, centre - matrix @ centre, order=1, mode="nearest")
        np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=2e-4)
        assert bool(outside.any()) == (zoom < 1 or angle != 0)


def test_quarter_turns_are_exact_in_the_strong_recipe_too():
    images, labels = batch((32, 32), count=1)
    for turns in range(4):
        geometry = unmoved(angle=np.array([90 * turns]), flip=np.array([1]), zoom=np.ones(1))
        x, y = apply(images, labels, replace(draw_of(1), geometry=geometry))
        assert torch.equal(x, torch.rot90(images, turns, (-2, -1)).flip(-1))
        assert torch.equal(y, apply_geometry(images, labels, geometry)[1])


def draw_of(count):
    return replace(draw("strong", seed=0, epoch=0, samples=np.arange(count), size=(32, 32)), intensity=still(count))


def test_a_deformation_is_smooth_and_never_folds():
    """A ramp shows where each pixel comes from: along each axis the sources must go on and on."""
    size = (64, 80)
    rows, columns = (torch.from_numpy(part.astype(np.float32)) for part in np.mgrid[: size[0], : size[1]])
    ramps = torch.stack([rows, columns]).expand(400, 2, *size)
    drawn = draw("strong", seed=2, epoch=0, samples=np.arange(400), size=size).geometry
    assert drawn.elastic is not None
    geometry = unmoved(400, elastic=drawn.elastic, zoom=np.ones(400))
    none = torch.zeros(400, *size, dtype=torch.bool)
    x, _, outside = warp(ramps, torch.zeros(400, *size, dtype=torch.uint8), none, geometry)
    shift = (x - ramps).abs().amax((1, 2, 3))
    assert 3 < shift.max() < 0.075 * 80
    assert (shift[~drawn.elastic.any(axis=(1, 2, 3))] == 0).all()
    inner = ~(outside[:, 1:, 1:] | outside[:, :-1, 1:] | outside[:, 1:, :-1] | outside[:, :-1, :-1])
    inner &= ((x[:, :, 1:, 1:] > 1) & (x[:, 0] < 62)[:, None, 1:, 1:] & (x[:, 1] < 78)[:, None, 1:, 1:]).all(1)
    down, along = x[:, :, 1:, 1:] - x[:, :, :-1, 1:], x[:, :, 1:, 1:] - x[:, :, 1:, :-1]
    area = down[:, 0] * along[:, 1] - down[:, 1] * along[:, 0]
    assert area[inner].min() > 0.1
    assert area[inner].max() < 2.5


def test_one_control_point_moves_its_surroundings_alone():
    elastic = np.zeros((1, 2, CONTROL_POINTS, CONTROL_POINTS))
    elastic[0, 0, 3, 3] = 0.05
    rows = torch.arange(64, dtype=torch.float32)[:, None].expand(1, 1, 64, 64).contiguous()
    labels, none = torch.zeros(1, 64, 64, dtype=torch.uint8), torch.zeros(1, 64, 64, dtype=torch.bool)
    x, _, _ = warp(rows, labels, none, unmoved(elastic=elastic))
    shift = (x - rows)[0, 0].numpy()
    assert shift[31, 31] == pytest.approx(0.05 * 64 * (2 / 3) ** 2, rel=0.02)  # a cubic B-spline's middle is 2/3
    assert (shift[:, 63] == 0).all()
    assert (shift[0] == 0).all()


def test_blur_agrees_with_scipy():
    images, _ = batch((40, 30), count=3)
    for sigma in (0.5, 1.5):
        ours = touched(images, blur=np.array([0.0, sigma, sigma]))
        assert torch.equal(ours[0], images[0].float())
        for image, blurred in zip(images[1:].numpy(), ours[1:].numpy(), strict=True):
            theirs = ndimage.gaussian_filter(image.astype(np.float64), (0, sigma, sigma), mode="nearest", radius=4)
            np.testing.assert_allclose(blurred, theirs, atol=1e-3)


def test_gamma_contrast_and_brightness_are_what_they_say():
    levels = torch.arange(0, 256, dtype=torch.float32).view(1, 1, 16, 16)
    unit = levels / 255
    gamma = touched(levels, gamma=np.array([1.4]))
    assert torch.allclose(gamma, 255 * unit**1.4, atol=0.1)
    contrast = touched(levels, contrast=np.array([0.8]))
    assert torch.allclose(contrast, (levels - 127.5) * 0.8 + 127.5, atol=0.01)
    brightness = touched(levels, brightness=np.array([0.1]))
    assert torch.allclose(brightness, levels + 25.5, atol=0.01)


def test_beyond_the_value_range_numbers_go_on_evenly():
    """A CT's air and metal lie far outside a window of soft tissue."""
    levels = torch.tensor([-1000.0, -125, 75, 275, 3000]).view(1, 1, 1, 5)
    out = touched(levels, low=-125.0, high=275.0, brightness=np.array([0.05]), gamma=np.array([0.8]))
    assert out.flatten().tolist() == pytest.approx([-980, -105, 400 * 0.5**0.8 - 105, 295, 3020], abs=0.05)


def test_changes_are_relative_to_the_normalisation_s_range():
    images, labels = batch((16, 16), count=1, channels=1, dtype=torch.int16)
    window = Normalization(kind="ct_window", low=(-125.0,), high=(275.0,), shift=(-125.0,), scale=(400.0,))
    drawn = replace(draw_of(1), geometry=unmoved(zoom=np.ones(1)), intensity=still(1, brightness=np.array([0.1])))
    x, _ = apply(images, labels, drawn, normalization=window)
    assert torch.equal(x, images + 40)


def test_noise_is_normal_and_independent():
    keys = hashes(3, 1, np.arange(50), 1)[:, 0]
    noise = normals(keys, (2, 64, 64), torch.device("cpu"))
    assert torch.equal(normals(keys[7:9], (2, 64, 64), torch.device("cpu")), noise[7:9])
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    flat = noise.flatten(1).numpy().astype(np.float64)
    assert stats.kurtosis(flat.ravel()) == pytest.approx(-0.3, abs=0.02)  # of the sum of four uniform numbers
    assert np.abs(np.corrcoef(flat) - np.eye(50)).max() < 0.06
    assert abs(np.corrcoef(flat[:, 1:].ravel(), flat[:, :-1].ravel())[0, 1]) < 0.01
    grey = torch.full((2, 1, 64, 64), 100.0)
    assert (touched(grey, noise=np.array([0.0, 0.04]))[1] - 100).std().item() == pytest.approx(255 * 0.04, rel=0.05)


def stain_change(factors, offsets):
    return still(1, stain=np.array([[factors, offsets]], np.float64))


def test_a_stain_of_one_and_nothing_is_the_picture_itself():
    images, _ = batch((16, 16), count=1)
    assert torch.equal(stained(images, stain_change((1, 1, 1), (0, 0, 0))), images.float())
    same = stained(images, stain_change((1, 1, 1 + 1e-9), (0, 0, 0)))
    assert torch.allclose(same, images.float(), atol=2e-3)


def test_more_haematoxylin_is_more_of_its_colour():
    """Pure haematoxylin of density d becomes pure haematoxylin of density 1.2 d; eosin stays."""
    haematoxylin, eosin = (np.array(v) / np.linalg.norm(v) for v in ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)))
    for vector, factor in ((haematoxylin, 1.2), (eosin, 1.0)):
        densities = np.array([0.1, 0.5, 0.9])[:, None] * vector
        pixels = torch.from_numpy(np.rint(256 * 10**-densities - 1).T.reshape(1, 3, 1, 3).astype(np.uint8))
        out = stained(pixels, stain_change((1.2, 1, 1), (0, 0, 0)))[0, :, 0].numpy().T
        np.testing.assert_allclose(out, 256 * 10 ** (-densities * factor) - 1, atol=1.5)


def test_stains_change_in_colour_pictures_alone():
    labels = torch.ones(8, 16, 16, dtype=torch.uint8)
    change = still(8, stain=np.array([[[1.2, 0.8, 1], [0.02, 0, 0]]] * 8))
    drawn = replace(draw_of(8), geometry=unmoved(8, zoom=np.ones(8)), intensity=change)
    colour, _ = batch((16, 16), count=8)
    assert not torch.equal(apply(colour, labels, drawn)[0], colour)
    grey_slices = apply(colour, labels, drawn, normalization=bytes_normalization(1, context=1))[0]
    assert torch.equal(grey_slices, colour), "three grey slices are not red, green and blue"
    nine = colour.repeat(1, 3, 1, 1)
    alike = apply(nine, labels, drawn, normalization=bytes_normalization(3, context=1))[0]
    assert torch.equal(alike, apply(colour, labels, drawn)[0].repeat(1, 3, 1, 1))
    other = batch((16, 16), count=8, dtype=torch.int16)[0]
    assert torch.equal(apply(other, labels, drawn)[0], other)


def test_a_sample_says_what_happens_to_it():
    drawn = draw("strong", seed=0, epoch=0, samples=np.arange(400), size=(32, 32))
    words = {word.split()[0] for row in range(400) for word in drawn.describe(row, colour=True).split(", ")}
    assert words == {
        "unchanged", "rotated", "flipped", "mirrored", "zoom", "elastic", "stain", "blur", "gamma", "contrast",
        "brightness", "noise",
    }  # fmt: skip
    assert "stain" not in " ".join(drawn.describe(row) for row in range(400))
