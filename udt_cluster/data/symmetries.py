"""Images that are turned or mirrored copies of others: the eight symmetries of a picture, by perceptual hash.

A store keeps four hashes of each image: as it is, mirrored, transposed, transposed and mirrored. Each byte of a hash is
a row of the image, so that turning the bytes round gives the hash upside down, and four become eight.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SYMMETRIES = (
    "as it is",
    "upside down",
    "mirrored",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees",
    "turned by 90 degrees",
    "transposed across",
)
TURNED_BITS = 4
"""Hashes of a turned image and of an image that differ in more bits are of different images."""
_INFORMATIVE = (8, 56)
"""Set bits of a hash that says something: fewer or more are a flat image or a plain gradient."""
_SEARCHED = (1, 2, 3, 4, 5, 7)
"""One and three quarter turns are found by each other: if a is b turned by 90 degrees, b is a turned by 270."""
_BANDS, _GROUPS = 8, 3


def informative(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """(n,) whether a hash says anything about its image."""
    lowest, highest = _INFORMATIVE
    counts = np.bitwise_count(hashes)
    told: npt.NDArray[np.bool_] = (counts >= lowest) & (counts <= highest)
    return told


def inverse(symmetry: int) -> int:
    """What undoes a symmetry: the other quarter turn, or the same once more."""
    return {5: 6, 6: 5}.get(symmetry, symmetry)


def bands(hashes: Hashes) -> list[np.uint64]:
    """Masks of 8 bits each, all 64 bits in one of them.

    Bits that nearly all hashes have in common, as where pictures have a black border, are dealt out evenly: a band of
    nothing else would tell no hash from another.
    """
    bits = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
    shares = np.array([np.count_nonzero(hashes & bit) for bit in bits]) / max(len(hashes), 1)
    order = bits[np.argsort(np.abs(shares - 0.5), kind="stable")]
    return [np.bitwise_or.reduce(order[band::_BANDS]) for band in range(_BANDS)]


def views(image: npt.NDArray[Any], symmetry: int) -> npt.NDArray[Any]:
    """An image (h, w) as a symmetry shows it; (w, h) from `transposed` on."""
    image = image.T if symmetry >= 4 else image
    image = image[:, ::-1] if symmetry & 2 else image
    return image[::-1] if symmetry & 1 else image


def turned_hashes(hashes: Hashes, turned: Hashes, symmetry: int) -> Hashes:
    """(n,) the hash that each image has as a symmetry shows it.

    Args:
        hashes: (n,) of the images as they are.
        turned: (n, 3) mirrored, transposed, transposed and mirrored.
        symmetry: Index of SYMMETRIES.
    """
    shown = hashes if symmetry < 2 else turned[:, symmetry // 2 - 1]
    return shown.byteswap() if symmetry & 1 else shown


def turned_pairs(
    hashes: Hashes, turned: Hashes, units: Indices, *, most: int
) -> Iterator[tuple[int, Indices, Indices, Indices]]:
    """Pairs of images of different units of which the second, as a symmetry shows it, looks like the first.

    Args:
        hashes: (n,).
        turned: (n, 3), as :func:`turned_hashes` takes them.
        units: (n,) number of what each image belongs to.
        most: Pairs of one symmetry; the others are left out.

    Yields:
        The symmetry; first and second index; the number of bits that differ.
    """
    rows = np.flatnonzero(informative(hashes)).astype(np.int64)
    orders = [(mask, rows[np.argsort(hashes[rows] & mask, kind="stable")]) for mask in _masks(hashes[rows])]
    for symmetry in _SEARCHED:
        shown = turned_hashes(hashes, turned, symmetry)
        codes = np.empty(0, np.int64)
        for mask, order in orders:
            found = _near(hashes, shown, units, order, mask, most=most)
            codes = np.unique(np.concatenate([codes, found]))[:most]
        first, second = np.divmod(codes, max(len(hashes), 1))
        told = informative(shown[second])
        first, second = first[told], second[told]
        yield symmetry, first, second, np.bitwise_count(hashes[first] ^ shown[second]).astype(np.int64)


def _near(hashes: Hashes, shown: Hashes, units: Indices, order: Indices, mask: np.uint64, *, most: int) -> Indices:
    """Codes of pairs that agree in all bits of a mask, and differ in few of the others."""
    keys, wanted = hashes[order] & mask, shown[order] & mask
    queries = np.argsort(wanted, kind="stable")
    begin = np.searchsorted(keys, wanted[queries], side="left")
    end = np.searchsorted(keys, wanted[queries], side="right")
    second = order[queries]
    found = [np.empty(0, np.int64)]
    while len(begin) and sum(map(len, found)) <= most:
        active = begin < end
        begin, end, second = begin[active], end[active], second[active]
        first = order[begin]
        near = (np.bitwise_count(hashes[first] ^ shown[second]) <= TURNED_BITS) & (units[first] != units[second])
        found.append(first[near] * len(hashes) + second[near])
        begin = begin + 1
    return np.concatenate(found)


def _masks(hashes: Hashes) -> list[np.uint64]:
    """Pairs of bands such that hashes that differ in `TURNED_BITS` bits agree in one pair at least.

    Four of the eight bands have no bit that differs; of any four, two are in one of three groups.
    """
    cut = bands(hashes)
    groups = [cut[group::_GROUPS] for group in range(_GROUPS)]
    return [a | b for group in groups for a, b in combinations(group, 2)]
