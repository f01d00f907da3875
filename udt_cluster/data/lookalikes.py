"""Which cases show the same thing: near duplicates by perceptual hash, looked at a second time, and runs of slices.

A 64-bit difference hash finds candidates in seconds, also among 1e5 samples; it is coarse, so that every candidate is
read and compared pixel by pixel before anybody is told. Measured at 64 x 64 on GlaS, MoNuSeg tiles, ISIC-2018, MedSeg
COVID-19, ACDC slices and hippocampus volumes: of 204 candidates of different patients five correlated with 0.95 or
more, and those five are chests that are in the set twice or more; no two hippocampi or moles came above 0.91. JPEG at
quality 30, half the resolution, more contrast or another gamma leave 0.98 or more. Copies that were mirrored or turned
by quarter turns are found in the same way, see :mod:`symmetries`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from udt_cluster.data.schema import CaseTable, StoreInfo, unpadded
from udt_cluster.data.symmetries import Hashes, Indices, bands, informative, inverse, turned_pairs, views

Samples = list[tuple[int, int]]
"""Pairs of samples."""

NEAR_BITS = 6
"""Hashes that differ in more bits are of different images."""
_CLOSEST_BITS = 4
"""Instead, where so many images resemble each other that not all of them can be read."""
SAME_PICTURE = 0.95
"""Normalised correlation of thumbnails, from which on two images show the same."""
_THUMBNAIL = 32
_MOST_CANDIDATES = 1_000_000
_MOST_SAMPLES = 50_000
_SHARED_SLICES = 0.5
"""Of the shorter of two volumes: fewer distinct slices that look alike are only the same organ."""
_LOOKED_AT = 8
_SERIES_LINKS = 3
_SERIES_MEDIAN = 0.6
_SERIES_LINK = 0.75
"""Neighbours in a series differ in fewer bits than this share of what images of this data set differ in."""
_TRAILING_NUMBER = re.compile(r"(.*?)(\d{1,18})", re.DOTALL | re.ASCII)


class Pictures(Protocol):
    """What is read of a DataStore."""

    cases: CaseTable
    info: StoreInfo
    sample_case: npt.NDArray[np.int32]
    sample_hash: Hashes

    @property
    def sample_turned(self) -> Hashes:
        """Hashes of the turned and mirrored images."""

    def read_samples(self, start: int, stop: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Images (n, C, H, W) and labels of rows [start, stop)."""


@dataclass(frozen=True)
class Lookalikes:
    """Two cases that show the same.

    Attributes:
        cases: By index.
        correlation: How alike: the median of the samples that were compared.
        symmetry: How the second has to be turned to look like the first, an index of `SYMMETRIES`.
    """

    cases: tuple[int, int]
    correlation: float
    symmetry: int = 0


class _Compared(NamedTuple):
    """What is compared: samples of two cases, those of the second as a symmetry shows them."""

    one: int
    other: int
    symmetry: int


def find_lookalikes(store: Pictures, units: Indices) -> tuple[list[Lookalikes], list[str]]:
    """Pairs of cases of different units that show the same, and what could not be looked at.

    Two pictures must be alike; of two volumes half of the distinct slices of the one that has fewer.

    Args:
        store: Hashes, and thumbnails of candidates.
        units: (M,) number of each case's group; pairs within one are of no interest.
    """
    rows = _distinct_rows(store, units)
    candidates, complete = _candidates(store, rows, units)
    notes = [] if complete else [f"more than {_MOST_CANDIDATES} pairs of images resemble each other; not all were seen"]
    chosen, left_out = _readable(candidates)
    if left_out:
        notes.append(f"{left_out} pairs of cases that resemble each other less than {_MOST_SAMPLES} others: not read")
    best: dict[tuple[int, int], Lookalikes] = {}
    for compared, values in _correlations(store, chosen).items():
        found = Lookalikes((compared.one, compared.other), float(np.median(values)), compared.symmetry)
        if found.correlation >= SAME_PICTURE:
            best.setdefault(found.cases, found)
    return sorted(best.values(), key=lambda pair: pair.cases), notes


def _candidates(store: Pictures, rows: Indices, units: Indices) -> tuple[dict[_Compared, Samples], bool]:
    """What is worth reading: images as they are, then as symmetries show them, each the closest first."""
    hashes, of_rows = store.sample_hash[rows], units[store.sample_case[rows]]
    for reach in (NEAR_BITS, _CLOSEST_BITS):
        first, second, bits, complete = near_pairs(hashes, of_rows, bits=reach)
        if complete:
            break
    distinct = np.bincount(store.sample_case[rows], minlength=len(store.cases))
    found = dict(_by_cases(store, distinct, rows[first], rows[second], bits, 0))
    for symmetry, one, other, apart in turned_pairs(hashes, store.sample_turned[rows], of_rows, most=_MOST_CANDIDATES):
        for compared, samples in _by_cases(store, distinct, rows[one], rows[other], apart, symmetry):
            known = found.setdefault(compared, samples)
            known += [two for two in samples if two not in known][: _LOOKED_AT - len(known)]
    return found, complete


