"""HDF5 files that hold an image and its label."""

import io
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data_prep.readers.base import ReaderError


def read_hdf5(data: bytes, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """The data sets `names` of a file, each read wholly; attributes are not looked at.

    Raises:
        ReaderError: broken or truncated, or one of them is missing.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            if missing := [name for name in names if not isinstance(file.get(name), h5py.Dataset)]:
                raise ReaderError(f"has no data set {', '.join(missing)}; it has {', '.join(sorted(file)) or 'none'}")
            return tuple(np.asarray(file[name][()]) for name in names)
    except ReaderError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ReaderError(f"broken or truncated HDF5: {error}") from error
