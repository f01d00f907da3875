"""A whole Zarr shard of samples, from its bytes to one array: one request, one checksum and one decompression a sample.

Zarr 3.1 reads a shard's index again for every sample. This decodes exactly the codec chain that the schema prescribes
(`sharding_indexed` with its index at the end; zstd, then crc32c), in threads that release the GIL.
Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import struct
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import zstd

_CHECKSUM = struct.Struct("<I")
_ENTRY_BYTES = 16


class ShardError(ValueError):
    """The bytes are not a whole shard; says which part."""


def decode_shard(
    data: bytes,
    *,
    count: int,
    shard_samples: int,
    sample_shape: tuple[int, ...],
    dtype: str,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The first `count` samples of a shard.

    Args:
        data: The object as stored.
        count: Samples that the shard really has (the last shard of an array may be partly empty).
        shard_samples: Samples that it has room for.
        sample_shape: Shape of one sample, which is one chunk.
        dtype: Of the array, little-endian as stored.
        out: Write here, (count, *sample_shape), instead of making an array.

    Returns:
        (count, *sample_shape).

    Raises:
        ShardError: too short, a checksum that does not match, or an absent sample.
    """
    if out is None:
        out = np.empty((count, *sample_shape), dtype=np.dtype(dtype).newbyteorder("<"))
    view = memoryview(data)
    for row, (offset, length) in enumerate(_index(view, shard_samples)[:count]):
        if offset + length > len(view) or length < _CHECKSUM.size:
            raise ShardError(f"sample {row} is absent or lies beyond the end")
        _decode_chunk(view[offset : offset + length], out[row], row)
    return out


def _index(view: memoryview, shard_samples: int) -> list[tuple[int, int]]:
    """(offset, length) of every chunk; absent ones have 2**64 - 1 for both."""
    size = shard_samples * _ENTRY_BYTES
    if len(view) < size + _CHECKSUM.size:
        raise ShardError(f"{len(view)} bytes cannot hold an index of {shard_samples} samples")
    index = view[-size - _CHECKSUM.size : -_CHECKSUM.size]
    if crc32c.crc32c(index) != _CHECKSUM.unpack(view[-_CHECKSUM.size :])[0]:
        raise ShardError("the checksum of the index does not match")
    return [(int(offset), int(length)) for offset, length in np.frombuffer(index, "<u8").reshape(-1, 2)]


def _decode_chunk(chunk: memoryview, out: npt.NDArray[Any], row: int) -> None:
    body, checksum = chunk[: -_CHECKSUM.size], chunk[-_CHECKSUM.size :]
    if crc32c.crc32c(body) != _CHECKSUM.unpack(checksum)[0]:
        raise ShardError(f"the checksum of sample {row} does not match")
    try:
        zstd.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise ShardError(f"sample {row} cannot be decompressed") from error
