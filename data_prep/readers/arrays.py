"""NumPy's `.npz` archives: named arrays of numbers, never pickled objects."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from data_prep.readers.base import ReaderError

MOST_BYTES = 8 * 2**30
_MOST_RATIO = 1100
_BROKEN = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    SyntaxError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def read_npz(data: bytes, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """The arrays `names` of a file as `numpy.savez` and `numpy.savez_compressed` write it.

    Args:
        data: The file.
        names: Of arrays.

    Raises:
        ReaderError: broken or truncated, one of them is missing, needs unpickling, or claims more than
            :data:`MOST_BYTES` or than the file can hold.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in names if name not in members]:
                raise ReaderError(f"has no array {', '.join(missing)}; the file holds {len(members)} in all")
            return tuple(_array(name, _content(archive, members[name])) for name in names)
    except ReaderError:
        raise
    except _BROKEN as error:
        kind = type(error).__name__
        raise ReaderError(f"broken or truncated .npz ({kind}); copy it again, or save it again") from None


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member, decompressed, its checksum verified; refused before that where it claims too much."""
    claimed = member.file_size
    if claimed > min(MOST_BYTES, member.compress_size * _MOST_RATIO):
        raise ReaderError(
            f"{member.filename} claims {claimed:,} bytes; at most {MOST_BYTES:,} are read, and "
            f"{member.compress_size:,} compressed bytes cannot hold more than {_MOST_RATIO} times as many"
        )
    return archive.read(member)


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    """The array of an `.npy` file, a view of its bytes."""
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ReaderError(f"{name} is not an array of plain numbers; save it with numpy.savez")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, kind = read_header(stream)
    if kind.kind not in "biuf":
        raise ReaderError(
            f"{name} has values of type {kind.type.__name__}; allowed: integers, real numbers (objects are never read)"
        )
    if math.prod(shape) * kind.itemsize != len(content) - stream.tell():
        raise ReaderError(f"{name} has not as many values as its shape {shape} says; save it again")
    values: npt.NDArray[Any] = np.frombuffer(content, kind, offset=stream.tell())
    return values.reshape(shape, order="F" if columns_first else "C")
