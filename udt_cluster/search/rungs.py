"""Where trials are compared, and who goes on: pure decisions.

A trial trains its folds and seeds one after the other. Its rungs are some epochs of the first one, and then the end of
each: a fold is a rung. Asynchronous successive halving is that of Li et al. (MLSys 2020), without promotion of trials
that were stopped: nothing is ever paused, so nothing is held. The median rule is that of Golovin et al. (KDD 2017).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from udt_cluster.config.tune import TuneConfig

_FIRST_RUNG = 27
"""The first rung is at this part of the epochs: three halvings by three."""
_LEAST_OTHERS = 4
"""Trials that a median is taken of."""


@dataclass(frozen=True)
class Rungs:
    """The rungs of every trial of a sweep.

    Attributes:
        epochs: Those within the first run, ascending, counted from 1; all before its end.
        runs: Folds and seeds of a trial; the end of each is a rung, after those of `epochs`.
    """

    epochs: tuple[int, ...]
    runs: int

    @classmethod
    def of(cls, tune: TuneConfig, *, epochs: int, runs: int) -> "Rungs":
        """The rungs of a sweep whose runs have at most so many epochs."""
        first = tune.min_epochs or max(1, epochs // _FIRST_RUNG)
        within = []
        while first < epochs:
            within.append(first)
            first *= tune.reduction
        return cls(tuple(within), runs)

    def at_epoch(self, epoch: int) -> int | None:
        """The rung of an epoch of the first run, or None."""
        return self.epochs.index(epoch) if epoch in self.epochs else None

    def at_end_of(self, run: int) -> int:
        """The rung at the end of a run, counted from 0."""
        return len(self.epochs) + run

    @property
    def last(self) -> int:
        """The rung that a trial has reached when it is finished."""
        return self.at_end_of(self.runs - 1)


def goes_on(tune: TuneConfig, value: float, others: Sequence[float]) -> bool:
    """Whether a trial goes on from a rung.

    Args:
        tune: The sweep.
        value: What it is compared by; larger is better.
        others: The values of the other trials at the same rung, of those that were stopped there too.
    """
    if value != value:
        return False
    if tune.scheduler == "asha":
        best = sorted([value, *others], reverse=True)
        return value >= best[max(1, len(best) // tune.reduction) - 1]
    if tune.scheduler == "median" and len(others) >= _LEAST_OTHERS:
        return value >= statistics.median(others)
    return True
