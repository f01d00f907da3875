"""Arrays in .npz and HDF5 files: what is read, and what is refused."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_prep.readers import ReaderError, read_hdf5
from data_prep.readers.arrays import read_npz
from tests.volume_sources import config, discover, mask, read, read_complaints


def save_arrays(path: Path, **values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, **values)
        return
    with h5py.File(path, "w") as file:
        for name, array in values.items():
            file[name] = array


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("shape", "label", "stored"),
    [
        ((6, 8), (6, 8), (1, 1, 6, 8)),
        ((5, 6, 8), (5, 6, 8), (5, 1, 6, 8)),
        ((6, 8, 3), (6, 8), (1, 3, 6, 8)),
        ((5, 6, 8, 2), (5, 6, 8), (5, 2, 6, 8)),
    ],
)
def test_arrays_of_every_shape(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], label: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 2000, shape, np.uint16)
    save_arrays(tmp_path / "sub" / f"x{suffix}", scan=values, seg=mask(2, 9, shape=label))
    settings = config(
        tmp_path,
        "arrays",
        arrays={"image": "scan", "label": "seg"},
        classes=["a", "b"],
        label_values=[9, 2],
    )
    assert [case.id for case in discover(settings).cases] == ["sub/x"]
    raw = read(settings)
    assert raw.image.shape == stored
    assert raw.image.flags.c_contiguous
    with_channels = values if values.ndim > len(label) else values[..., None]
    assert np.array_equal(np.moveaxis(raw.image, 1, -1).reshape(with_channels.shape), with_channels)
    assert raw.label.ravel()[:3].tolist() == [2, 1, 0]
    assert raw.label.shape == (stored[0], *stored[2:])


def test_fault_d2_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for shape, label in (((3, 6, 8), (6, 8)), ((6, 8, 5), (6, 8)), ((6, 9), (6, 8)), ((8,), (8,))):
        save_arrays(tmp_path / "x.npz", image=np.zeros(shape, np.uint8), label=np.zeros(label, np.uint8))
        (problem,) = read_complaints(config(tmp_path, "arrays"))
        assert problem.startswith(f"x.npz: the image has the shape {shape}, the label {label}")
        assert "transpose and save it again" in problem


def npz_bytes(tmp_path: Path, header: bytes, content: bytes) -> bytes:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header + content)
    return (tmp_path / "x.npz").read_bytes()


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_fault_s3_s7_npz_never_unpickles_and_claims_no_more_than_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ReaderError, match="objects are never read"):
        read_npz((tmp_path / "o.npz").read_bytes(), "a")
    with pytest.raises(ReaderError, match=r"not as many values as its shape \(30000, 30000, 100\) says"):
        read_npz(npz_bytes(tmp_path, npy_header("(30000, 30000, 100)"), bytes(800)), "a")
    assert read_npz(npz_bytes(tmp_path, npy_header("(2, 50)"), bytes(800)), "a")[0].shape == (2, 50)
    data = bytearray(npz_bytes(tmp_path, npy_header("(2, 50)"), bytes(800)))
    place = data.index(b"PK\x01\x02")
    data[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    with pytest.raises(ReaderError, match=r"a\.npy claims 4,294,967,294 bytes"):
        read_npz(bytes(data), "a")
    for damaged in (b"", b"PK\x03\x04", b"no archive", bytes(data[:150])):
        with pytest.raises(ReaderError, match="broken or truncated"):
            read_npz(damaged, "a")


def test_fault_s7_hdf5_claims_no_more_than_it_holds_and_reads_no_other_file(tmp_path: Path) -> None:
    path, other = tmp_path / "x.h5", tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["image"] = np.zeros(3)
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", (30000, 30000, 100), "f8", chunks=(100, 100, 1))
        file.create_dataset("large", (1000, 1000, 100), "f8", chunks=(100, 100, 1))
        file["elsewhere"] = h5py.ExternalLink(str(other), "image")
        file["group/inside"] = np.arange(4)
        file["text"] = "hello"
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "image", (3,))
        file.create_virtual_dataset("virtual", layout)
    data = path.read_bytes()
    for name, message in (
        ("huge", "huge claims 720,000,000,000 bytes; at most"),
        ("large", "large claims 800,000,000 bytes, more than 0 stored bytes"),
        ("elsewhere", "elsewhere is a link to elsewhere"),
        ("virtual", "virtual lies in other files"),
        ("text", "text has values of type"),
        ("group/absent", "has no data set group/absent"),
    ):
        with pytest.raises(ReaderError, match=message):
            read_hdf5(data, name)
    assert read_hdf5(data, "group/inside")[0].tolist() == [0, 1, 2, 3]
