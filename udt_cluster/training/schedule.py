"""Learning rates as pure functions of the epoch, so that a resumed run needs no scheduler state."""

import math
from typing import Literal

Schedule = Literal["warm_restarts", "cosine", "constant"]


def learning_rate(schedule: Schedule, epoch: int, *, base: float, epochs: int) -> float:
    """The learning rate of one epoch.

    Args:
        schedule: ``warm_restarts`` (the released recipe), ``cosine`` (once over all epochs) or ``constant``.
        epoch: The epoch about to begin, counted from 0.
        base: Rate at the start of a cycle.
        epochs: Epochs of the whole run; only ``cosine`` looks at it.
    """
    if schedule == "constant":
        return base
    if schedule == "cosine":
        return _half_cosine(base, epoch / epochs)
    return warm_restarts(epoch, base=base)


def warm_restarts(epoch: int, *, base: float, first_cycle: int = 2, factor: int = 2) -> float:
    """Cosine annealing to 0 with restarts (SGDR, https://arxiv.org/abs/1608.03983): cycles of 2, 4, 8, ... epochs."""
    start, length = 0, first_cycle
    while epoch >= start + length:
        start, length = start + length, length * factor
    return _half_cosine(base, (epoch - start) / length)


def _half_cosine(base: float, progress: float) -> float:
    return base * (1 + math.cos(math.pi * progress)) / 2
