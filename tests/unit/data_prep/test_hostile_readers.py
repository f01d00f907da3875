"""Small files that would take much memory or time: refused before they have it (rows D1, S7, S8)."""

import io
import struct
import time
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image

from data_prep.readers import ReaderError, hdf5, read_hdf5, read_picture

VALUES = np.arange(64, dtype=np.uint8).reshape(8, 8)


def tiff_of(directories: int) -> bytes:
    """A TIFF whose directories follow each other; all describe the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(VALUES).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    fields, begin = bytes(data[first:end]), len(data)
    step = len(fields) + 4
    struct.pack_into("<I", data, end, begin)
    places = [begin + step * number for number in range(1, directories - 1)] + [0]
    return bytes(data) + b"".join(fields + struct.pack("<I", place) for place in places)


def test_fault_s8_a_tiff_of_many_directories_is_refused_without_looking_at_each() -> None:
    data, began = tiff_of(30_000), time.process_time()
    with pytest.raises(ReaderError, match="several frames in one file"):
        read_picture(data)
    assert time.process_time() - began < 1


def hdf5_of(chunks: tuple[int, int], *, stored: bytes | None = None, **options: object) -> bytes:
    """A file of one small data set whose first chunk is what is given."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset("image", (8, 8), "u1", chunks=chunks, maxshape=(None, None), **options)
        if stored is None:
            dataset[...] = VALUES
        else:
            dataset.id.write_direct_chunk((0, 0), stored)
    return buffer.getvalue()


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is suspicious begins at 64 kB, so that the files of these tests may be small."""
    monkeypatch.setattr(hdf5, "_UNSUSPICIOUS_BYTES", 2**16)


@pytest.mark.usefixtures("_small_limits")
def test_fault_d1_hdf5_chunks_larger_than_the_values_are_refused() -> None:
    with pytest.raises(ReaderError, match="image claims chunks of 262,144 bytes for 64 bytes of values"):
        read_hdf5(hdf5_of((512, 512), compression="gzip"), "image")
    assert np.array_equal(read_hdf5(hdf5_of((256, 256), compression="gzip"), "image")[0], VALUES)


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize("more", [{}, {"shuffle": True}, {"fletcher32": True}])
def test_fault_d1_a_hdf5_chunk_that_swells_is_refused(more: dict[str, bool]) -> None:
    bomb = zlib.compress(bytes(2**21), 9)
    with pytest.raises(ReaderError, match="a chunk that unpacks to more than its 64 bytes"):
        read_hdf5(hdf5_of((8, 8), stored=bomb + bytes(4 if more else 0), compression="gzip", **more), "image")
    with pytest.raises(ReaderError, match=r"a chunk of [\d,]+ bytes where 64 are its values"):
        read_hdf5(hdf5_of((8, 8), stored=bytes(2**17), compression="gzip", **more), "image")


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip"}, {"compression": "lzf"}, {"compression": "gzip", "shuffle": True}]
)
def test_usual_chunks_are_read(options: dict[str, object]) -> None:
    assert np.array_equal(read_hdf5(hdf5_of((4, 8), fletcher32=bool(options), **options), "image")[0], VALUES)


def test_two_layers_of_compression_are_refused() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((8, 8))
        plan.set_deflate(6)
        plan.set_deflate(6)
        space = h5py.h5s.create_simple((8, 8))
        h5py.h5d.create(file.id, b"image", h5py.h5t.NATIVE_UINT8, space, dcpl=plan).write(
            h5py.h5s.ALL, h5py.h5s.ALL, VALUES
        )
    with pytest.raises(ReaderError, match="compressed in another way than gzip, lzf or szip"):
        read_hdf5(buffer.getvalue(), "image")
