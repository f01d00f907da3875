"""Prepared cases on their way to shards: one object each, kept beside the data set until it is committed.

The key follows from what a case is made of, so that a preparation that was killed, or that failed at another case, goes
on from what is there, also when the source has changed elsewhere. An object is::

    magic, length and crc32c of the header      16 bytes
    header                                      zstd of JSON: summary, statistics, shapes, lengths of the chunks
    chunks                                      images, labels and native label, a slice each: zstd, then crc32c

Chunks of images and labels are the bytes that a shard has: what is compressed once is not compressed again.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import zstd

from data_prep.case import CasePixels, CaseSummary, PreparedCase
from data_prep.statistics import Statistics
from udt_cluster.data.shards import ShardError, check_chunk, decode_chunk, encode_chunk
from udt_cluster.storage import Location

_MAGIC = b"udtcase2"
_PREFIX = struct.Struct("<8sII")
_FIRST_READ = 256 * 2**10
"""Most pictures come with one request; of a volume, then only the slices that are wanted."""


def staged_path(key: str) -> str:
    """Where a case is, below the staging of its data set; spread, since a folder of a million files is slow."""
    return f"cases/{key[:2]}/{key}"


class StagingError(ValueError):
    """A staged object is not what was written."""


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """One array in the body: a chunk a slice."""

    dtype: str
    shape: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class StagedCase:
    """A prepared case as it lies in storage; pixels are read when they are asked for."""

    location: Location
    summary: CaseSummary
    statistics: Statistics
    _stacks: Mapping[str, _Stack]
    _head: bytes
    _body: int

    @classmethod
    def open(cls, location: Location) -> "StagedCase":
        """Read the header.

        Raises:
            FileNotFoundError: nothing is staged there.
            StagingError: what is there is not whole.
        """
        head = location.read_bytes(start=0, end=_FIRST_READ)
        if len(head) < _PREFIX.size:
            raise StagingError(f"{location}: cut short")
        magic, length, checksum = _PREFIX.unpack_from(head)
        body = _PREFIX.size + length
        packed = head[_PREFIX.size : body] if body <= len(head) else location.read_bytes(start=_PREFIX.size, end=body)
        if magic != _MAGIC or crc32c.crc32c(packed) != checksum:
            raise StagingError(f"{location}: the header is not what was written")
        header: dict[str, Any] = json.loads(zstd.decompress(packed))
        return cls(
            location=location,
            summary=_summary(header["summary"]),
            statistics=Statistics.from_dict(header["statistics"]),
            _stacks={name: _stack(found) for name, found in header["stacks"].items()},
            _head=head,
            _body=body,
        )

    def samples(self, name: str, start: int, stop: int, dtype: str) -> list[bytes]:
        """Chunks [start, stop) of "images" or "labels" as a shard of this type has them.

        Raises:
            FileNotFoundError: the object has gone meanwhile.
            StagingError: a chunk is not what was written.
        """
        stack, chunks = self._stacks[name], self._chunks(name, start, stop)
        if stack.dtype == dtype:
            return chunks
        return [encode_chunk(self._decoded(stack, chunk).astype(dtype)) for chunk in chunks]

    def native(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Pixels [start, stop) of the native label, flat, (stop - start,) uint8.

        Raises:
            FileNotFoundError, StagingError: as `samples`.
        """
        stack = self._stacks["native"]
        plane = int(np.prod(stack.shape[1:]))
        first, last = start // plane, -(-stop // plane)
        planes = [self._decoded(stack, chunk).reshape(-1) for chunk in self._chunks("native", first, last)]
        return np.concatenate(planes)[start - first * plane : stop - first * plane]

    def _decoded(self, stack: _Stack, chunk: bytes) -> npt.NDArray[Any]:
        return decode_chunk(chunk, shape=stack.shape[1:], dtype=stack.dtype, name=str(self.location))

    def _chunks(self, name: str, start: int, stop: int) -> list[bytes]:
        edges = self._edges[name]
        data = self._bytes(int(edges[start]), int(edges[stop]))
        pieces = [
            data[a - edges[start] : b - edges[start]]
            for a, b in zip(edges[start:stop], edges[start + 1 :], strict=False)
        ]
        try:
            for piece in pieces:
                check_chunk(piece, f"a slice of {name}")
        except ShardError as error:
            raise StagingError(f"{self.location}: {error}") from error
        return pieces

    def _bytes(self, start: int, stop: int) -> bytes:
        return self._head[start:stop] if stop <= len(self._head) else self.location.read_bytes(start=start, end=stop)

    @cached_property
    def _edges(self) -> dict[str, npt.NDArray[np.int64]]:
        """Of each array: where its chunks begin in the object, and where the last one ends."""
        edges, begin = {}, self._body
        for name, stack in self._stacks.items():
            edges[name] = begin + np.concatenate([[0], np.cumsum(stack.lengths, dtype=np.int64)])
            begin = int(edges[name][-1])
        return edges


def encode_case(case: PreparedCase) -> bytes:
    """The object of a prepared case."""
    arrays = _arrays(case.pixels)
    chunks = {name: [encode_chunk(plane) for plane in array] for name, array in arrays.items()}
    stacks = {
        name: _Stack(dtype=array.dtype.name, shape=array.shape, lengths=tuple(len(chunk) for chunk in chunks[name]))
        for name, array in arrays.items()
    }
    header = {
        "summary": {**asdict(case.summary), "meta": dict(case.summary.meta)},
        "statistics": case.statistics.to_dict(),
        "stacks": {name: asdict(stack) for name, stack in stacks.items()},
    }
    packed: bytes = zstd.compress(json.dumps(header, separators=(",", ":")).encode(), 1)
    prefix = _PREFIX.pack(_MAGIC, len(packed), crc32c.crc32c(packed))
    return b"".join([prefix, packed, *(chunk for name in arrays for chunk in chunks[name])])


def _arrays(pixels: CasePixels) -> dict[str, npt.NDArray[Any]]:
    return {"images": pixels.images, "labels": pixels.labels, "native": pixels.native_label}


def _summary(found: dict[str, Any]) -> CaseSummary:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
    return CaseSummary(**fields)


def _stack(found: dict[str, Any]) -> _Stack:
    return _Stack(dtype=found["dtype"], shape=tuple(found["shape"]), lengths=tuple(found["lengths"]))
