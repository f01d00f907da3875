"""What all readers share: their error, and which precision an image keeps."""

from typing import Any

import numpy as np
import numpy.typing as npt

_SAME = {"uint8": "uint8", "int16": "int16", "uint16": "uint16", "float32": "float32", "bool": "uint8", "int8": "int16"}
_EXACT_IN_FLOAT32 = 2**24


class ReaderError(ValueError):
    """A file is not what it should be; the text says what is wrong, and what to do where that helps."""


def store_precision(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values in a type that the store has: 8 and 16 bits stay, wider integers and floats become float32.

    Raises:
        ReaderError: integers that float32 cannot hold, NaN or infinity (also those beyond float32's range).
    """
    kept = _SAME.get(values.dtype.name)
    if kept is None and values.dtype.kind in "iu":
        if values.size and max(abs(int(values.min())), abs(int(values.max()))) > _EXACT_IN_FLOAT32:
            raise ReaderError(
                f"{values.dtype} values beyond +-2^24 cannot be kept exactly; rescale the image to 16 bits"
            )
        return values.astype(np.float32)
    if kept is None and values.dtype.kind != "f":
        raise ReaderError(f"values of type {values.dtype} are not pixels; allowed: integers, real numbers")
    with np.errstate(over="ignore"):
        result = values.astype(kept or np.float32, order="C", copy=False)
    if result.dtype.kind == "f" and (bad := int(np.count_nonzero(~np.isfinite(result)))):
        raise ReaderError(
            f"{bad} of {result.size} values are NaN or infinite; mend them in the source, or leave the case out"
        )
    return result
