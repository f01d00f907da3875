"""NIfTI volumes: orientation, units, precision, and files that lie."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from data_prep.readers import ReaderError, grid_difference, read_nifti, store_precision

VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # x, y, z
RAS = np.diag([1.5, 2.0, 8.0, 1.0])


def nifti(voxels: np.ndarray, affine: np.ndarray = RAS, *, zipped: bool = True, **header: object) -> bytes:
    image = nib.Nifti1Image(voxels, affine)
    for name, value in header.items():
        image.header[name] = value
    data = image.to_bytes()
    return gzip.compress(data) if zipped else data


@pytest.mark.parametrize("zipped", [True, False])
def test_axes_become_z_y_x_with_their_spacing(zipped: bool) -> None:
    volume = read_nifti(nifti(VOXELS, zipped=zipped))
    assert np.array_equal(volume.voxels, VOXELS.transpose(2, 1, 0))
    assert volume.voxels.dtype == np.int16
    assert volume.spacing.tolist() == [8.0, 2.0, 1.5]
    assert np.array_equal(volume.affine, RAS)


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, -1, 1), (-1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_every_direction_of_storage_ends_in_ras(flips: tuple[int, int, int]) -> None:
    steps = tuple(slice(None, None, flip) for flip in flips)
    stored = VOXELS[steps]
    last = (np.array(VOXELS.shape) - 1) * [1.5, 2, 8]
    affine = RAS @ np.diag([*flips, 1.0])
    affine[:3, 3] = np.where(np.array(flips) < 0, last, 0)
    volume = read_nifti(nifti(stored, affine))
    assert np.array_equal(volume.voxels, VOXELS.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine, RAS, atol=1e-6)


def test_exchanged_axes_in_plane_are_put_right() -> None:
    affine = RAS[:, [1, 0, 2, 3]]
    volume = read_nifti(nifti(VOXELS.transpose(1, 0, 2), affine))
    assert np.array_equal(volume.voxels, VOXELS.transpose(2, 1, 0))
    assert volume.spacing.tolist() == [8.0, 2.0, 1.5]


def test_an_oblique_stack_keeps_its_slices() -> None:
    """The third axis points to the front here; as whole-step RAS it would be cut across its slices."""
    affine = np.array([[1.5, 0, 0, 0], [0, 0, 8.0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1.0]])
    volume = read_nifti(nifti(VOXELS, affine))
    assert volume.voxels.shape == (4, 3, 2)
    assert volume.spacing.tolist() == [8.0, 2.0, 1.5]
    corners = np.array([[0, 0, 0, 1], [1, 2, 3, 1]]).T
    assert np.all(np.abs(np.sort(volume.affine @ corners, axis=1)[:3].max(axis=1)) >= 0)
    back = np.linalg.inv(affine) @ volume.affine @ np.array([1, 0, 2, 1.0])
    x, y, z = np.round(back[:3]).astype(int)
    assert volume.voxels[2, 0, 1] == VOXELS[x, y, z]


def test_slope_and_intercept_are_applied() -> None:
    image = nib.Nifti1Image(VOXELS, RAS)
    image.header.set_slope_inter(0.5, 100.0)
    volume = read_nifti(image.to_bytes())
    assert store_precision(volume.voxels).dtype == np.float32
    np.testing.assert_allclose(volume.voxels, VOXELS.transpose(2, 1, 0) * 0.5 + 100.0)


def test_big_endian_and_metres() -> None:
    image = nib.Nifti1Image(VOXELS.astype(">i2"), np.diag([0.001, 0.001, 0.008, 1]), nib.Nifti1Header(endianness=">"))
    image.header.set_xyzt_units("meter")
    volume = read_nifti(image.to_bytes())
    assert np.array_equal(volume.voxels, VOXELS.transpose(2, 1, 0))
    assert volume.voxels.dtype.isnative
    np.testing.assert_allclose(volume.spacing, [8, 1, 1])


@pytest.mark.parametrize("keep", [0, 10, 300, 399])
def test_fault_d1_truncated_plain_file(keep: int) -> None:
    with pytest.raises(ReaderError, match=r"truncated|not a NIfTI"):
        read_nifti(nifti(VOXELS, zipped=False)[:keep])


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_fault_d1_truncated_compressed_file(keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (32, 32, 9), dtype=np.int16)
    data = nifti(noise)
    with pytest.raises(ReaderError):
        read_nifti(data[: int(len(data) * keep)])


def test_fault_d1_changed_byte_in_a_compressed_file() -> None:
    data = bytearray(nifti(np.random.default_rng(0).integers(0, 999, (32, 32, 9), dtype=np.int16)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ReaderError):
        read_nifti(bytes(data))


@pytest.mark.parametrize("zipped", [True, False])
def test_fault_d1_a_header_that_claims_720_gb(zipped: bool) -> None:
    data = bytearray(nifti(VOXELS, zipped=False))
    struct.pack_into("<8h", data, 40, 3, 30000, 30000, 100, 1, 1, 1, 1)
    struct.pack_into("<hh", data, 70, 64, 64)
    with pytest.raises(ReaderError, match="720,000,000,352 bytes"):
        read_nifti(gzip.compress(bytes(data)) if zipped else bytes(data))


def test_fault_s7_a_gzip_bomb_behind_a_small_header() -> None:
    with pytest.raises(ReaderError, match="much longer than"):
        read_nifti(gzip.compress(nifti(VOXELS, zipped=False) + bytes(2**22)))
    assert read_nifti(gzip.compress(nifti(VOXELS, zipped=False) + bytes(100))).voxels.shape == (4, 3, 2)


def test_fault_d1_a_header_that_claims_more_than_the_file_can_hold() -> None:
    data = bytearray(nifti(VOXELS, zipped=False))
    struct.pack_into("<8h", data, 40, 3, 1000, 1000, 100, 1, 1, 1, 1)
    with pytest.raises(ReaderError, match="compressed bytes can hold"):
        read_nifti(gzip.compress(bytes(data)))


def test_four_dimensions_colour_and_no_voxel_size_are_refused() -> None:
    with pytest.raises(ReaderError, match="4 dimensions"):
        read_nifti(nifti(np.zeros((2, 3, 4, 5), np.int16)))
    assert read_nifti(nifti(np.zeros((2, 3, 4, 1), np.int16))).voxels.shape == (4, 3, 2)
    colour = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ReaderError, match="not supported"):
        read_nifti(nifti(colour))
    flat = bytearray(nifti(VOXELS, zipped=False))
    flat[280:296] = bytes(16)
    with pytest.raises(ReaderError, match="no usable affine"):
        read_nifti(bytes(flat))
    with pytest.raises(ReaderError, match="not a NIfTI"):
        read_nifti(b"DICM" * 200)


def test_fault_d2_grids_that_differ_are_described() -> None:
    image = read_nifti(nifti(VOXELS))
    assert grid_difference(image, read_nifti(nifti(VOXELS.astype(np.uint8)))) is None
    moved = RAS.copy()
    moved[0, 3] = 1.5
    assert "1.0 voxels away" in str(grid_difference(image, read_nifti(nifti(VOXELS, moved))))
    assert "(4, 3, 3) voxels" in str(grid_difference(image, read_nifti(nifti(np.zeros((3, 3, 4), np.uint8)))))
    stretched = np.diag([1.5, 2.0, 9.0, 1.0])
    assert grid_difference(image, read_nifti(nifti(VOXELS, stretched)))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("uint8", "uint8"),
        ("int8", "int16"),
        ("int16", "int16"),
        ("uint16", "uint16"),
        ("int32", "float32"),
        ("uint32", "float32"),
        ("float32", "float32"),
        ("float64", "float32"),
        ("bool", "uint8"),
        (">i2", "int16"),
    ],
)
def test_fault_d5_precision_is_kept_or_widened(source: str, expected: str) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=source)
    assert store_precision(values).dtype == expected
    assert np.array_equal(store_precision(values), values)


def test_fault_d5_nan_infinity_and_huge_integers_are_refused_with_their_number() -> None:
    with pytest.raises(ReaderError, match="2 of 3 values are NaN or infinite"):
        store_precision(np.array([1.0, np.nan, np.inf]))
    with pytest.raises(ReaderError, match="1 of 2 values"):
        store_precision(np.array([1.0, 1e39]))
    with pytest.raises(ReaderError, match=r"beyond \+-2\^24"):
        store_precision(np.array([2**24 + 1]))
    assert store_precision(np.array([40000], dtype=np.uint16))[0] == 40000
