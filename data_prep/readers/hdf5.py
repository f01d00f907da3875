"""HDF5 files that hold an image and its label."""

import io
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data_prep.readers.base import ReaderError

MOST_BYTES = 8 * 2**30
_UNSUSPICIOUS_BYTES = 2**26
_MOST_RATIO = 1100


def read_hdf5(data: bytes, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """The data sets `names` of a file, each read wholly; attributes are not looked at, links not followed.

    Args:
        data: The file.
        names: Of data sets; `group/name` within groups.

    Raises:
        ReaderError: broken or truncated, one of them is missing, lies in another file, is not of numbers, or claims
            more than :data:`MOST_BYTES` or than the file can hold.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = {name: _dataset(file, name) for name in names}
            if missing := [name for name, dataset in found.items() if dataset is None]:
                raise ReaderError(f"has no data set {', '.join(missing)}; the file holds {len(file)} in all")
            return tuple(_values(name, dataset) for name, dataset in found.items())
    except ReaderError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        kind = type(error).__name__
        raise ReaderError(f"broken or truncated HDF5 ({kind}); copy it again, or export it again") from None


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """A data set of this very file."""
    node: Any = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ReaderError(f"{name} is a link to elsewhere; store the values themselves")
        node = node.get(part) if link is not None else None
    return node if isinstance(node, h5py.Dataset) else None


def _values(name: str, dataset: h5py.Dataset) -> npt.NDArray[Any]:
    if dataset.is_virtual or dataset.external:
        raise ReaderError(f"{name} lies in other files; store the values themselves")
    if dataset.dtype.kind not in "biuf":
        raise ReaderError(f"{name} has values of type {dataset.dtype.type.__name__}; allowed: integers, real numbers")
    claimed, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    if claimed > MOST_BYTES:
        raise ReaderError(f"{name} claims {claimed:,} bytes; at most {MOST_BYTES:,} are read")
    if claimed > max(_UNSUSPICIOUS_BYTES, stored * _MOST_RATIO):
        raise ReaderError(f"{name} claims {claimed:,} bytes, more than {stored:,} stored bytes can hold")
    return np.asarray(dataset[()])
