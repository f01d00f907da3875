"""Losses against the formulas written out by hand, in numpy and float64."""

import numpy as np
import pytest
import torch

from udt_cluster.errors import RefusedError
from udt_cluster.training.losses import SMOOTH, ce, dice_bce, dice_ce, loss_function


def _dice(p: np.ndarray, y: np.ndarray) -> float:
    return float(1 - (2 * (p * y).sum() + SMOOTH) / ((p**2).sum() + (y**2).sum() + SMOOTH))


def test_dice_bce_is_dice_per_image_and_bce_balanced_over_the_batch() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, 1, 5, 7, generator=generator)
    labels = (torch.rand(3, 5, 7, generator=generator) > 0.8).long()
    p, y = torch.sigmoid(logits[:, 0].double()).numpy(), labels.numpy().astype(float)
    dice = np.mean([_dice(p[i], y[i]) for i in range(3)])
    bce = 0.5 * np.mean(-np.log(p[y == 1])) + 0.5 * np.mean(-np.log(1 - p[y == 0]))
    losses = dice_bce(logits, labels)
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-5)
    assert losses["loss_bce"].item() == pytest.approx(bce, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(dice + bce, rel=1e-5)


def test_dice_ce_is_over_the_batch_with_the_background() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 4), generator=generator)
    p = torch.softmax(logits.double(), dim=1).numpy()
    dice = np.mean([_dice(p[:, k], (labels.numpy() == k).astype(float)) for k in range(3)])
    chosen = np.take_along_axis(p, labels.numpy()[:, None], axis=1)
    losses = dice_ce(logits, labels)
    assert losses["loss_dice"].item() == pytest.approx(dice, rel=1e-5)
    assert losses["loss_ce"].item() == pytest.approx(np.mean(-np.log(chosen)), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(0.5 * dice + 0.5 * np.mean(-np.log(chosen)), rel=1e-5)


def test_one_logit_is_a_softmax_over_two() -> None:
    logits, labels = torch.randn(2, 1, 6, 6), torch.randint(0, 2, (2, 6, 6))
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    for loss in (dice_ce, ce):
        for name, value in loss(logits, labels).items():
            assert value.item() == pytest.approx(loss(two, labels)[name].item(), rel=1e-6)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("loss", [dice_bce, dice_ce, ce])
def test_a_batch_without_one_of_the_classes_has_a_finite_loss_and_gradient(loss, value) -> None:
    logits = torch.tensor([-80.0, 80.0]).repeat(8).view(1, 1, 4, 4).requires_grad_()
    losses = loss(logits, torch.full((1, 4, 4), value))
    losses["loss"].backward()
    assert all(torch.isfinite(part) for part in losses.values())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_bce_does_not_depend_on_how_rare_the_foreground_is() -> None:
    logits = torch.zeros(1, 1, 10, 10)
    for pixels in (1, 50, 99):
        labels = (torch.arange(100) < pixels).long().view(1, 10, 10)
        assert dice_bce(logits, labels)["loss_bce"].item() == pytest.approx(np.log(2), rel=1e-6)


def test_bfloat16_logits_are_lifted_before_anything_is_summed() -> None:
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    labels = torch.randint(0, 2, (2, 64, 64))
    assert dice_bce(logits, labels)["loss"].dtype == torch.float32
    assert torch.equal(dice_bce(logits, labels)["loss"], dice_bce(logits.float(), labels)["loss"])


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [(None, 2, dice_bce), (None, 4, dice_ce), ("ce", 2, ce), ("dice_ce", 2, dice_ce), ("dice_bce", 2, dice_bce)],
)
def test_choice(name, num_classes, expected) -> None:
    assert loss_function(name, num_classes=num_classes) is expected


def test_dice_bce_of_several_classes_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"one foreground class, the data has 3; use dice_ce or ce"):
        loss_function("dice_bce", num_classes=4)
