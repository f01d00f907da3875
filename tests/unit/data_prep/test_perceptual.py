"""Perceptual hashes: near duplicates have nearly all bits in common, other images do not."""

import numpy as np
import torch

from data_prep.perceptual import perceptual_hashes


def distance(a: np.uint64, b: np.uint64) -> int:
    """Bits that differ."""
    return int(a ^ b).bit_count()


def pictures(count: int, side: int = 96) -> np.ndarray:
    """Smooth pictures (count, 3, side, side) uint8."""
    rng = np.random.default_rng(4)
    coarse = torch.from_numpy(rng.random((count, 3, 12, 12)))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    return np.clip(smooth.numpy() * 255, 0, 255).astype(np.uint8)


def test_the_same_picture_worked_on_is_near_and_another_is_far() -> None:
    images = pictures(40)
    hashes = perceptual_hashes(images)
    assert hashes.dtype == np.uint64
    noisy = np.clip(images + np.random.default_rng(1).normal(0, 3, images.shape), 0, 255).astype(np.uint8)
    dimmer = (images * 0.6 + 20).astype(np.uint8)
    larger = images.repeat(2, axis=2).repeat(3, axis=3).astype(np.float32)
    for changed in (noisy, dimmer, larger):
        assert max(distance(a, b) for a, b in zip(hashes, perceptual_hashes(changed), strict=True)) <= 4
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 8


def test_a_bit_says_whether_a_row_gets_brighter() -> None:
    rising = np.tile(np.arange(90, dtype=np.int16) - 45, (1, 1, 64, 1))
    assert perceptual_hashes(np.concatenate([rising, -rising])).tolist() == [2**64 - 1, 0]
    rising[:, :, :8] = 0
    assert perceptual_hashes(rising).tolist() == [2**64 - 2**8]


def test_what_is_flat_has_no_bits_of_rounding() -> None:
    flat = np.full((2, 3, 50, 70), 0.1, np.float32)
    assert perceptual_hashes(flat).tolist() == [0, 0]
    half = flat[:1].copy()
    half[..., 63:] = 0.9
    assert int(perceptual_hashes(half)[0]).bit_count() == 8, "one edge in each row"
