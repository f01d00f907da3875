"""HDF5 files that hold an image and its label.

HDF5 unpacks a chunk wholly, however little of it is wanted and whatever it swells to: chunks that are larger than the
values, or that hold more than a chunk, are refused before.
"""

import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data_prep.readers.base import ReaderError

MOST_BYTES = 8 * 2**30
_UNSUSPICIOUS_BYTES = 2**26
_MOST_RATIO = 1100
_PIECE_BYTES = 2**16
_DEFLATE = h5py.h5z.FILTER_DEFLATE
_FILTERS = {
    _DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_LZF,
}


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
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, zlib.error) as error:
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
    if dataset.chunks is not None:
        _refuse_chunks(name, dataset)
    return np.asarray(dataset[()])


def _refuse_chunks(name: str, dataset: h5py.Dataset) -> None:
    """Chunks that would take more memory than the values are worth."""
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if size > max(_UNSUSPICIOUS_BYTES, int(dataset.nbytes)):
        raise ReaderError(
            f"{name} claims chunks of {size:,} bytes for {int(dataset.nbytes):,} bytes of values; save it with smaller "
            "chunks, or with none"
        )
    filters = _filters(dataset)
    if not _FILTERS.issuperset(filters) or filters.count(_DEFLATE) > 1:
        raise ReaderError(f"{name} is compressed in another way than gzip, lzf or szip; save it as one of these")
    for offset, mask, stored in _chunks(dataset):
        if stored > size + _PIECE_BYTES:
            raise ReaderError(f"{name} has a chunk of {stored:,} bytes where {size:,} are its values; save it again")
        deflated = _DEFLATE in filters and not mask >> filters.index(_DEFLATE) & 1
        if deflated and stored * _MOST_RATIO > max(_UNSUSPICIOUS_BYTES, size):
            _refuse_swelling(name, dataset.id.read_direct_chunk(offset)[1], size)


def _filters(dataset: h5py.Dataset) -> list[int]:
    """Codes of the filters that its chunks went through, in their order."""
    plan = dataset.id.get_create_plist()
    return [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]


def _chunks(dataset: h5py.Dataset) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Where each stored chunk begins, which filters it skipped, and how many bytes it has."""
    found: list[tuple[tuple[int, ...], int, int]] = []

    def visit(chunk: Any) -> None:
        found.append((chunk.chunk_offset, chunk.filter_mask, chunk.size))

    dataset.id.chunk_iter(visit)
    yield from found


def _refuse_swelling(name: str, stored: bytes, size: int) -> None:
    """Inflate a chunk piece by piece, keep nothing, and count."""
    inflate, total = zlib.decompressobj(), 0
    for start in range(0, len(stored), _PIECE_BYTES):
        total += len(inflate.decompress(stored[start : start + _PIECE_BYTES]))
        if total > size + _PIECE_BYTES:
            raise ReaderError(f"{name} has a chunk that unpacks to more than its {size:,} bytes; save it again")