def near_pairs(
    hashes: Hashes, units: Indices, *, bits: int, most: int = _MOST_CANDIDATES
) -> tuple[Indices, Indices, Indices, bool]:
    """All pairs of informative hashes of different units that differ in at most `bits` bits.

    Hashes are cut into eight bands; such a pair agrees in at least two of them (`bits` <= 6), so that only hashes with
    two equal bands are compared (multi-index hashing, Norouzi, Punjani & Fleet 2012).

    Returns:
        First and second index, ascending, the number of bits that differ, and whether these are all.
    """
    assert bits <= NEAR_BITS, "a pair might agree in fewer than two bands"
    rows = np.flatnonzero(informative(hashes)).astype(np.int64)
    codes = np.empty(0, np.int64)
    for mask in (a | b for a, b in combinations(bands(hashes[rows]), 2)):
        found = [codes]
        order = rows[np.argsort(hashes[rows] & mask, kind="stable")]
        for a, b in _equal_neighbours(hashes[order] & mask):
            left, right = order[a], order[b]
            near = np.bitwise_count(hashes[left] ^ hashes[right]) <= bits
            near &= units[left] != units[right]
            left, right = left[near], right[near]
            found.append(np.minimum(left, right) * len(hashes) + np.maximum(left, right))
            if sum(map(len, found)) > 2 * most:
                break
        codes = np.unique(np.concatenate(found))
        if len(codes) > most:
            return *_decoded(codes[:most], hashes), False
    return *_decoded(codes, hashes), True


def find_series(cases: CaseTable, candidates: Sequence[int], first_hashes: Hashes) -> list[tuple[int, ...]]:
    """Runs of single images whose names differ in a trailing number only, and whose neighbours are nearly alike.

    That is what a volume looks like whose slices were stored as cases: all of one size, and neighbours differ in far
    fewer bits than images of this data set usually do. Photographs that are merely numbered do not.

    Args:
        cases: The case table.
        candidates: Cases to look at.
        first_hashes: (M,) hash of the first sample of each case.

    Returns:
        Each run in the order of its numbers, at least two cases.
    """
    told = informative(first_hashes)
    single = [case for case in candidates if cases.num_samples[case] == 1 and told[case]]
    stems: dict[tuple[str, int, int], list[tuple[int, str, int]]] = defaultdict(list)
    for case in single:
        if match := _TRAILING_NUMBER.fullmatch(cases.ids[case]):
            _, height, width = (int(side) for side in cases.native_shape[case])
            stems[match[1], height, width].append((int(match[2]), cases.ids[case], case))
    usual = _usual_distance(first_hashes[sorted(single, key=lambda case: cases.ids[case])])
    runs: list[tuple[int, ...]] = []
    for stem in sorted(stems):
        members = [case for _, _, case in sorted(stems[stem])]
        distances = np.bitwise_count(first_hashes[members][1:] ^ first_hashes[members][:-1])
        if len(distances) >= _SERIES_LINKS and np.median(distances) <= _SERIES_MEDIAN * usual:
            runs += _runs(members, distances <= _SERIES_LINK * usual)
    return runs


def _distinct_rows(store: Pictures, units: Indices) -> Indices:
    """The first informative sample of each hash of a volume, or of the pictures of one group: a still film is one."""
    rows = np.flatnonzero(informative(store.sample_hash)).astype(np.int64)
    case_of = store.sample_case[rows]
    owner = np.where(store.cases.num_samples[case_of] == 1, units[case_of], len(units) + case_of)
    order = np.lexsort((rows, owner, store.sample_hash[rows]))
    hashes, owner = store.sample_hash[rows][order], owner[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]))[: len(rows)]
    return np.sort(rows[order][first])


