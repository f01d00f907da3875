"""Row D4: copies that were mirrored or turned by quarter turns."""

import numpy as np
import pytest

from data_prep.perceptual import symmetry_hashes
from tests.unit.data.test_leaks import Shelf, changed, leaks_of, pictures, smooth, split
from udt_cluster.data.leaks import find_leaks
from udt_cluster.data.lookalikes import find_lookalikes, near_pairs
from udt_cluster.data.symmetries import (
    SYMMETRIES,
    TURNED_BITS,
    bands,
    informative,
    inverse,
    turned_hashes,
    turned_pairs,
    views,
)
from udt_cluster.errors import DataError

ALL = range(len(SYMMETRIES))


def test_the_symmetries_are_the_eight_of_a_square_and_inverse_undoes_each():
    square = np.arange(9).reshape(3, 3)
    assert len({views(square, symmetry).tobytes() for symmetry in ALL}) == 8
    assert all(np.array_equal(views(views(square, symmetry), inverse(symmetry)), square) for symmetry in ALL)
    assert np.array_equal(views(square, SYMMETRIES.index("turned by 90 degrees")), np.rot90(square))
    assert np.array_equal(views(square, SYMMETRIES.index("mirrored")), square[:, ::-1])


@pytest.mark.parametrize("symmetry", ALL)
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_four_hashes_give_those_of_all_eight(symmetry: int, shape: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    image[:10] = 0  # a flat part: what is no step one way is none the other way
    stored = symmetry_hashes(image[None, None])
    seen = symmetry_hashes(np.ascontiguousarray(views(image, symmetry))[None, None])[:, 0]
    assert turned_hashes(stored[:, 0], stored[:, 1:], symmetry).tolist() == seen.tolist()


@pytest.mark.parametrize("symmetry", ALL)
def test_fault_D4_a_turned_or_mirrored_copy_is_refused(symmetry: int):
    copy = np.ascontiguousarray(views(changed(smooth(3))[0], symmetry))[None]
    shelf = Shelf(pictures(8, copy=copy))
    shelf.cases = type(shelf.cases)(**{**vars(shelf.cases), "splits": ("train",) * 8 + ("test",)})
    with pytest.raises(DataError) as error:
        split(shelf)
    (problem,) = error.value.problems
    assert problem.startswith("copy (test) and picture d (")
    how = f", one {SYMMETRIES[inverse(symmetry)]}" if symmetry else ""
    assert f"show the same{how} (correlation 0.99" in problem


def test_fault_D4_a_mirrored_volume_is_found_and_the_order_of_its_slices_does_not_matter():
    volumes = {f"v{n}": smooth(n, 6) for n in range(5)}
    shelf = Shelf({**volumes, "again": changed(volumes["v2"])[::-1, :, ::-1]})
    found, _ = find_leaks(shelf.cases, group_of=shelf.cases.groups, store=shelf)
    assert [leak.evidence.partition(" (")[0] for leak in found] == ["show the same, one mirrored"]
    assert leaks_of(shelf) == [("again", "v2")]


def test_a_copy_within_a_group_and_half_a_resemblance_are_no_leak():
    mirrored = smooth(1)[:, :, ::-1]
    assert leaks_of(Shelf({"a": smooth(1), "b": mirrored}, groups=["p", "p"])) == []
    half = np.where(np.arange(64) < 32, smooth(1), smooth(2))[:, :, ::-1].astype(np.uint8)
    assert leaks_of(Shelf(pictures(4, half=half))) == []


def test_a_picture_that_is_its_own_mirror_image_is_told_once_and_as_it_is():
    whole = smooth(1)
    whole = np.maximum(whole, whole[:, :, ::-1])
    shelf = Shelf({"a": whole, "b": changed(whole)})
    found, _ = find_lookalikes(shelf, np.arange(2))
    assert [(pair.cases, pair.symmetry) for pair in found] == [((0, 1), 0)]


@pytest.mark.parametrize("border", [False, True])
def test_turned_pairs_are_those_of_a_full_comparison(border: bool):
    rng = np.random.default_rng(0)
    hashes, turned = rng.integers(0, 2**64, 300, np.uint64), rng.integers(0, 2**64, (300, 3), np.uint64)
    for copy in range(100, 160):
        flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, copy % (TURNED_BITS + 2), np.uint64))
        turned[copy, copy % 3] = hashes[copy - 100] ^ flips
    if border:
        hashes, turned = (values & np.uint64(0x00FFFFFFFFFFFF00) for values in (hashes, turned))
    units = rng.integers(0, 250, 300)
    for symmetry, first, second, bits in turned_pairs(hashes, turned, units, most=1000):
        shown = turned_hashes(hashes, turned, symmetry)
        apart = np.bitwise_count(hashes[:, None] ^ shown[None]).astype(int)
        near = (apart <= TURNED_BITS) & (units[:, None] != units[None])
        near &= informative(hashes)[:, None] & informative(shown)[None]
        assert {*zip(first.tolist(), second.tolist(), strict=True)} == {*zip(*np.nonzero(near), strict=True)}
        assert bits.tolist() == apart[first, second].tolist()


def test_bands_share_all_bits_and_the_bits_that_say_nothing_evenly():
    hashes = np.random.default_rng(0).integers(0, 2**64, 500, np.uint64) & np.uint64(0x00FFFFFFFFFFFF00)
    cut = bands(hashes)
    assert [int(band).bit_count() for band in cut] == [8] * 8
    assert np.bitwise_or.reduce(cut) == np.uint64(2**64 - 1)
    silent = np.uint64(0xFF000000000000FF)
    assert [int(band & silent).bit_count() for band in cut] == [2] * 8


def test_fewer_pairs_than_there_are_may_be_asked_for():
    same = np.full(50, 0x0F0F0F0F0F0F0F0F, np.uint64)
    found = list(turned_pairs(same, np.stack([same] * 3, axis=1), np.arange(50), most=10))
    assert all(len(first) <= 10 for _, first, _, _ in found)
    assert near_pairs(same, np.arange(50), bits=6, most=10)[3] is False
