"""Staged cases: what comes back, in parts too, and that nothing broken does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.case import CasePixels, CaseSummary, PreparedCase
from data_prep.staging import StagedCase, StagingError, encode_case
from data_prep.statistics import fingerprint, measure
from udt_cluster.data.shards import decode_chunk
from udt_cluster.storage import Location


def case(depth: int, side: int, dtype: str = "int16") -> PreparedCase:
    """Noise, so that it is as large stored as in memory."""
    rng = np.random.default_rng(depth)
    pixels = CasePixels(
        images=rng.integers(-1000, 1000, (depth, 2, side, side)).astype(dtype),
        labels=rng.integers(0, 3, (depth, side, side), np.uint8),
        native_label=rng.integers(0, 3, (depth, side + 3, side - 5), np.uint8),
    )
    summary = CaseSummary(
        id="ü",
        group="g",
        split="validation",
        site="s",
        meta={"phase": "ED"},
        digest="ab" * 16,
        foreground=tuple(range(depth)),
        hashes=tuple(2**64 - 1 - n for n in range(depth)),
        turned=tuple(2**64 - 1 - n for n in range(3 * depth)),
        num_samples=depth,
        channels=2,
        dtype=dtype,
        native_shape=pixels.native_label.shape,
        spacing=(5.0, 0.1 + 0.2, 1 / 3),
        affine=tuple(np.linspace(0, 1, 16).tolist()),
    )
    return PreparedCase(summary=summary, statistics=measure(pixels.images, pixels.labels, num_classes=3), pixels=pixels)


@pytest.mark.parametrize(("depth", "side"), [(1, 32), (40, 96)])
def test_all_of_it_comes_back_whole_and_in_parts(tmp_path: Path, depth: int, side: int) -> None:
    """The larger one does not fit into the first read."""
    made, location = case(depth, side), Location.parse(tmp_path / "case")
    location.write_bytes(encode_case(made))
    found = StagedCase.open(location)
    assert found.summary == made.summary
    assert fingerprint([found.statistics], num_samples=1, num_cases=1) == fingerprint(
        [made.statistics], num_samples=1, num_cases=1
    )
    assert found.statistics.to_dict() == made.statistics.to_dict()
    flat = made.pixels.native_label.reshape(-1)
    for start, stop in ((0, depth), (depth // 2, depth), (0, 1), (depth - 1, depth)):
        chunks = found.samples("images", start, stop, "int16")
        decoded = [decode_chunk(chunk, shape=(2, side, side), dtype="int16", name="") for chunk in chunks]
        assert np.array_equal(decoded, made.pixels.images[start:stop])
        a, b = start * 37, max(stop * flat.size // depth - 11, start * 37 + 1)
        assert np.array_equal(found.native(a, b), flat[a:b])


def test_samples_are_widened_where_the_store_is_wider(tmp_path: Path) -> None:
    made, location = case(2, 32), Location.parse(tmp_path / "case")
    location.write_bytes(encode_case(made))
    (chunk,) = StagedCase.open(location).samples("images", 1, 2, "float32")
    decoded = decode_chunk(chunk, shape=(2, 32, 32), dtype="float32", name="")
    assert np.array_equal(decoded, made.pixels.images[1].astype(np.float32))


def test_unknown_geometry_comes_back_too(tmp_path: Path) -> None:
    made = case(1, 32)
    unknown = replace(made, summary=replace(made.summary, spacing=(np.nan,) * 3))
    (Location.parse(tmp_path) / "case").write_bytes(encode_case(unknown))
    assert np.isnan(StagedCase.open(Location.parse(tmp_path) / "case").summary.spacing).all()


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5, -1])
def test_what_is_cut_is_never_taken_for_whole(tmp_path: Path, keep: float) -> None:
    made, location = case(3, 32), Location.parse(tmp_path / "case")
    data = encode_case(made)
    location.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else int(keep)])
    with pytest.raises(StagingError):
        StagedCase.open(location).native(0, 3 * 35 * 27)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    made, location = case(1, 16), Location.parse(tmp_path / "case")
    data = encode_case(made)
    for position in range(0, len(data), 97):
        broken = bytearray(data)
        broken[position] ^= 4
        location.write_bytes(bytes(broken))
        with pytest.raises(StagingError):
            _read_all(location)


def _read_all(location: Location) -> None:
    found = StagedCase.open(location)
    found.samples("images", 0, 1, "int16")
    found.samples("labels", 0, 1, "uint8")
    found.native(0, 19 * 11)
