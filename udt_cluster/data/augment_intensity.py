"""The part of augmentation that changes numbers: stain, blur, gamma, contrast, brightness and noise of whole batches.

Per pixel there are only single additions and multiplications, comparisons and look-ups in tables that the host makes,
so that every device, and every company that a sample may have in its batch, gives the same bits: a power or a
logarithm of a batch may differ in the last bit between the vectorised part of a loop and its end.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udt_cluster.data.augment_geometry import sometimes
from udt_cluster.data.augment_random import Keys, Uniforms, normals

INTENSITY_DRAWS = 12
_STAIN_SHARE, _STAIN_FACTOR, _STAIN_OFFSET = 0.5, 0.25, 0.04
_BLUR_SHARE, _BLUR = 0.2, (0.5, 1.5)
_GAMMA_SHARE, _GAMMA = 0.3, (0.7, 1.5)
_CONTRAST_SHARE, _CONTRAST = 0.3, (0.75, 1.25)
_BRIGHTNESS_SHARE, _BRIGHTNESS = 0.3, (-0.1, 0.1)
_NOISE_SHARE, _NOISE = 0.2, (0.01, 0.05)
_RADIUS = 4  # pixels of the blur's kernel on each side: 2.7 standard deviations at most blur
_KNOTS = 256  # intervals of a tone curve
# Optical density of haematoxylin, eosin and a residual in red, green and blue.
# Source: Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution" (2001), table 1; the
# third row, where theirs is DAB, is perpendicular to the first two.
_HAEMATOXYLIN, _EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)


@dataclass(frozen=True)
class Intensity:
    """What happens to the numbers of each sample of a batch; shapes (B,) but for the first.

    Attributes:
        stain: Factor and offset of the density of haematoxylin, eosin and residual; (B, 2, 3).
        blur: Standard deviation of a Gaussian in pixels; 0: none.
        gamma: Exponent of the numbers, of which the value range is 0..1; 1: none.
        contrast: Factor about the middle of the value range; 1: none.
        brightness: Added, in value ranges; 0: none.
        noise: Standard deviation in value ranges; 0: none.
        keys: Of the noise, uint64.
    """

    stain: NDArray[np.float64]
    blur: NDArray[np.float64]
    gamma: NDArray[np.float64]
    contrast: NDArray[np.float64]
    brightness: NDArray[np.float64]
    noise: NDArray[np.float64]
    keys: Keys

    @property
    def is_stained(self) -> NDArray[np.bool_]:
        """Whose stain is changed, (B,)."""
        changed: NDArray[np.bool_] = (self.stain != [[1, 1, 1], [0, 0, 0]]).any(axis=(1, 2))
        return changed

    def of(self, rows: NDArray[np.int64]) -> "Intensity":
        """What happens to some of the samples."""
        return Intensity(**{name: values[rows] for name, values in vars(self).items()})

    def describe(self, sample: int, *, colour: bool) -> list[str]:
        """A few words for each thing that happens to one sample of the batch, for captions."""
        blur, gamma, contrast, brightness, noise = (
            float(values[sample]) for values in (self.blur, self.gamma, self.contrast, self.brightness, self.noise)
        )
        words = [
            "stain" if colour and self.is_stained[sample] else "",
            f"blur {blur:.1f} px" if blur else "",
            f"gamma {gamma:.2f}" if gamma != 1 else "",
            f"contrast {100 * (contrast - 1):+.0f} %" if contrast != 1 else "",
            f"brightness {100 * brightness:+.0f} %" if brightness else "",
            f"noise {100 * noise:.0f} %" if noise else "",
        ]
        return [word for word in words if word]


def strong_intensity(draws: Uniforms, keys: Keys) -> Intensity:
    """Each change for a share of the samples, independently of the others.

    Args:
        draws: (B, INTENSITY_DRAWS).
        keys: Of the noise, (B,).
    """
    spread = np.array([[_STAIN_FACTOR] * 3, [_STAIN_OFFSET] * 3])
    jitter = np.array([[1.0] * 3, [0.0] * 3]) + spread * (2 * draws[:, 1:7].reshape(-1, 2, 3) - 1)
    is_stained = (draws[:, 0] < _STAIN_SHARE)[:, None, None]
    return Intensity(
        stain=np.where(is_stained, jitter, np.array([[1.0] * 3, [0.0] * 3])),
        blur=sometimes(draws[:, 7], _BLUR_SHARE, _BLUR, neutral=0.0),
        gamma=sometimes(draws[:, 8], _GAMMA_SHARE, _GAMMA, neutral=1.0),
        contrast=sometimes(draws[:, 9], _CONTRAST_SHARE, _CONTRAST, neutral=1.0),
        brightness=sometimes(draws[:, 10], _BRIGHTNESS_SHARE, _BRIGHTNESS, neutral=0.0),
        noise=sometimes(draws[:, 11], _NOISE_SHARE, _NOISE, neutral=0.0),
        keys=keys,
    )


def stained(x_B3HW: Tensor, intensity: Intensity) -> Tensor:
    """Change the amounts of the stains in 8-bit red, green, blue pictures; float32, 0..255.

    Optical densities mix linearly, D' = D A + b with a matrix of each sample. In intensities that is a product of
    powers, I'_k = 10^-b_k * (I_0^A_0k * I_1^A_1k * I_2^A_2k), and each power of a byte is one of 256 numbers.
    """
    x = x_B3HW.to(torch.float32)
    rows = np.flatnonzero(intensity.is_stained)
    if not len(rows):
        return x
    tables_R33V = torch.from_numpy(_powers(intensity.stain[rows])).to(x.device, non_blocking=True)
    place = torch.from_numpy(rows).to(x.device, non_blocking=True)
    index_R3N = x_B3HW[place].flatten(2).long()
    channels = []
    for out in range(3):
        factors = [tables_R33V[:, source, out].gather(1, index_R3N[:, source]) for source in range(3)]
        channels.append(factors[0] * factors[1] * factors[2])
    changed = (torch.stack(channels, 1) - 1).clamp(0, 255)
    return x.index_copy_(0, place, changed.view(len(rows), *x.shape[1:]))


def _powers(stain: NDArray[np.float64]) -> NDArray[np.float32]:
    """For each sample, source and output channel the factor that each byte contributes, (R, 3, 3, 256)."""
    basis = np.array([_HAEMATOXYLIN, _EOSIN, np.cross(_HAEMATOXYLIN, _EOSIN)])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    inverse = np.linalg.inv(basis)
    # Written out: a product of stacked matrices may add up in another order when there are more of them.
    mixing = sum(inverse[:, k, None] * stain[:, 0, k, None, None] * basis[k] for k in range(3))
    offset = sum(stain[:, 1, k, None] * basis[k] for k in range(3))
    levels = (np.arange(256) + 1) / 256
    tables = levels ** np.asarray(mixing)[..., None]
    tables[:, 0] *= 256 * 10 ** -np.asarray(offset)[..., None]
    return np.asarray(tables, dtype=np.float32)


def retouched(x_BCHW: Tensor, intensity: Intensity, *, low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
    """Blur, tone curve and noise.

    Args:
        x_BCHW: Images, float32; changed in place.
        intensity: For each of the B samples.
        low: Lower end of each channel's value range, C numbers.
        high: Upper end.
    """
    bottom, top = (torch.tensor(ends, dtype=torch.float32, device=x_BCHW.device)[:, None, None] for ends in (low, high))
    is_toned = (intensity.gamma != 1) | (intensity.contrast != 1) | (intensity.brightness != 0)
    for is_changed, change in ((intensity.blur > 0, _blurred), (is_toned, _toned), (intensity.noise > 0, _noisy)):
        rows = np.flatnonzero(is_changed)
        if len(rows):
            place = torch.from_numpy(rows).to(x_BCHW.device, non_blocking=True)
            x_BCHW.index_copy_(0, place, change(x_BCHW[place], intensity.of(rows), bottom, top - bottom))
    return x_BCHW


def _blurred(x_RCHW: Tensor, intensity: Intensity, bottom: Tensor, span: Tensor) -> Tensor:
    """A Gaussian along y, then along x; the outermost pixels go on outside."""
    offsets = range(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-((np.array(offsets) / intensity.blur[:, None]) ** 2) / 2)
    weights /= np.asarray(sum(weights.T))[:, None]
    weights_RK111 = torch.from_numpy(weights.astype(np.float32)[..., None, None, None])
    weights_RK111 = weights_RK111.to(x_RCHW.device, non_blocking=True)
    for axis in (-2, -1):
        side = x_RCHW.shape[axis]
        places = torch.arange(side, device=x_RCHW.device)
        total = torch.zeros_like(x_RCHW)
        for tap, offset in enumerate(offsets):
            total += x_RCHW.index_select(axis, (places + offset).clamp(0, side - 1)) * weights_RK111[:, tap]
        x_RCHW = total
    return x_RCHW


def _toned(x_RCHW: Tensor, intensity: Intensity, bottom: Tensor, span: Tensor) -> Tensor:
    """Numbers through a curve of each sample; it goes on with slope 1 beyond the value range."""
    value = (x_RCHW - bottom) / span
    inside = value.clamp(0, 1)
    table_RT = torch.from_numpy(_curves(intensity)).to(x_RCHW.device, non_blocking=True)
    place = (inside * _KNOTS).flatten(1)
    knot = place.floor().clamp(max=_KNOTS - 1)
    index = knot.long()
    before, behind = table_RT.gather(1, index), table_RT.gather(1, index + 1)
    curved = (before + (place - knot) * (behind - before)).view(x_RCHW.shape)
    return (curved + (value - inside)) * span + bottom


def _curves(intensity: Intensity) -> NDArray[np.float32]:
    """Gamma, then contrast and brightness, at evenly spaced knots of the value range: (R, _KNOTS + 1)."""
    gamma, contrast, brightness = (
        part[:, None] for part in (intensity.gamma, intensity.contrast, intensity.brightness)
    )
    knots = np.arange(_KNOTS + 1) / _KNOTS
    curves: NDArray[np.float64] = (knots**gamma - 0.5) * contrast + 0.5 + brightness
    return curves.astype(np.float32)


def _noisy(x_RCHW: Tensor, intensity: Intensity, bottom: Tensor, span: Tensor) -> Tensor:
    noise_RCHW = normals(intensity.keys, tuple(x_RCHW.shape[1:]), x_RCHW.device)
    size = torch.from_numpy(intensity.noise.astype(np.float32)).to(x_RCHW.device, non_blocking=True)
    return x_RCHW + noise_RCHW * size[:, None, None, None] * span
