"""Which values an array has, how often each, and where: by counting for 8 and 16 bits, by sorting for all else."""

from typing import Any

import numpy as np
import numpy.typing as npt

_AT_ONCE = 2**18
"""Values that are counted together: counting takes 8 bytes for each, whatever their type."""


def distinct(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The values of an array, ascending, and the count of each."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2 or not values.size:
        found, counts = np.unique(values, return_counts=True)
        return found, counts.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    counts = np.zeros(high - low + 1, dtype=np.int64)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _AT_ONCE):
        counts += np.bincount(flat[start : start + _AT_ONCE].astype(np.int64) - low, minlength=len(counts))
    positions = np.flatnonzero(counts)
    return positions + low, counts[positions].astype(np.int64)


def replaced(
    values: npt.NDArray[Any], found: npt.NDArray[Any], replacements: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Put `replacements[i]` wherever the array has `found[i]`; `found` is all of its values, ascending."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2 or not values.size:
        return replacements[np.searchsorted(found, values)]
    low = int(found[0])
    table = np.zeros(int(found[-1]) - low + 1, dtype=np.uint8)
    table[found - low] = replacements
    return table[values if low == 0 else values.astype(np.int32) - low]
