"""Losses of the released recipe (the spec's section 3), on logits, computed in float32 whatever the autocast.

Every loss is ``(logits, labels) -> {"loss": total, "loss_<part>": part, ...}`` with logits (B,K,H,W), labels int64
(B,H,W) and scalars out. A network for two classes has K = 1, the logit of the foreground.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from udt_cluster.errors import RefusedError
from udt_cluster.training.protocols import LossFunction

SMOOTH = 1e-5


def loss_function(name: str | None, *, num_classes: int) -> LossFunction:
    """The loss of a job.

    Args:
        name: ``dice_bce``, ``dice_ce`` or ``ce``; None chooses ``dice_bce`` for one foreground class, else ``dice_ce``.
        num_classes: Classes with the background.

    Raises:
        RefusedError: ``dice_bce`` for more than one foreground class.
    """
    chosen = name or ("dice_bce" if num_classes == 2 else "dice_ce")
    if chosen == "dice_bce" and num_classes != 2:
        raise RefusedError(
            f"train.loss: dice_bce knows one foreground class, the data has {num_classes - 1}; "
            "use dice_ce or ce, or leave it out"
        )
    return {"dice_bce": dice_bce, "dice_ce": dice_ce, "ce": ce}[chosen]


def dice_bce(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Dice + class-balanced binary cross entropy, 1 : 1, for one logit channel.

    Dice per image: ``1 - (2 sum(py) + s) / (sum(p^2) + sum(y^2) + s)``, averaged over the images, s = 1e-5.
    BCE over the batch: half the mean over foreground pixels plus half the mean over background pixels; a batch
    without one of the two lacks that half.
    """
    z, y = logits.float().squeeze(1), labels.float()
    dice = _dice_loss(torch.sigmoid(z), y, over=(1, 2)).mean()
    pixelwise = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    positives = y.sum()
    of_positives = (pixelwise * y).sum() / positives.clamp(min=1)
    of_negatives = (pixelwise * (1 - y)).sum() / (y.numel() - positives).clamp(min=1)
    bce = 0.5 * of_positives + 0.5 * of_negatives
    return {"loss": dice + bce, "loss_dice": dice, "loss_bce": bce}


def dice_ce(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """0.5 cross entropy + 0.5 Dice over softmax probabilities.

    Dice per class with a squared denominator over the pixels of the whole batch, averaged over all classes, the
    background included.
    """
    z = _all_classes(logits.float())
    y_BKHW = F.one_hot(labels, z.shape[1]).movedim(-1, 1).float()
    dice = _dice_loss(torch.softmax(z, dim=1), y_BKHW, over=(0, 2, 3)).mean()
    cross_entropy = F.cross_entropy(z, labels)
    return {"loss": 0.5 * cross_entropy + 0.5 * dice, "loss_dice": dice, "loss_ce": cross_entropy}


def ce(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross entropy, the mean over all pixels."""
    cross_entropy = F.cross_entropy(_all_classes(logits.float()), labels)
    return {"loss": cross_entropy, "loss_ce": cross_entropy}


def _dice_loss(p: Tensor, y: Tensor, *, over: tuple[int, ...]) -> Tensor:
    overlap = (p * y).sum(over)
    return 1 - (2 * overlap + SMOOTH) / (p.square().sum(over) + y.square().sum(over) + SMOOTH)


def _all_classes(logits: Tensor) -> Tensor:
    """One logit z is the softmax over (0, z)."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
