"""A whole Zarr shard of samples, from its bytes to one array and back.

One request, one checksum and one decompression a sample. Zarr 3.1 reads a shard's index again for every sample. This is
exactly the codec chain that the schema prescribes (`sharding_indexed` with its index at the end; zstd, then crc32c), in
threads that release the GIL. A chunk is the same bytes wherever it stands, so a shard can be put together of chunks
that were made elsewhere.
Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import struct
from collections.abc import Sequence
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import zstd
from numcodecs.vlen import VLenUTF8

ZSTD_LEVEL = 3
_CHECKSUM = struct.Struct("<I")
_ENTRY_BYTES = 16


class ShardError(ValueError):
    """The bytes are not a whole shard; says which part."""


def encode_chunk(values: npt.NDArray[Any]) -> bytes:
    """One chunk: zstd, then crc32c."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    body: bytes = zstd.compress(plain, ZSTD_LEVEL)
    return body + _CHECKSUM.pack(crc32c.crc32c(body))


def check_chunk(chunk: bytes | memoryview, name: str) -> None:
    """Compare a chunk with its checksum.

    Raises:
        ShardError: it is not what was encoded.
    """
    view = memoryview(chunk)
    if len(view) < _CHECKSUM.size or crc32c.crc32c(view[: -_CHECKSUM.size]) != _checksum(view):
        raise ShardError(f"the checksum of {name} does not match")


def decode_chunk(chunk: bytes | memoryview, *, shape: tuple[int, ...], dtype: str, name: str) -> npt.NDArray[Any]:
    """The inverse of `encode_chunk`.

    Raises:
        ShardError: it is not what was encoded, or has another size.
    """
    out = np.empty(shape, dtype=np.dtype(dtype).newbyteorder("<"))
    _decode_into(memoryview(chunk), out, name)
    return out


def decode_strings(chunk: bytes | memoryview, name: str) -> list[str]:
    """A chunk of strings (`vlen-utf8`, then zstd, then crc32c), several times quicker than through Zarr and NumPy.

    Raises:
        ShardError: it is not what was encoded.
    """
    check_chunk(chunk, name)
    try:
        plain = zstd.decompress(memoryview(chunk)[: -_CHECKSUM.size])
        found: list[str] = VLenUTF8().decode(plain).tolist()
    except (RuntimeError, ValueError) as error:
        raise ShardError(f"{name} cannot be decoded") from error
    return found


def encode_shard(chunks: Sequence[bytes], shard_samples: int) -> bytes:
    """A shard of chunks in their order; where there are fewer than `shard_samples`, the rest is marked absent."""
    index = np.full((shard_samples, 2), 2**64 - 1, dtype="<u8")
    lengths = np.array([len(chunk) for chunk in chunks], dtype=np.int64)
    index[: len(chunks), 0] = np.cumsum(lengths) - lengths
    index[: len(chunks), 1] = lengths
    table = index.tobytes()
    return b"".join([*chunks, table, _CHECKSUM.pack(crc32c.crc32c(table))])


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
        _decode_into(view[offset : offset + length], out[row], f"sample {row}")
    return out


def _index(view: memoryview, shard_samples: int) -> list[tuple[int, int]]:
    """(offset, length) of every chunk; absent ones have 2**64 - 1 for both."""
    size = shard_samples * _ENTRY_BYTES
    if len(view) < size + _CHECKSUM.size:
        raise ShardError(f"{len(view)} bytes cannot hold an index of {shard_samples} samples")
    index = view[-size - _CHECKSUM.size : -_CHECKSUM.size]
    if crc32c.crc32c(index) != _checksum(view):
        raise ShardError("the checksum of the index does not match")
    return [(int(offset), int(length)) for offset, length in np.frombuffer(index, "<u8").reshape(-1, 2)]


def _decode_into(chunk: memoryview, out: npt.NDArray[Any], name: str) -> None:
    check_chunk(chunk, name)
    try:
        zstd.decompress(chunk[: -_CHECKSUM.size], out)
    except (RuntimeError, ValueError) as error:
        raise ShardError(f"{name} cannot be decompressed") from error


def _checksum(chunk: memoryview) -> int:
    (found,) = _CHECKSUM.unpack(chunk[-_CHECKSUM.size :])
    return int(found)
