"""Windows, stains and neighbouring slices: what a pixel becomes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from udt_cluster.config.data import DataConfig
from udt_cluster.data import Normalization, normalization_for
from udt_cluster.data.augment import augment
from udt_cluster.data.schema import Fingerprint
from udt_cluster.data.stain import TARGET_DEVIATIONS, TARGET_MEANS, colour_statistics, normalize_stain
from udt_cluster.errors import DataError


def fingerprint(channels=1, lowest=-1024.0, highest=1800.0):
    one = (1.0,) * channels
    return Fingerprint(
        mean=one, std=one, minimum=(lowest,) * channels, maximum=(highest,) * channels, percentile_00_5=one,
        percentile_99_5=one, class_fractions=(0.9, 0.1), num_samples=4, num_cases=2,
    )  # fmt: skip


def info(channels=1, dtype="int16", **ranges):
    return SimpleNamespace(fingerprint=fingerprint(channels, **ranges), dtype=dtype, channels=channels)


def config(**settings):
    return DataConfig(**{"source": "/nowhere", "adapter": "nifti", "group_by": "case", **settings})


def test_ct_window_golden():
    normalize = Normalization.from_fingerprint("ct_window", fingerprint(), "int16", (-125.0, 275.0))
    raw = torch.tensor([[[[-1024, -125, -124, 0], [75, 175, 275, 1800]]]], dtype=torch.int16)
    expected = torch.tensor([[[[0.0, 0.0, 0.0025, 0.3125], [0.5, 0.75, 1.0, 1.0]]]])
    assert torch.equal(normalize(raw), expected)
    assert normalize.value_range == ((-125.0,), (275.0,))


def test_synapse_has_its_window_and_others_must_name_theirs():
    synapse = normalization_for(config(adapter="synapse", normalize="ct_window"), info())
    assert (synapse.low, synapse.high) == ((-125.0,), (275.0,))
    own = normalization_for(config(adapter="synapse", normalize="ct_window", window=(-160, 240)), info())
    assert (own.low, own.high) == ((-160.0,), (240.0,))
    lung = normalization_for(config(normalize="ct_window", window=(-1000, 400)), info())
    assert lung(torch.tensor([[[[-300.0]]]])).item() == pytest.approx(0.5)
    with pytest.raises(DataError, match=r"needs data\.window"):
        Normalization.from_fingerprint("ct_window", fingerprint(), "int16")


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (-3000.0, -200.0), (300.0, 4000.0)])
def test_a_window_that_leaves_nothing_of_the_images_is_refused(lowest, highest):
    """The published Synapse slices are windowed to 0..1 already: another window would turn them all grey."""
    asked = config(adapter="synapse", normalize="ct_window")
    with pytest.raises(DataError, match=r"leaves nothing of these images.*use normalize: auto"):
        normalization_for(asked, info(lowest=lowest, highest=highest))
    normalization_for(asked, info(lowest=-125.0, highest=-100.0))


def test_context_repeats_the_constants_of_every_channel():
    plain = replace(
        Normalization.from_fingerprint("zscore", fingerprint(2), "float32"), shift=(10.0, 20.0), scale=(2.0, 4.0)
    )
    wide = plain.with_context(1)
    assert wide.shift == (10.0, 20.0) * 3
    assert wide.context_slices == 1
    assert wide.with_context(1) == wide
    assert wide.with_context(2) == plain.with_context(2)
    assert wide.with_context(0) == plain
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(wide(torch.cat([x, x, x], 1)), torch.cat([plain(x)] * 3, 1))
    made = normalization_for(config(context_slices=3), info(2, "float32"))
    assert len(made.scale) == 14
    with pytest.raises(ValueError, match="0 or more"):
        plain.with_context(-1)


def test_the_range_that_matters_has_ends_without_bounds_too():
    scale = replace(Normalization.from_fingerprint("zscore", fingerprint(), "float32"), shift=(100.0,), scale=(20.0,))
    assert scale.value_range == ((50.0,), (150.0,))
    constant = replace(scale, kind="percentile", low=(3.0,), high=(3.0,))
    assert constant.value_range == ((3.0,), (4.0,))


@pytest.mark.parametrize("kind", ["scale255", "ct_window", "stain"])
def test_every_kind_survives_json_and_old_dictionaries_are_read(kind):
    made = Normalization.from_fingerprint(kind, fingerprint(3, 0.0, 255.0), "uint8", (10.0, 200.0)).with_context(1)
    assert Normalization.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made
    old = made.with_context(0).to_dict()
    del old["context_slices"]
    assert Normalization.from_dict(old) == made.with_context(0)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "float32"), (3, "uint16")])
def test_stains_are_for_colour_pictures(channels, dtype):
    with pytest.raises(DataError, match=f"8-bit red, green, blue pictures; these have {channels} channels of {dtype}"):
        normalization_for(config(normalize="stain"), info(channels, dtype))


STAIN = Normalization.from_fingerprint("stain", fingerprint(3, 0.0, 255.0), "uint8")


def tissue(seed=0, *, amounts=(1.0, 1.0), size=64):
    """A picture of two stains with smooth amounts; the same `seed` is the same tissue."""
    generator = np.random.default_rng(seed)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(generator.random((1, 2, 8, 8))), size=(size, size), mode="bicubic"
    )[0].clamp(0.02, 1).numpy()  # fmt: skip
    vectors = np.array([(0.65, 0.70, 0.29), (0.07, 0.99, 0.11)])
    density = np.einsum("shw,sc->chw", smooth * np.array(amounts)[:, None, None], vectors)
    return torch.from_numpy(np.clip(np.rint(255 * 10**-density), 1, 255).astype(np.uint8))


def test_two_stainings_of_one_tissue_come_closer():
    for seed in range(3):
        pale, deep = tissue(seed, amounts=(0.5, 0.4)), tissue(seed, amounts=(1.1, 0.7))
        before = (pale.float() - deep.float()).abs().mean().item() / 255
        pair = STAIN(torch.stack([pale, deep]))
        after = (pair[0] - pair[1]).abs().mean().item()
        assert before > 0.15
        assert after < before / 5
        other = STAIN(tissue(seed + 10)[None])[0]
        assert (pair[0] - other).abs().mean().item() > 3 * after, "tissues must stay different"


def test_means_and_deviations_are_the_target_s():
    for seed, amounts in ((0, (0.5, 0.4)), (1, (1.0, 0.8))):
        normalized = STAIN(tissue(seed, amounts=amounts)[None])[0]
        assert normalized.dtype == torch.float32
        assert 0 <= normalized.min() < normalized.max() <= 1
        means, deviations = colour_statistics(normalized * 255)
        assert means == pytest.approx(TARGET_MEANS, abs=0.02)
        assert deviations == pytest.approx(TARGET_DEVIATIONS, rel=0.15)


def reinhard(picture):
    """The paper's formulas as they stand, in double precision."""
    to_lms = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    rotate = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
    lab = rotate @ np.log10(to_lms @ ((picture.reshape(3, -1) + 1.0) / 256))
    mean, deviation = lab.mean(1, keepdims=True), lab.std(1, keepdims=True)
    lab = (lab - mean) / deviation * np.array(TARGET_DEVIATIONS)[:, None] + np.array(TARGET_MEANS)[:, None]
    rgb = np.linalg.inv(to_lms) @ 10 ** (np.linalg.inv(rotate) @ lab)
    return np.clip((256 * rgb - 1) / 255, 0, 1).reshape(picture.shape)