def _equal_neighbours(keys: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """Positions of all pairs of equal values of a sorted array, by their distance in it."""
    active = np.arange(len(keys), dtype=np.int64)
    for step in range(1, len(keys)):
        active = active[active + step < len(keys)]
        active = active[keys[active] == keys[active + step]]
        if not len(active):
            return
        yield active, active + step


def _decoded(codes: Indices, hashes: Hashes) -> tuple[Indices, Indices, Indices]:
    first, second = np.divmod(codes, max(len(hashes), 1))
    return first, second, np.bitwise_count(hashes[first] ^ hashes[second]).astype(np.int64)


def _by_cases(
    store: Pictures, distinct: Indices, first: Indices, second: Indices, bits: Indices, symmetry: int
) -> Iterator[tuple[_Compared, Samples]]:
    """Of each pair of cases that has enough of them the pairs of samples to compare, the closest first.

    Args:
        store: The cases.
        distinct: Samples of each case that were searched.
        first: Samples, like second.
        second: Each looks like that of `first` as `symmetry` shows it.
        bits: That differ.
        symmetry: Index of SYMMETRIES.
    """
    order = np.argsort(bits, kind="stable")
    first, second = first[order], second[order]
    found: dict[_Compared, Samples] = defaultdict(list)
    owners = zip(store.sample_case[first].tolist(), store.sample_case[second].tolist(), strict=True)
    for (one, other), a, b in zip(owners, first.tolist(), second.tolist(), strict=True):
        if one < other:
            found[_Compared(one, other, symmetry)].append((a, b))
        else:
            found[_Compared(other, one, inverse(symmetry))].append((b, a))
    for compared, samples in found.items():
        pair = compared[:2]
        pictures = any(store.cases.num_samples[case] == 1 for case in pair)
        alike = min(len({two[side] for two in samples}) for side in (0, 1))
        if pictures or alike >= _SHARED_SLICES * min(int(distinct[case]) for case in pair):
            yield compared, samples[:_LOOKED_AT]


def _readable(chosen: dict[_Compared, Samples]) -> tuple[dict[_Compared, Samples], int]:
    """As many of the first pairs as have `_MOST_SAMPLES` samples together, and how many are left out."""
    samples: set[int] = set()
    kept: dict[_Compared, Samples] = {}
    for pair, compared in chosen.items():
        samples.update(sample for two in compared for sample in two)
        if len(samples) > _MOST_SAMPLES:
            break
        kept[pair] = compared
    return kept, len(chosen) - len(kept)


def _correlations(store: Pictures, chosen: dict[_Compared, Samples]) -> dict[_Compared, list[float]]:
    wanted = np.unique(np.array([s for compared in chosen.values() for two in compared for s in two], np.int64))
    thumbnails = _thumbnails(store, wanted)
    where = {int(sample): row for row, sample in enumerate(wanted)}

    def shown(sample: int, symmetry: int) -> npt.NDArray[np.float32]:
        square = thumbnails[where[sample]].reshape(_THUMBNAIL, _THUMBNAIL)
        return views(square, symmetry).ravel()

    return {
        pair: [float(shown(a, 0) @ shown(b, pair.symmetry)) for a, b in compared] for pair, compared in chosen.items()
    }


def _thumbnails(store: Pictures, samples: Indices) -> npt.NDArray[np.float32]:
    """(n, 32 * 32): grey, without padding, mean 0 and length 1, so that products are correlations."""
    rows = np.zeros((len(samples), _THUMBNAIL**2), np.float32)
    shards = samples // store.info.shard_samples
    for shard in np.unique(shards):
        places = np.flatnonzero(shards == shard)
        start = int(samples[places[0]])
        images, _ = store.read_samples(start, int(samples[places[-1]]) + 1)
        for place in places:
            sample = int(samples[place])
            height, width = _extent(store, int(store.sample_case[sample]))
            grey = images[sample - start][:, :height, :width].mean(axis=0, dtype=np.float64)
            rows[place] = _normalised(_shrunk(_shrunk(grey).T).T)
    return rows


def _extent(store: Pictures, case: int) -> tuple[int, int]:
    """Rows and columns of a sample that are no padding."""
    _, height, width = (int(side) for side in store.cases.native_shape[case])
    return unpadded((height, width), store.info.size, store.info.resize)


def _shrunk(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means over stretches of rows: `_THUMBNAIL` rows, repeated where there are fewer."""
    edges = np.arange(_THUMBNAIL) * len(image) // _THUMBNAIL
    if len(image) < _THUMBNAIL:
        return image[edges]
    counts = np.diff(np.append(edges, len(image)))
    means: npt.NDArray[np.float64] = np.add.reduceat(image, edges, axis=0) / counts[:, None]
    return means


def _normalised(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    flat = image.ravel() - image.mean()
    length = float(np.sqrt(flat @ flat))
    scaled: npt.NDArray[np.float64] = flat / length if length > 0 else flat
    return scaled


def _usual_distance(hashes: Hashes) -> float:
    """Median of the bits that differ between images that are far from each other in the order of names."""
    far = [np.roll(hashes, round(len(hashes) * share)) for share in (0.2, 0.35, 0.5)]
    differences = [np.bitwise_count(hashes ^ other) for other in far]
    return float(np.median(np.concatenate(differences))) if len(hashes) else 0.0


def _runs(members: Sequence[int], linked: npt.NDArray[np.bool_]) -> list[tuple[int, ...]]:
    parts = np.split(np.asarray(members), np.flatnonzero(~linked) + 1)
    return [tuple(int(case) for case in part) for part in parts if len(part) > 1]
