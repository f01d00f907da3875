"""Stain normalisation: every H&E picture gets the same means and deviations of its colours.

Source: Reinhard, Ashikhmin, Gooch, Shirley, "Color transfer between images" (IEEE CG&A 2001): red, green, blue to the
cones' L, M, S, their logarithms to the decorrelated axes l, alpha, beta, where each picture is shifted and stretched to
fixed numbers, and all the way back. The result is a picture again, 0..1, so that the network sees what people do.

A picture gets the same bits whoever else is in its batch, in training, in scores and in an exported graph: logarithms
and powers are looked up in tables, and means are sums of whole numbers, which no order of addition changes.
"""

import torch
from torch import Tensor

TARGET_MEANS = (-0.363, -0.092, 0.026)
"""Of l, alpha, beta: the mean over the 85 training pictures of GlaS, an ordinary H&E look."""
TARGET_DEVIATIONS = (0.216, 0.063, 0.013)
"""Of l, alpha, beta, likewise."""
# Equation (4) of the paper and its exact inverse (theirs, equation (9), is rounded to four digits).
_RGB_TO_LMS = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
_LMS_TO_RGB = (
    (4.46866986, -3.58867590, 0.11960437),
    (-1.21971663, 2.38308791, -0.16263011),
    (0.05850848, -0.26107844, 1.20566591),
)
# Equation (6) without its factors 1/sqrt(3), 1/sqrt(6), 1/sqrt(2), so that whole numbers stay whole.
_TO_LAB = ((1, 1, 1), (1, 1, -2), (1, -1, 0))
_FACTORS = (3**-0.5, 6**-0.5, 2**-0.5)
_LOG_STEPS = 2**14  # of a decade
_LMS_STEPS = 2**16  # of a cone's response, which is 0..1
_DECADES = (-3, 1)  # of the table of powers
_MOST_STRETCH = 4.0  # so that a picture of nearly one colour does not become a picture of its noise


def normalize_stain(x_BCHW: Tensor) -> Tensor:
    """Bring 8-bit colour pictures (B, C, H, W) to the target's colours; float32 in 0..1.

    Pixels of which all channels are 0 (rotated in, or padding) count for nothing and stay 0. Three channels are one
    picture; neighbouring slices that are channels too are pictures of their own.
    """
    x_NHW3 = x_BCHW.reshape(-1, 3, *x_BCHW.shape[-2:]).to(torch.float32).clamp(0, 255)
    is_picture = (x_NHW3 != 0).any(1)
    logs = _logarithms(_mixed([(x_NHW3[:, channel] + 1) / 256 for channel in range(3)], _RGB_TO_LMS))
    axes = [
        _standardized(logs[0] * weights[0] + logs[1] * weights[1] + logs[2] * weights[2], is_picture, axis)
        for axis, weights in enumerate(_TO_LAB)
    ]
    back = [(_TO_LAB[0][cone], _TO_LAB[1][cone], _TO_LAB[2][cone]) for cone in range(3)]
    rgb = _mixed(_powers(_mixed(axes, back)), _LMS_TO_RGB)
    pictures = [((channel * 256 - 1) / 255).clamp(0, 1) * is_picture for channel in rgb]
    return torch.stack(pictures, 1).reshape(x_BCHW.shape)


def colour_statistics(x_3HW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations of l, alpha, beta of one 8-bit colour picture, as :func:`normalize_stain` takes them."""
    x = x_3HW.to(torch.float32)
    logs = _logarithms(_mixed([(x[None, channel] + 1) / 256 for channel in range(3)], _RGB_TO_LMS))
    sums = [logs[0] * weights[0] + logs[1] * weights[1] + logs[2] * weights[2] for weights in _TO_LAB]
    pairs = [_moments(axis, (x != 0).any(0)[None]) for axis in sums]
    scales = [factor / _LOG_STEPS for factor in _FACTORS]
    means, deviations = (
        tuple(float(pair[part]) * scale for pair, scale in zip(pairs, scales, strict=True)) for part in (0, 1)
    )
    return means, deviations


def _mixed(parts: list[Tensor], matrix: tuple[tuple[float, ...], ...] | list[tuple[int, int, int]]) -> list[Tensor]:
    return [parts[0] * row[0] + parts[1] * row[1] + parts[2] * row[2] for row in matrix]


def _logarithms(responses: list[Tensor]) -> list[Tensor]:
    """Decadic, in whole steps of 1 / _LOG_STEPS, int64."""
    levels = torch.arange(_LMS_STEPS + 1, dtype=torch.float64, device=responses[0].device).clamp(min=1) / _LMS_STEPS
    table = (levels.log10() * _LOG_STEPS).round().to(torch.int64)
    return [table[(part * _LMS_STEPS).round().clamp(0, _LMS_STEPS).to(torch.int64)] for part in responses]


def _powers(exponents: list[Tensor]) -> list[Tensor]:
    lowest, highest = _DECADES
    steps = torch.arange((highest - lowest) * _LOG_STEPS + 1, dtype=torch.float64, device=exponents[0].device)
    table = torch.pow(10.0, steps / _LOG_STEPS + lowest).to(torch.float32)
    places = [((part - lowest) * _LOG_STEPS).round().clamp(0, len(table) - 1) for part in exponents]
    return [table[place.to(torch.int64)] for place in places]


def _moments(axis_NHW: Tensor, is_picture_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over a picture, float64 (N, 1, 1), of whole numbers."""
    count = is_picture_NHW.sum((1, 2), keepdim=True).clamp(min=1).to(torch.float64)
    counted = axis_NHW * is_picture_NHW
    mean = counted.sum((1, 2), keepdim=True).to(torch.float64) / count
    square = (counted * counted).sum((1, 2), keepdim=True).to(torch.float64) / count
    return mean, (square - mean * mean).clamp(min=0).sqrt()


def _standardized(axis_NHW: Tensor, is_picture_NHW: Tensor, axis: int) -> Tensor:
    """One axis with the target's mean and deviation, times the factor that leads back to L, M and S."""
    mean, deviation = _moments(axis_NHW, is_picture_NHW)
    factor = _FACTORS[axis]
    wanted = TARGET_DEVIATIONS[axis] * _LOG_STEPS / factor
    stretch = (wanted / deviation.clamp(min=wanted / _MOST_STRETCH)) * (factor * factor / _LOG_STEPS)
    away = axis_NHW.to(torch.float32) - mean.to(torch.float32)
    return away * stretch.to(torch.float32) + TARGET_MEANS[axis] * factor
