"""The driver of a preparation keeps a summary of every case: how much that is, and that nothing of it is lost."""

import json
import tracemalloc

import numpy as np

from data_prep.case import CaseSummary
from data_prep.kept import KeptCases, StagedPlaces
from udt_cluster.storage import Location

DEPTH = 4


def summary(number: int) -> CaseSummary:
    """As it comes out of a staged object: every text an object of its own."""
    rng = np.random.default_rng(number)
    own = json.loads(
        json.dumps({"meta": {"phase": "ED"}, "site": "one hospital", "group": f"patient{number // 2:07d}"})
    )
    return CaseSummary(
        id=f"patient{number:07d}",
        split="train",
        digest=f"{number:032x}",
        foreground=tuple(rng.integers(0, 50_000, DEPTH).tolist()),
        hashes=tuple(rng.integers(0, 2**64, DEPTH, np.uint64).tolist()),
        turned=tuple(rng.integers(0, 2**64, 3 * DEPTH, np.uint64).tolist()),
        num_samples=DEPTH,
        channels=1,
        dtype="uint8",
        native_shape=(DEPTH, 200 + number, 300),
        spacing=(1.0, 0.5, float("nan")),
        affine=tuple(rng.random(16).tolist()),
        **own,
    )


def test_what_is_kept_is_what_came() -> None:
    kept = KeptCases()
    for number in range(5):
        kept.add(f"{number:064x}", summary(number))
    for number, (key, found) in enumerate(kept):
        came = summary(number)
        assert key == f"{number:064x}"
        for name in CaseSummary.__slots__:
            left, right = getattr(found, name), getattr(came, name)
            assert left == right or np.array_equal(left, right, equal_nan=name == "spacing"), name
        assert found.native_pixels == came.native_pixels


def test_a_hundred_thousand_cases_are_less_than_200_mb() -> None:
    """Of four slices each; as they come they would be more than 300 MB."""
    kept, count = KeptCases(), 1000
    tracemalloc.start()
    for number in range(count):
        kept.add(f"{number:064x}", summary(number))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count * 100_000 < 200e6


def test_places_are_made_when_they_are_asked_for() -> None:
    places = StagedPlaces(Location.parse("/storage/staging/set"), ["ab12", "cd34", "ef56"])
    assert [place.uri for place in places[1:]] == [places[1].uri, places[2].uri]
    assert places[0].uri.endswith("/staging/set/cases/ab/ab12")
    assert len(places) == 3
