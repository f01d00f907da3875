"""The fingerprint against NumPy, put together in any way."""

from itertools import pairwise

import numpy as np
import pytest

from data_prep.distinct import distinct, replaced
from data_prep.statistics import Histogram, fingerprint, measure

RNG = np.random.default_rng(3)
KINDS = {
    "uint8": RNG.integers(0, 256, (9, 2, 20, 30)).astype(np.uint8),
    "int16": (RNG.normal(0, 900, (9, 2, 20, 30)) - 500).astype(np.int16),
    "uint16": RNG.integers(0, 65536, (9, 2, 20, 30)).astype(np.uint16),
    "float32": RNG.normal(-0.2, 3, (9, 2, 20, 30)).astype(np.float32),
    "unit": RNG.random((9, 2, 20, 30), dtype=np.float32),
}
LABELS = RNG.integers(0, 3, (9, 20, 30)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(9,), (1, 8), (3, 3, 3)])
def test_fingerprint_is_numpys(kind: str, cuts: tuple[int, ...]) -> None:
    images = KINDS[kind]
    ends = np.cumsum((0, *cuts))
    parts = [measure(images[a:b], LABELS[a:b], num_classes=4) for a, b in pairwise(ends)]
    found = fingerprint(parts, num_samples=9, num_cases=len(cuts))
    for channel in range(2):
        values = images[:, channel].astype(np.float64)
        assert found.mean[channel] == pytest.approx(values.mean(), rel=1e-12)
        assert found.std[channel] == pytest.approx(values.std(), rel=1e-12)
        assert found.minimum[channel] == values.min()
        assert found.maximum[channel] == values.max()
        exact = kind not in ("float32", "unit")
        for name, percent in (("percentile_00_5", 0.5), ("percentile_99_5", 99.5)):
            expected = np.percentile(values, percent)
            assert getattr(found, name)[channel] == pytest.approx(expected, rel=1e-12 if exact else 5e-4)
    assert found.class_fractions == pytest.approx([*np.bincount(LABELS.ravel()) / LABELS.size, 0])


def test_integers_and_floats_can_be_mixed() -> None:
    merged = Histogram.of(np.array([1, 2, 200], np.uint8)).merged(Histogram.of(np.array([0.5, -3.0], np.float32)))
    assert merged.counts.sum() == 5
    for percent, value in ((0, -3.0), (25, 0.5), (50, 1.0), (75, 2.0), (100, 200.0)):
        assert merged.percentile(percent) == pytest.approx(value, rel=5e-4)


def test_zero_is_zero() -> None:
    assert Histogram.of(np.array([0.0, -0.0, 0.0], np.float32)).percentile(50) == 0.0


@pytest.mark.parametrize("values", [*KINDS.values(), np.array([[3, 3], [-70000, 5]])])
def test_counting_agrees_with_sorting(values: np.ndarray) -> None:
    found, counts = distinct(values)
    expected, expected_counts = np.unique(values, return_counts=True)
    assert np.array_equal(found, expected)
    assert np.array_equal(counts, expected_counts)
    names = (np.arange(len(found)) % 251).astype(np.uint8)
    assert np.array_equal(replaced(values, found, names), names[np.searchsorted(expected, values)])
