"""Statistics of samples that can be taken case by case and put together: the fingerprint of a data set.

Mean and standard deviation are exact (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance").
Percentiles come from a sparse histogram over the leading bits of the value as float32: 16 significant bits for
integers, so that 8- and 16-bit values are exact; 12 for floats, that is bins of at most 0.05 % of the value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.distinct import distinct
from udt_cluster.data.schema import Fingerprint

_INTEGER_SHIFT = 8
_FLOAT_SHIFT = 12
_AT_ONCE = 32
_SIGN = np.uint32(0x80000000)


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of values by their leading float32 bits, ascending.

    Attributes:
        shift: Low bits that were dropped.
        keys: (B,) int64, monotone in the value.
        counts: (B,) int64.
    """

    shift: int
    keys: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        return {"shift": self.shift, "keys": self.keys.tolist(), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Histogram":
        """The inverse of `to_dict`."""
        keys, counts = (np.array(found[name], dtype=np.int64) for name in ("keys", "counts"))
        return cls(shift=found["shift"], keys=keys, counts=counts)

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Histogram":
        """Count values of an integer or float32 array."""
        if values.dtype.kind in "iu":
            found, counts = distinct(values)
            return cls(shift=_INTEGER_SHIFT, keys=_keys(found, _INTEGER_SHIFT), counts=counts)
        keys, counts = distinct(_keys(values, _FLOAT_SHIFT))
        return cls(shift=_FLOAT_SHIFT, keys=keys, counts=counts)

    def coarser(self, shift: int) -> "Histogram":
        """The same counts in wider bins."""
        return self if shift == self.shift else _summed(shift, self.keys >> (shift - self.shift), self.counts)

    def merged(self, other: "Histogram") -> "Histogram":
        """The counts of both, in the wider bins of the two."""
        shift = max(self.shift, other.shift)
        a, b = self.coarser(shift), other.coarser(shift)
        return _summed(shift, np.concatenate([a.keys, b.keys]), np.concatenate([a.counts, b.counts]))

    def percentile(self, percent: float) -> float:
        """As `numpy.percentile` (linear between ranks): exact for integers, else to the middle of a bin."""
        ends = np.cumsum(self.counts)
        rank = percent / 100 * (int(ends[-1]) - 1)
        low, high = (self._value(int(np.searchsorted(ends, r, side="right"))) for r in (np.floor(rank), np.ceil(rank)))
        return low + (high - low) * (rank - float(np.floor(rank)))

    def _value(self, bin_index: int) -> float:
        ordered = np.uint32(int(self.keys[bin_index]) << self.shift)
        negative = not ordered & _SIGN
        dropped = np.uint32(2**self.shift - 1)
        bits = (~ordered if negative else ordered ^ _SIGN) & ~dropped
        exact = self.shift == _INTEGER_SHIFT or not bits & ~_SIGN
        middle = np.uint32(0) if exact else np.uint32(2 ** (self.shift - 1))
        return float((bits | middle).view(np.float32))


def _keys(values: npt.NDArray[Any], shift: int) -> npt.NDArray[np.int64]:
    """The leading bits of the values as float32, turned so that they ascend with the value."""
    bits = (values.astype(np.float32).ravel() + np.float32(0)).view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN) >> np.uint32(shift)
    return ordered.astype(np.int64)


def _summed(shift: int, keys: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Histogram:
    unique, where = np.unique(keys, return_inverse=True)
    totals = np.zeros(len(unique), dtype=np.int64)
    np.add.at(totals, where, counts)
    return Histogram(shift=shift, keys=unique, counts=totals)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelStatistics:
    """Of one channel; `squares` is the sum of squared differences from the mean."""

    count: int
    mean: float
    squares: float
    minimum: float
    maximum: float
    histogram: Histogram

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "ChannelStatistics":
        """Measure an array of any shape."""
        wide = values.astype(np.float64)
        mean = float(wide.mean())
        return cls(
            count=wide.size,
            mean=mean,
            squares=float(np.square(wide - mean).sum()),
            minimum=float(wide.min()),
            maximum=float(wide.max()),
            histogram=Histogram.of(values),
        )

    def merged(self, other: "ChannelStatistics") -> "ChannelStatistics":
        """The statistics of both sets of values together."""
        count = self.count + other.count
        difference = other.mean - self.mean
        return ChannelStatistics(
            count=count,
            mean=self.mean + difference * other.count / count,
            squares=self.squares + other.squares + difference**2 * self.count * other.count / count,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            histogram=self.histogram.merged(other.histogram),
        )

    def percentile(self, percent: float) -> float:
        """Of the histogram, within the range of the values."""
        return min(max(self.histogram.percentile(percent), self.minimum), self.maximum)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Of samples: per channel, and pixels per class."""

    channels: tuple[ChannelStatistics, ...]
    class_counts: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON; every number comes back as it is."""
        channels = [{**vars(channel), "histogram": channel.histogram.to_dict()} for channel in self.channels]
        return {"channels": channels, "class_counts": list(self.class_counts)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_dict`."""
        channels = (
            ChannelStatistics(**{**channel, "histogram": Histogram.from_dict(channel["histogram"])})
            for channel in found["channels"]
        )
        return cls(channels=tuple(channels), class_counts=tuple(found["class_counts"]))

    def merged(self, other: "Statistics") -> "Statistics":
        """The statistics of both sets of samples together; both have the same channels and classes."""
        return Statistics(
            channels=tuple(a.merged(b) for a, b in zip(self.channels, other.channels, strict=True)),
            class_counts=tuple(a + b for a, b in zip(self.class_counts, other.class_counts, strict=True)),
        )


def measure(images: npt.NDArray[Any], labels: npt.NDArray[np.uint8], *, num_classes: int) -> Statistics:
    """Statistics of images (n, C, h, w) and labels (n, h, w), some at a time: a volume is not widened as a whole."""
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(images), _AT_ONCE)]
    return reduce(Statistics.merged, (_measured(images[part], labels[part], num_classes) for part in parts))


def _measured(images: npt.NDArray[Any], labels: npt.NDArray[np.uint8], num_classes: int) -> Statistics:
    counts = np.bincount(labels.ravel(), minlength=num_classes)
    assert len(counts) == num_classes, f"labels beyond {num_classes} classes"
    channels = tuple(ChannelStatistics.of(images[:, channel]) for channel in range(images.shape[1]))
    return Statistics(channels=channels, class_counts=tuple(int(count) for count in counts))


def fingerprint(statistics: Iterable[Statistics], *, num_samples: int, num_cases: int) -> Fingerprint:
    """Put the statistics of all cases together, in the order given."""
    total = reduce(Statistics.merged, statistics)
    pixels = sum(total.class_counts)
    return Fingerprint(
        mean=tuple(c.mean for c in total.channels),
        std=tuple(float(np.sqrt(c.squares / c.count)) for c in total.channels),
        minimum=tuple(c.minimum for c in total.channels),
        maximum=tuple(c.maximum for c in total.channels),
        percentile_00_5=tuple(c.percentile(0.5) for c in total.channels),
        percentile_99_5=tuple(c.percentile(99.5) for c in total.channels),
        class_fractions=tuple(count / pixels for count in total.class_counts),
        num_samples=num_samples,
        num_cases=num_cases,
    )