def test_tables_agree_with_the_formulas():
    for seed in range(3):
        picture = tissue(seed, amounts=(0.7, 0.6))
        expected = reinhard(picture.numpy())
        np.testing.assert_allclose(STAIN(picture[None])[0].numpy(), expected, atol=0.004)


def test_black_outside_counts_for_nothing_and_stays_black():
    picture = tissue()
    padded = torch.zeros(3, 96, 80, dtype=torch.uint8)
    padded[:, :64, :64] = picture
    out = STAIN(padded[None])[0]
    assert torch.equal(out[:, :64, :64], STAIN(picture[None])[0])
    assert (out[:, 64:] == 0).all()
    assert (out[:, :, 64:] == 0).all()
    assert (STAIN(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)) == 0).all()


def test_a_picture_of_one_colour_does_not_become_noise():
    glass = torch.full((1, 3, 32, 32), 240, dtype=torch.uint8)
    assert STAIN(glass).flatten(2).std(2).max() == 0
    generator = torch.Generator().manual_seed(0)
    dusty = glass + torch.randint(-1, 2, glass.shape, generator=generator).to(torch.uint8)
    assert STAIN(dusty).flatten(2).std(2).max() < 0.05


def test_no_company_and_no_number_of_threads_changes_a_bit():
    pictures = torch.stack([tissue(seed, size=48) for seed in range(7)])
    whole = STAIN(pictures)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for part in (slice(0, 1), slice(1, 4), slice(4, 7)):
                assert torch.equal(STAIN(pictures[part]), whole[part])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(STAIN(pictures.float()), whole)


def test_neighbouring_slices_are_pictures_of_their_own():
    a, b, c = (tissue(seed)[None] for seed in range(3))
    together = STAIN.with_context(1)(torch.cat([a, b, c], 1))
    assert torch.equal(together, torch.cat([STAIN(a), STAIN(b), STAIN(c)], 1))


def test_what_augmentation_turned_in_is_left_out():
    pictures, labels = torch.stack([tissue(seed) for seed in range(16)]), torch.ones(16, 64, 64, dtype=torch.uint8)
    moved, inside = augment(
        pictures, labels, recipe="strong", seed=1, epoch=0, samples=np.arange(16), normalization=STAIN
    )
    out = normalize_stain(moved)
    outside = inside == 0
    assert outside.any()
    assert (out.amax(1)[outside] == 0).all()
