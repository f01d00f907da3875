"""Opening and reading a prepared data-set version: what was committed, or an error, never zeros."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.storage import WrapperStore

from udt_cluster.data.schema import NUMBER_COLUMNS, STRING_COLUMNS, TURNED_HASH, CaseTable, StoreInfo
from udt_cluster.data.shards import decode_shard, decode_strings
from udt_cluster.errors import CorruptError, DataError
from udt_cluster.storage import Commit, Location, ObjectRecord, read_commit, verify

if TYPE_CHECKING:
    import numpy.typing as npt
    from zarr.core.buffer import Buffer, BufferPrototype

_REMEDY = "Restore it, or remove it by `udt-cluster data rm DATASET/VERSION` and then prepare the data again."
_INCOMPLETE = (
    "Prepare the data again by the same job (`udt-cluster data prepare JOB.yaml`): what is missing or cut short is "
    "found and written anew."
)
_SHARDS = ("images/c/", "labels/c/", "native_labels/c/")
"""Large objects, every chunk of which has a checksum of its own; the SHA-256 of all others is compared."""
_WHOLE_SHARD_FROM = 0.25
"""From this share of a shard's samples on, reading all of it in one request beats a request per sample."""


class CommittedStore(WrapperStore[Store]):
    """A Zarr store that knows what was committed: all else is not there, and what is absent or cut is an error."""

    def __init__(self, store: Store, location: Location, records: Mapping[str, ObjectRecord]) -> None:
        super().__init__(store)
        self._location = location
        self._records = records

    def _with_store(self, store: Store) -> "CommittedStore":
        return type(self)(store, self._location, self._records)

    async def get(
        self, key: str, prototype: "BufferPrototype", byte_range: ByteRequest | None = None
    ) -> "Buffer | None":
        """The object or a part of it.

        Raises:
            CorruptError: the object was committed and is not there, is shorter, or, read whole, has another SHA-256.
        """
        if key not in self._records:  # without the right to list, S3 would answer 403 and not 404
            return None
        buffer = await super().get(key, prototype, byte_range)
        self._check(key, buffer, byte_range)
        return buffer

    async def get_partial_values(
        self, prototype: "BufferPrototype", key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> "list[Buffer | None]":
        """Parts of objects, each as in :meth:`get`."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _check(self, key: str, buffer: "Buffer | None", byte_range: ByteRequest | None) -> None:
        if buffer is None:
            raise CorruptError(f"{self._location / key}: missing; it was committed. {_INCOMPLETE}")
        expected = _expected_length(byte_range, self._records[key].size)
        if len(buffer) != expected:
            raise CorruptError(
                f"{self._location / key}: gave {len(buffer)} bytes where {expected} were committed. {_INCOMPLETE}"
            )
        if byte_range is None and not key.startswith(_SHARDS):
            _check_content(self._location / key, buffer.to_bytes(), self._records[key])


class DataStore:
    """A committed data-set version, opened for reading. Pickles as its location and is opened anew where it arrives.

    Attributes:
        location: The root of the version.
        commit: Its manifest.
        info: What it is.
        cases: One row per case.
        sample_case: (N,) int32, the case of each sample.
        sample_slice: (N,) int32, the slice within that case.
        sample_foreground: (N,) int32, pixels of each label that are not background.
        sample_hash: (N,) uint64, perceptual hash of each image (64-bit difference hash; 0 for a flat one).
        images: Zarr array [N, C, H, W].
        labels: Zarr array [N, H, W].
    """

    def __init__(self, location: Location, commit: Commit) -> None:
        self.location = location
        self.commit = commit
        self._records = {record.key: record for record in commit.objects}
        with stored_errors(location):
            store = CommittedStore(location.zarr_store(read_only=True), location, self._records)
            self._group = zarr.open_group(store, mode="r")
            self.info = StoreInfo.from_attrs(dict(self._group.attrs))
            self.cases = self._lazy_cases()
            self.sample_case = _read(self._group, "samples/case")
            self.sample_slice = _read(self._group, "samples/slice")
            self.sample_foreground = _read(self._group, "samples/foreground")
            self.sample_hash = _read(self._group, "samples/perceptual_hash")
            self.images = _array(self._group, "images")
            self.labels = _array(self._group, "labels")
            self._native = _array(self._group, "native_labels")

    @classmethod
    def open(cls, location: Location, *, verify_checksums: bool = False) -> "DataStore":
        """Open a version after checking that every committed object is there with its size.

        Args:
            location: Root of the version, ``<storage>/data/<dataset>/<version>``.
            verify_checksums: Also read every object through and compare its SHA-256.

        Raises:
            DataError: nothing is committed there.
            CorruptError: an object is missing or is not what was committed.
            VersionError: a format that this code does not know.
        """
        commit = read_commit(location)
        if commit is None:
            raise DataError(
                f"{location} holds no finished data set (there is no COMMIT): its preparation was interrupted or never "
                "ran. Run `udt-cluster data prepare` with the same job; it finishes what is missing."
            )
        verify(location, commit, checksums=verify_checksums)
        return cls(location, commit)

    def __reduce__(self) -> tuple[Any, ...]:
        return DataStore.open, (self.location,)

    @cached_property
    def sample_turned(self) -> "npt.NDArray[np.uint64]":
        """(N, 3) uint64, hashes of each image mirrored, transposed, and both; read when somebody wants it."""
        with stored_errors(self.location / TURNED_HASH):
            return _read(self._group, TURNED_HASH)

    @property
    def num_samples(self) -> int:
        """N, the rows of images and labels."""
        return int(self.images.shape[0])

    def native_label(self, case: int) -> "npt.NDArray[np.uint8]":
        """The label of a case before any resize, (D, H, W) uint8 class indices."""
        depth, height, width = (int(side) for side in self.cases.native_shape[case])
        start = int(self.cases.native_offset[case])
        with stored_errors(self.location / "native_labels"):
            flat = np.asarray(self._native[start : start + depth * height * width], dtype=np.uint8)
        return flat.reshape(depth, height, width)

    def read_samples(self, start: int, stop: int) -> tuple["npt.NDArray[Any]", "npt.NDArray[np.uint8]"]:
        """Rows [start, stop): images (n, C, H, W) in source precision and labels (n, H, W) uint8.

        A shard of which much is wanted is read in one request, otherwise sample by sample.
        """
        if not 0 <= start <= stop <= self.num_samples:
            raise IndexError(f"samples {start}..{stop} of {self.num_samples}")
        images = [self._rows(self.images, first, last) for first, last in self._by_shard(start, stop)]
        labels = [self._rows(self.labels, first, last) for first, last in self._by_shard(start, stop)]
        return _joined(images, self.images), _joined(labels, self.labels)

    def read_shard(
        self, index: int, *, out: tuple["npt.NDArray[Any]", "npt.NDArray[np.uint8]"] | None = None
    ) -> tuple["npt.NDArray[Any]", "npt.NDArray[np.uint8]"]:
        """All samples of one shard by one request for images and one for labels, each checksum checked.

        Args:
            index: Of the shard.
            out: Images and labels are written here instead of into new arrays.
        """
        start = index * self.info.shard_samples
        stop = min(start + self.info.shard_samples, self.num_samples)
        if not 0 <= start < stop:
            raise IndexError(f"shard {index} of {self.num_shards}")
        images, labels = out or (None, None)
        return self._whole(self.images, index, images), self._whole(self.labels, index, labels)

    @property
    def num_shards(self) -> int:
        """Shards of images, and of labels."""
        return -(-self.num_samples // self.info.shard_samples)

    def _by_shard(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        size = self.info.shard_samples
        while start < stop:
            last = min(stop, (start // size + 1) * size)
            yield start, last
            start = last

    def _rows(self, array: "zarr.Array[Any]", start: int, stop: int) -> "npt.NDArray[Any]":
        size = self.info.shard_samples
        if stop - start >= _WHOLE_SHARD_FROM * size:
            first = start // size * size
            return self._whole(array, start // size)[start - first : stop - first]
        with stored_errors(self.location / array.path):
            return np.asarray(array[start:stop])

    def _whole(self, array: "zarr.Array[Any]", shard: int, out: "npt.NDArray[Any] | None" = None) -> "npt.NDArray[Any]":
        """Fetch a shard's object whole, check it, and decode it from memory."""
        key = "/".join([array.path, "c", str(shard), *["0"] * (array.ndim - 1)])
        size = self.info.shard_samples
        with stored_errors(self.location / key):
            return decode_shard(
                self._committed_bytes(key),
                count=min(size, self.num_samples - shard * size),
                shard_samples=size,
                sample_shape=array.shape[1:],
                dtype=str(array.dtype),
                out=out,
            )

    def _lazy_cases(self) -> CaseTable:
        """A column is read when somebody wants it; equal strings are one object, since most columns have few values."""

        def read(name: str) -> Any:
            if name in NUMBER_COLUMNS:
                with stored_errors(self.location / NUMBER_COLUMNS[name]):
                    return _read(self._group, NUMBER_COLUMNS[name])
            key, known = f"{STRING_COLUMNS[name]}/c/0", dict[str, str]()
            with stored_errors(self.location / key):
                return tuple(known.setdefault(text, text) for text in decode_strings(self._committed_bytes(key), key))

        return CaseTable.lazily(read, _array(self._group, NUMBER_COLUMNS["num_samples"]).shape[0])

    def _committed_bytes(self, key: str) -> bytes:
        data = (self.location / key).read_bytes()
        record = self._records.get(key)
        if record is None or len(data) != record.size:
            committed = record.size if record else "none"
            raise CorruptError(f"{self.location / key}: {len(data)} bytes, {committed} were committed. {_INCOMPLETE}")
        _check_content(self.location / key, data, record)
        return data


@contextmanager
def stored_errors(location: Location) -> Iterator[None]:
    """Turn what Zarr and its codecs say about broken objects into a CorruptError that names the object.

    Raises:
        CorruptError: a checksum does not match, or something committed is missing, cut or undecodable.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CorruptError(f"{location}: missing; it was committed. {_INCOMPLETE}") from error
    except (ValueError, RuntimeError, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise CorruptError(f"{location}: {reason}. It is not what was committed. {_REMEDY}") from error


def _check_content(location: Location, data: bytes, record: ObjectRecord) -> None:
    """Compare what was read of an object that is no shard with what was committed."""
    if not record.key.startswith(_SHARDS) and hashlib.sha256(data).hexdigest() != record.sha256:
        raise CorruptError(f"{location}: its SHA-256 is not the one that was committed. {_REMEDY}")


def _expected_length(byte_range: ByteRequest | None, size: int) -> int:
    match byte_range:
        case RangeByteRequest(start=start, end=end):
            return end - start
        case OffsetByteRequest(offset=offset):
            return size - offset
        case SuffixByteRequest(suffix=suffix):
            return min(suffix, size)
    return size


def _joined(parts: list["npt.NDArray[Any]"], array: "zarr.Array[Any]") -> "npt.NDArray[Any]":
    if not parts:
        return np.empty((0, *array.shape[1:]), dtype=array.dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _array(group: zarr.Group, path: str) -> "zarr.Array[Any]":
    found = group[path]
    if not isinstance(found, zarr.Array):
        raise ValueError(f"{path} is no array")
    return found


def _read(group: zarr.Group, path: str) -> "npt.NDArray[Any]":
    return np.asarray(_array(group, path)[...])
