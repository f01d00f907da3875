"""Which channels of a skip are used: how far DRA's gate opens, what passes, and what attention takes."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activity:
    """Sums over places of one feature, by channel: (C,) float64 each.

    Attributes:
        places: How many places there were.
        total: Sum of the values.
        active: Places where the value is above 0.
    """

    places: int
    total: Tensor
    active: Tensor

    @classmethod
    def of(cls, feature_BCHW: Tensor) -> Self:
        """Sums of one batch."""
        wide = feature_BCHW.to(torch.float64)
        count = wide.shape[0] * wide.shape[2] * wide.shape[3]
        return cls(count, wide.sum((0, 2, 3)), (wide > 0).sum((0, 2, 3)).to(torch.float64))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.places + other.places, self.total + other.total, self.active + other.active)

    @property
    def mean(self) -> list[float]:
        """Mean value of each channel."""
        return [float(value) for value in self.total / self.places]

    @property
    def active_share(self) -> list[float]:
        """Share of places where each channel is above 0."""
        return [float(value) for value in self.active / self.places]


@dataclass(frozen=True, kw_only=True)
class ChannelUse:
    """One channel of one skip, over all cases.

    Attributes:
        level: Of the skip.
        kind: Of the skip.
        channel: From 0.
        skip_mean: Mean of what the skip puts out.
        skip_active: Share of places where that is above 0; 0 is a dead channel, which the decoder never hears of.
        gate_mean: Mean of DRA's gate; None for other skips, so gate_active.
        gate_active: Share of places where the gate is open.
        received: Of DRA-C, the mean weight that all channels give to this one's value, times their number: 1 is what
            it would get if attention made no choice. None for other skips.
    """

    level: int
    kind: str
    channel: int
    skip_mean: float
    skip_active: float
    gate_mean: float | None
    gate_active: float | None
    received: float | None


def channel_table(
    *, level: int, kind: str, skip: Activity, gate: Activity | None, weights: Tensor | None
) -> list[ChannelUse]:
    """The rows of one level.

    Args:
        level: Of the skip.
        kind: Of the skip.
        skip: Of what it puts out.
        gate: Of DRA's gate.
        weights: DRA-C's mean attention, (C, C); what a row takes of each column.
    """
    received = [None] * len(skip.total) if weights is None else (weights.mean(0) * len(weights)).tolist()
    gates: list[Any] = [(None, None)] * len(skip.total)
    if gate is not None:
        gates = list(zip(gate.mean, gate.active_share, strict=True))
    columns = zip(skip.mean, skip.active_share, gates, received, strict=True)
    return [
        ChannelUse(
            level=level,
            kind=kind,
            channel=channel,
            skip_mean=mean,
            skip_active=active,
            gate_mean=opened[0],
            gate_active=opened[1],
            received=taken,
        )
        for channel, (mean, active, opened, taken) in enumerate(columns)
    ]


def summarized(rows: list[ChannelUse]) -> dict[str, Any]:
    """A level's channels in a few numbers.

    Returns:
        `channels`; `dead`, those that are 0 at every place of every case; `gate_closed`, those whose gate is; `most`,
        the smallest number of channels that make 90 % of all that the skip puts out; `gate_mean`; `strongest`, the five
        channels that put out most.
    """
    ranked = sorted(rows, key=lambda row: -row.skip_mean)
    total, passed, most = sum(max(row.skip_mean, 0.0) for row in rows), 0.0, 0
    while most < len(ranked) and passed < 0.9 * total:
        passed += max(ranked[most].skip_mean, 0.0)
        most += 1
    gates = [row.gate_mean for row in rows if row.gate_mean is not None]
    return {
        "kind": rows[0].kind,
        "channels": len(rows),
        "dead": sum(row.skip_active == 0 for row in rows),
        "gate_closed": sum(row.gate_active == 0 for row in rows) if gates else None,
        "gate_mean": sum(gates) / len(gates) if gates else None,
        "gate_active": sum(row.gate_active or 0.0 for row in rows) / len(rows) if gates else None,
        "most": most,
        "strongest": [row.channel for row in ranked[:5]],
    }
