"""Random numbers from an integer hash: a pure function of (seed, epoch, sample), with no state to keep in step.

Source of the mixing constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Uniforms = NDArray[np.float64]
Keys = NDArray[np.uint64]
_DRAWS = 4
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PARTS = 4  # 16-bit numbers of one hash that are added to one nearly normal number
_MIDDLE = _PARTS * 0xFFFF / 2
_DEVIATION = (_PARTS * (2**32 - 1) / 12) ** 0.5


def hashes(seed: int, epoch: int, samples: NDArray[np.int64], draws: int) -> Keys:
    """64 bits for each draw of each sample: chained rounds of the splitmix64 finaliser; uint64, shape (B, draws)."""
    state = np.zeros((len(samples), draws), np.uint64)
    seed_64, epoch_64 = np.uint64(seed % 2**64), np.uint64(epoch)
    for part in (seed_64, epoch_64, samples.astype(np.uint64)[:, None], np.arange(draws, dtype=np.uint64)):
        state = _mixed(state + part)
    return state


def uniforms(seed: int, epoch: int, samples: NDArray[np.int64], draws: int = _DRAWS) -> Uniforms:
    """Numbers in [0, 1) for each sample, float64 of shape (B, draws); more draws do not change the first ones."""
    return as_fractions(hashes(seed, epoch, samples, draws))


def as_fractions(keys: Keys) -> Uniforms:
    """64 bits each as a number in [0, 1)."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(state: Keys) -> Keys:
    state = state + np.uint64(_STEP)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    return state ^ (state >> np.uint64(31))


def normals(keys: Keys, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Nearly normal numbers, mean 0 and standard deviation 1, float32 of shape (B, *shape), made on the device.

    Each is the sum of four 16-bit numbers of one hash (never beyond 3.5), so that every device gets the same bits.

    Args:
        keys: One for each of the B samples.
        shape: Of what each of them gets.
        device: Where.
    """
    count = int(np.prod(shape))
    key_B1 = torch.from_numpy(keys.view(np.int64)).to(device, non_blocking=True)[:, None]
    bits_BN = _mixed_on_device(key_B1 + torch.arange(count, device=device) * _signed(_STEP))
    total_BN = sum((bits_BN >> shift) & 0xFFFF for shift in range(0, 64, 16))
    assert isinstance(total_BN, Tensor)
    normal: Tensor = (total_BN.to(torch.float32) - _MIDDLE) * (1 / _DEVIATION)
    return normal.view(len(keys), *shape)


def _mixed_on_device(state: Tensor) -> Tensor:
    """`_mixed` in int64, which wraps as uint64 does; only the shifts must be kept from dragging the sign along."""
    state = state + _signed(_STEP)
    state = (state ^ _shifted(state, 30)) * _signed(_FIRST)
    state = (state ^ _shifted(state, 27)) * _signed(_SECOND)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
