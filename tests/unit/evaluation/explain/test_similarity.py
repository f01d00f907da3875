"""CKA from sums against the definition with whole Gram matrices, and what it must not depend on."""

import math

import pytest
import torch
from torch import Tensor

from udt_cluster.evaluation.explain.similarity import CKASums, HSICSums


def features(n: int, width: int, *, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def hsic_by_definition(x: Tensor, y: Tensor) -> float:
    """Song et al. 2012, equation 5, word for word, with n x n matrices."""
    n, k, m = len(x), x @ x.T, y @ y.T
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    one = torch.ones(n, dtype=x.dtype)
    total = (
        torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
    )
    return float(total / (n * (n - 3)))


def as_map(x: Tensor) -> Tensor:
    """(n, C) as one image of n places in a row."""
    return x.T[None, :, None]


def cka(x: Tensor, y: Tensor) -> float:
    return CKASums.of(as_map(x), as_map(y)).value()


@pytest.mark.parametrize(("n", "widths"), [(4, (1, 1)), (7, (3, 5)), (40, (6, 2)), (9, (20, 30))])
def test_hsic_is_that_of_the_definition(n: int, widths: tuple[int, int]) -> None:
    x, y = features(n, widths[0], seed=1, shift=0.7), features(n, widths[1], seed=2, shift=-2.0)
    y[:, 0] += 3 * x[:, 0]
    assert HSICSums.of(x, y).hsic() == pytest.approx(hsic_by_definition(x, y), rel=1e-9)


def test_cka_is_that_of_the_definition() -> None:
    x = features(30, 4, seed=3)
    y = x @ features(4, 6, seed=4) + features(30, 6, seed=5)
    wanted = hsic_by_definition(x, y) / math.sqrt(hsic_by_definition(x, x) * hsic_by_definition(y, y))
    assert cka(x, y) == pytest.approx(wanted, rel=1e-9)
    assert 0.1 < wanted < 0.99


def test_cka_of_a_feature_with_itself_is_one_whatever_its_rotation_scale_and_offset() -> None:
    x = features(50, 5, seed=6)
    rotation = torch.linalg.qr(features(5, 5, seed=7)).Q
    assert cka(x, x) == pytest.approx(1)
    assert cka(x, -3.5 * x @ rotation + 4) == pytest.approx(1)


def test_cka_does_not_change_under_rotation_scale_and_offset_of_either_side() -> None:
    x = features(60, 5, seed=8)
    y = torch.relu(x @ features(5, 7, seed=9)) + 0.3 * features(60, 7, seed=10)
    rotated = y @ torch.linalg.qr(features(7, 7, seed=11)).Q
    assert cka(7 * x - 2, rotated / 9) == pytest.approx(cka(x, y), rel=1e-9)
    assert cka(y, x) == pytest.approx(cka(x, y), rel=1e-12)


def test_another_linear_map_than_a_rotation_changes_it() -> None:
    x = features(60, 5, seed=8)
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1], dtype=x.dtype)
    assert cka(x, stretched) < 0.9


def test_unrelated_features_have_none_on_average_even_with_more_channels_than_places() -> None:
    """The biased estimator would say about 0.9 here."""
    values = [cka(features(16, 64, seed=2 * i), features(16, 64, seed=2 * i + 1)) for i in range(60)]
    assert abs(sum(values) / len(values)) < 0.05


def test_batches_add_up_to_the_whole() -> None:
    draw = torch.Generator().manual_seed(12)
    x, y = torch.rand(6, 3, 4, 5, generator=draw), torch.rand(6, 8, 4, 5, generator=draw)
    parts = [CKASums.of(x[a:b], y[a:b]) for a, b in ((0, 1), (1, 2), (2, 6))]
    assert (parts[0] + parts[1] + parts[2]).value() == pytest.approx(CKASums.of(x, y).value(), rel=1e-10)


def test_sums_take_no_more_memory_for_more_images() -> None:
    small, large = (CKASums.of(torch.rand(n, 3, 4, 4), torch.rand(n, 5, 4, 4)) for n in (1, 50))
    assert [t.shape for t in vars(small.xy).values()] == [t.shape for t in vars(large.xy).values()]


@pytest.mark.parametrize("value", [0.0, 5.0, 1e4])
def test_a_constant_feature_has_no_similarity(value: float) -> None:
    assert math.isnan(cka(features(20, 3, seed=1), torch.full((20, 4), value, dtype=torch.float64)))
    assert math.isnan(cka(torch.full((20, 4), value, dtype=torch.float64), features(20, 3, seed=1)))


def test_three_places_are_too_few() -> None:
    assert math.isnan(cka(features(3, 2, seed=1), features(3, 2, seed=2)))
    assert math.isfinite(cka(features(4, 2, seed=1), features(4, 2, seed=1)))
