"""How raw pixel values become what the network sees: constants of the data set, the same in training and everywhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from udt_cluster.data.schema import Fingerprint
from udt_cluster.errors import DataError

KINDS = ("auto", "scale255", "zscore", "percentile")
_UNBOUNDED = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """``x -> (clip(x, low, high) - shift) / scale``, per channel.

    Attributes:
        kind: `scale255` (0..1), `zscore` (mean 0, standard deviation 1) or `percentile` (0.5th..99.5th to 0..1).
        low: Lower bound of each channel.
        high: Upper bound of each channel.
        shift: Subtracted, per channel.
        scale: Divided by, per channel.
    """

    kind: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def from_fingerprint(cls, kind: str, fingerprint: Fingerprint, dtype: str) -> "Normalization":
        """Constants for a data set.

        Args:
            kind: One of KINDS; `auto` is `scale255` for uint8 and `zscore` for every other dtype.
            fingerprint: Of the store.
            dtype: Of the store's images.

        Raises:
            DataError: `scale255` for images that are not 8-bit.
        """
        channels = len(fingerprint.mean)
        if kind == "auto":
            kind = "scale255" if dtype == "uint8" else "zscore"
        if kind == "scale255":
            if dtype != "uint8":
                raise DataError(
                    f"data.normalize: scale255 is for 8-bit images; these are {dtype}, from "
                    f"{min(fingerprint.minimum):g} to {max(fingerprint.maximum):g}. Allowed: auto, zscore, percentile."
                )
            low, high, shift, scale = ((value,) * channels for value in (0.0, 255.0, 0.0, 255.0))
        elif kind == "zscore":
            low, high = (-_UNBOUNDED,) * channels, (_UNBOUNDED,) * channels
            shift, scale = fingerprint.mean, fingerprint.std
        elif kind == "percentile":
            low, high = fingerprint.percentile_00_5, fingerprint.percentile_99_5
            shift, scale = low, tuple(b - a for a, b in zip(low, high, strict=True))
        else:
            raise ValueError(f"normalize={kind!r}; allowed: {', '.join(KINDS)}")
        return cls(kind=kind, low=low, high=high, shift=shift, scale=tuple(value or 1.0 for value in scale))

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Normalise (..., C, H, W) of any real dtype to float32 on its device."""
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
        """The inverse of :meth:`to_dict`."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)
