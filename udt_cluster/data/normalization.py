"""How raw pixel values become what the network sees: constants of the data set, the same in training and everywhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from udt_cluster.config.data import DataConfig
from udt_cluster.data.schema import Fingerprint, StoreInfo
from udt_cluster.data.stain import normalize_stain
from udt_cluster.errors import DataError

KINDS = ("auto", "scale255", "zscore", "percentile", "ct_window", "stain")
DEFAULT_WINDOWS = {"synapse": (-125.0, 275.0)}
"""Hounsfield units of `ct_window` for adapters whose data sets have a usual window."""
_UNBOUNDED = float(torch.finfo(torch.float32).max)
_DEVIATIONS = 2.5  # from the mean to the ends of the value range, where there are no bounds
_NARROWEST = 0.01  # of a window that data must span


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """``x -> (clip(x, low, high) - shift) / scale``, per channel; `stain` is :mod:`udt_cluster.data.stain` instead.

    Attributes:
        kind: `scale255` (0..1), `zscore` (mean 0, standard deviation 1), `percentile` (0.5th..99.5th to 0..1),
            `ct_window` (a window to 0..1) or `stain` (colours of H&E made alike, 0..1).
        low: Lower bound of each channel.
        high: Upper bound of each channel.
        shift: Subtracted, per channel.
        scale: Divided by, per channel.
        context_slices: Neighbouring slices on each side that are channels of the input too.
    """

    kind: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    context_slices: int = 0

    @classmethod
    def from_fingerprint(
        cls, kind: str, fingerprint: Fingerprint, dtype: str, window: tuple[float, float] | None = None
    ) -> "Normalization":
        """Constants for a data set, for each channel that it stores.

        Args:
            kind: One of KINDS; `auto` is `scale255` for uint8 and `zscore` for every other dtype.
            fingerprint: Of the store.
            dtype: Of the store's images.
            window: Lowest and highest value of `ct_window`.

        Raises:
            DataError: `scale255` or `stain` for other images than theirs, a window that the data have no part in.
        """
        if kind not in KINDS:
            raise ValueError(f"normalize={kind!r}; allowed: {', '.join(KINDS)}")
        if kind == "auto":
            kind = "scale255" if dtype == "uint8" else "zscore"
        low, high, shift, scale = _constants(kind, fingerprint, dtype, window)
        return cls(kind=kind, low=low, high=high, shift=shift, scale=tuple(value or 1.0 for value in scale))

    def with_context(self, context_slices: int) -> "Normalization":
        """For inputs that have so many neighbouring slices on each side as channels, whatever this one is for."""
        if context_slices < 0:
            raise ValueError(f"context_slices={context_slices} must be 0 or more")
        stored, times = len(self.low) // (2 * self.context_slices + 1), 2 * context_slices + 1
        repeated = {name: getattr(self, name)[:stored] * times for name in ("low", "high", "shift", "scale")}
        return replace(self, **repeated, context_slices=context_slices)

    @property
    def value_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The raw numbers that matter, of each channel: the bounds, or 2.5 deviations about the mean without bounds."""
        bounds = list(zip(self.low, self.high, self.shift, self.scale, strict=True))
        low = tuple(a if a > -_UNBOUNDED else shift - _DEVIATIONS * scale for a, _, shift, scale in bounds)
        high = tuple(b if b < _UNBOUNDED else shift + _DEVIATIONS * scale for _, b, shift, scale in bounds)
        return low, tuple(b if b > a else a + 1.0 for a, b in zip(low, high, strict=True))

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Normalise (..., C, H, W) of any real dtype to float32 on its device."""
        if self.kind == "stain":
            return normalize_stain(x_BCHW)
        low, high, shift, scale = (
            torch.tensor(values, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
            for values in (self.low, self.high, self.shift, self.scale)
        )
        return (x_BCHW.to(torch.float32).clamp(low, high) - shift) / scale

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Normalization":
        """The inverse of :meth:`to_dict`; what older versions wrote has no neighbouring slices."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)


def normalization_for(config: DataConfig, info: StoreInfo) -> Normalization:
    """The normalisation that a job asks for, of inputs with the job's neighbouring slices; the same for every stage.

    Args:
        config: The `data` section of the job.
        info: Of the store that was prepared for it.

    Raises:
        DataError: it does not fit the store's images.
    """
    window = config.window or DEFAULT_WINDOWS.get(config.adapter)
    plain = Normalization.from_fingerprint(config.normalize, info.fingerprint, info.dtype, window)
    return plain.with_context(config.context_slices)


_Constants = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]


def _constants(kind: str, fingerprint: Fingerprint, dtype: str, window: tuple[float, float] | None) -> _Constants:
    """Low, high, shift and scale of each channel."""
    channels = len(fingerprint.mean)
    if kind == "zscore":
        return (-_UNBOUNDED,) * channels, (_UNBOUNDED,) * channels, fingerprint.mean, fingerprint.std
    if kind == "percentile":
        low, high = fingerprint.percentile_00_5, fingerprint.percentile_99_5
        return low, high, low, tuple(b - a for a, b in zip(low, high, strict=True))
    if kind == "ct_window":
        bottom, top = _checked_window(window, fingerprint)
        return (bottom,) * channels, (top,) * channels, (bottom,) * channels, (top - bottom,) * channels
    if dtype != "uint8" or (kind == "stain" and channels != 3):
        wanted = "for 8-bit images" if kind == "scale255" else "for 8-bit red, green, blue pictures"
        raise DataError(
            f"data.normalize: {kind} is {wanted}; these have {channels} channels of {dtype}, from "
            f"{min(fingerprint.minimum):g} to {max(fingerprint.maximum):g}. Allowed: auto, zscore, percentile."
        )
    return (0.0,) * channels, (255.0,) * channels, (0.0,) * channels, (255.0,) * channels


def _checked_window(window: tuple[float, float] | None, fingerprint: Fingerprint) -> tuple[float, float]:
    """Refuse a window in which the images would have all but one grey: their numbers are of another unit."""
    if window is None:
        raise DataError("data.normalize: ct_window needs data.window, for example [-125, 275] for the abdomen")
    low, high = window
    lowest, highest = min(fingerprint.minimum), max(fingerprint.maximum)
    if min(highest, high) - max(lowest, low) < _NARROWEST * (high - low):
        raise DataError(
            f"data.window: {[low, high]} leaves nothing of these images, which run from {lowest:g} to {highest:g}: "
            "they are not in the window's unit (Hounsfield for CT), or windowed already; use normalize: auto"
        )
    return low, high
