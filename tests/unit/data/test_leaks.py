"""Row D4: a patient on two sides, the same pixels under two names, near duplicates, slices of one volume."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.perceptual import symmetry_hashes
from tests.factories import make_store
from tests.memory_store import make_cases
from udt_cluster.config.data import AcceptedLeak, SplitsConfig
from udt_cluster.data import lookalikes
from udt_cluster.data.leaks import find_leaks, group_leaks, judge, side_table
from udt_cluster.data.lookalikes import find_lookalikes, near_pairs
from udt_cluster.data.splits import make_splits
from udt_cluster.data.splits_schemes import Fold
from udt_cluster.errors import DataError

SIZE = 64


class Shelf:
    """Cases in memory with what leaks and classes are found by; `reads` counts samples that were read."""

    def __init__(self, volumes: dict[str, np.ndarray], *, groups: Sequence[str] | None = None, resize="stretch"):
        counts = [len(volume) for volume in volumes.values()]
        self.cases = make_cases([*volumes], groups=groups, num_samples=counts)
        self.images = np.concatenate([*volumes.values()])[:, None]
        self.sample_case = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        hashes = symmetry_hashes(self.images)
        self.sample_hash, self.sample_turned = hashes[:, 0], hashes[:, 1:]
        self.sample_foreground = np.ones(len(self.images), np.int32)
        self.labels = None
        size = self.images.shape[2:]
        self.info = SimpleNamespace(shard_samples=4, size=size, resize=resize, class_names=("background", "one"))
        self.reads = 0

    def read_samples(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads += stop - start
        return self.images[start:stop], np.zeros((stop - start, *self.info.size), np.uint8)


def smooth(seed: int, frames: int = 1, *, drift: float = 0.2) -> np.ndarray:
    """(frames, 64, 64) uint8: blobs of light that drift from frame to frame; another seed is another picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    planes = np.zeros((frames, SIZE, SIZE))
    for _ in range(25):
        centre, moves, strength = rng.random(2), rng.normal(0, drift / 10, 2), rng.normal()
        for frame in range(frames):
            at = centre + frame * moves
            planes[frame] += strength * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 0.01)
    return np.clip(128 + 60 * planes, 0, 255).astype(np.uint8)


def pictures(count: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {**{f"picture {chr(97 + n)}": smooth(n) for n in range(count)}, **more}


def changed(image: np.ndarray) -> np.ndarray:
    """Other contrast, brightness and noise: no pixel is as it was."""
    noise = np.random.default_rng(1).normal(0, 2, image.shape)
    return np.clip(0.8 * image.astype(float) + 30 + noise, 0, 255).astype(np.uint8)


def leaks_of(shelf: Shelf, group_of: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    found, notes = find_leaks(shelf.cases, group_of=group_of or shelf.cases.groups, store=shelf)
    assert notes == []
    return [tuple(shelf.cases.ids[case] for case in leak.members) for leak in found]


def split(shelf, *, accept=(), cases=None, store=True, group_by="patient", **config):
    accepted = [AcceptedLeak(cases=pair, reason="looked at by two people") for pair in accept]
    return make_splits(
        cases or shelf.cases,
        SplitsConfig(**{"k": 2, **config}),
        group_by=group_by,
        data_version="v1",
        store=shelf if store else None,
        accept_leaks=accepted,
    )


def test_fault_D4_a_patient_in_train_and_test_is_refused():
    sides = ["test", "train", "train", "train", "test"]
    cases = make_cases(["a1", "a2", "b", "c", "d"], groups=["a", "a", "b", "c", "d"], splits=sides)
    with pytest.raises(DataError, match="1 pair of cases lies on two sides") as error:
        split(None, cases=cases, store=False)
    (problem,) = error.value.problems
    assert "a1 (test) and a2 (" in problem
    assert "2 of 2 folds) are of one group, 'a', of 2 cases" in problem
    assert error.value.exit_code == 3
    assert "data.accept_leaks: [{cases: [a1, a2]" in error.value.message
    assert split(None, cases=cases, store=False, accept=[("a2", "a1")]).accepted_leaks[0]["cases"] == ["a1", "a2"]


def test_fault_D4_a_patient_in_train_and_validation_of_a_file_is_refused(tmp_path):
    cases = make_cases(["a1", "a2", "b1", "b2"], groups=["a", "a", "b", "b"])
    file = tmp_path / "splits_final.json"
    file.write_text('[{"train": ["a1", "a2"], "val": ["b1", "b2"]}, {"train": ["a1", "b1"], "val": ["a2", "b2"]}]')
    with pytest.raises(DataError) as error:
        split(None, cases=cases, store=False, scheme="file", file=str(file))
    assert error.value.problems == (
        "a1 (train) and a2 (validation, fold 1, 1 of 2 folds) are of one group, 'a', of 2 cases",
        "b1 (train) and b2 (validation, fold 1, 1 of 2 folds) are of one group, 'b', of 2 cases",
    )


def test_fault_D4_the_same_array_under_two_names_is_refused(tmp_path):
    """Found by the digest alone, as it does for volumes whose slices are all flat."""
    store = make_store(tmp_path, slices=(2, 3, 2, 3), splits=["train", "train", "train", "test"], twins=[(3, 1)])
    assert store.cases.digests[1] == store.cases.digests[3]
    with pytest.raises(DataError) as error:
        make_splits(store.cases, SplitsConfig(k=3), group_by="case", data_version="v0")
    (problem,) = error.value.problems
    assert "case-01 (" in problem
    assert "case-03 (test, fold 0, 3 of 3 folds) are equal pixel for pixel" in problem


def test_fault_D4_a_store_with_twins_is_refused_once_a_pair(tmp_path):
    store = make_store(tmp_path, slices=(1, 3, 1, 3), splits=["train", "train", "train", "test"], twins=[(3, 1)])
    with pytest.raises(DataError) as error:
        make_splits(store.cases, SplitsConfig(k=3), group_by="case", data_version="v0", store=store)
    assert len(error.value.problems) == 1


def test_fault_D4_a_near_duplicate_is_refused():
    shelf = Shelf(pictures(8, copy=changed(smooth(3))))
    shelf.cases = replace(shelf.cases, splits=("train",) * 8 + ("test",))
    with pytest.raises(DataError) as error:
        split(shelf)
    (problem,) = error.value.problems
    assert problem.startswith("copy (test) and picture d (")
    assert "show the same (correlation 0.99" in problem


def test_fault_D4_a_volume_that_was_brightened_is_refused():
    volumes = {f"v{n}": smooth(n, 6) for n in range(5)}
    shelf = Shelf({**volumes, "again": changed(volumes["v2"])})
    assert leaks_of(shelf) == [("again", "v2")]


def test_fault_D4_slices_of_one_volume_as_cases_are_refused():
    volumes = {f"scan{n}": smooth(n, 6, drift=0.15) for n in range(6)}
    shelf = Shelf({f"{name}_slice_{k}": frames[k : k + 1] for name, frames in volumes.items() for k in range(6)})
    with pytest.raises(DataError, match="6 pairs") as error:
        split(shelf, group_by="case", k=3)
    assert all("are slices of one volume by name and content (6 slices)" in line for line in error.value.problems)
    assert leaks_of(shelf, [i.split("_")[0] for i in shelf.cases.ids]) == []


def test_pictures_that_are_merely_numbered_are_no_volume():
    assert leaks_of(Shelf({f"img_{n}": smooth(n) for n in range(30)})) == []


def test_neighbours_within_a_volume_and_a_group_are_no_leak():
    still = np.repeat(smooth(1), 8, axis=0)
    shelf = Shelf({"a": still, "a again": changed(still), "b": smooth(2, 8)}, groups=["p", "p", "q"])
    assert leaks_of(shelf) == []
    assert shelf.reads == 0
    assert leaks_of(shelf, shelf.cases.ids) == [("a", "a again")]


def test_some_slices_alike_make_no_volume_the_same():
    """Two patients' hippocampi have slices that resemble each other; that is anatomy."""
    mine, other = smooth(1, 8, drift=3), smooth(2, 8, drift=3)
    other[3] = changed(mine[3])
    assert leaks_of(Shelf({"mine": mine, "other": other})) == []
    assert leaks_of(Shelf({"picture": mine[3:4], "other": other})) == [("other", "picture")]


def test_a_second_look_rejects_what_only_hashes_alike():
    """Equal hashes, different pictures: read, compared, not told."""
    shelf = Shelf(pictures(3))
    shelf.sample_hash[1] = shelf.sample_hash[0] ^ np.uint64(0b1111)
    assert leaks_of(shelf) == []
    assert shelf.reads == 2


def test_flat_images_say_nothing():
    flat = np.full((1, SIZE, SIZE), 7, np.uint8)
    assert leaks_of(Shelf({"a": flat, "b": flat, "c": smooth(0)})) == []


def test_padding_is_not_compared():
    """Two dark pictures in a tall frame: without the padding they have little in common."""
    images = []
    for seed in (1, 2):
        image = np.zeros((1, SIZE, SIZE), np.uint8)
        image[0, :, :16] = 200 + smooth(seed)[0, :, ::4] // 8
        images.append(image)
    shelf = Shelf({"a": images[0], "b": images[1]}, resize="pad")
    shelf.cases = replace(shelf.cases, native_shape=np.array([[1, 400, 100]] * 2))
    shelf.sample_hash = np.full(2, 0x0F0F0F0F0F0F0F0F, np.uint64)
    units = np.arange(2)
    assert find_lookalikes(shelf, units)[0] == []
    shelf.info.resize = "stretch"
    assert len(find_lookalikes(shelf, units)[0]) == 1


def test_near_pairs_are_those_of_a_full_comparison():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 2000, np.uint64)
    for row in range(1000):
        flipped = sum(1 << int(bit) for bit in rng.choice(64, row % 9, replace=False))
        hashes[row + 1000] = hashes[row] ^ np.uint64(flipped)
    hashes[:5] = 0
    units = np.arange(2000) // 2
    first, second, bits, complete = near_pairs(hashes, units, bits=6)
    distance = np.bitwise_count(hashes[:, None] ^ hashes)
    counts = np.bitwise_count(hashes)
    told = (counts >= 8) & (counts <= 56)
    expected = np.argwhere(np.triu((distance <= 6) & (units[:, None] != units) & told[:, None] & told, 1))
    assert set(distance[expected[:, 0], expected[:, 1]].tolist()) == set(range(7))
    assert np.column_stack([first, second]).tolist() == expected.tolist()
    assert bits.tolist() == distance[first, second].tolist()
    assert complete


def test_a_search_that_was_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(lookalikes, "near_pairs", lambda *a, **k: near_pairs(*a, **k, most=2))
    shelf = Shelf({name: changed(smooth(3)) for name in "abcdef"})
    found, notes = find_leaks(shelf.cases, group_of=shelf.cases.ids, store=shelf)
    assert len(found) == 2
    assert "not all were seen" in notes[0]


def test_only_so_many_thumbnails_are_read(monkeypatch):
    monkeypatch.setattr(lookalikes, "_MOST_SAMPLES", 4)
    shelf = Shelf({name: changed(smooth(3)) for name in "abcdef"})
    found, (note,) = find_leaks(shelf.cases, group_of=shelf.cases.ids, store=shelf)
    assert found
    assert "not read" in note
    assert int(note.split()[0]) + len(found) == 15


def test_leaks_on_one_side_are_warned_about():
    cases = replace(make_cases([*"abcd"], splits=["test", "test", "train", "train"]), digests=("x", "x", "y", "z"))
    splits = split(None, cases=cases, store=False)
    assert splits.notes == ("cases on one side that say the same twice: a and b are equal pixel for pixel",)
    assert splits.accepted_leaks == ()


def test_cases_of_no_side_leak_nowhere(tmp_path):
    cases = replace(make_cases([*"abc"]), digests=("x", "y", "x"))
    file = tmp_path / "folds.json"
    file.write_text('[{"train": ["a"], "val": ["b"]}]')
    assert len(split(None, cases=cases, store=False, scheme="file", file=str(file)).folds) == 1


def test_accepted_pairs_pass_and_are_kept():
    shelf = Shelf(pictures(8, copy=changed(smooth(3))))
    shelf.cases = replace(shelf.cases, splits=("train",) * 8 + ("test",))
    splits = split(shelf, accept=[("picture d", "copy")])
    assert splits.accepted_leaks == ({"cases": ["copy", "picture d"], "reason": "looked at by two people"},)
    assert splits.notes == ()


def test_accepted_pairs_that_are_none_are_pointed_out():
    shelf = Shelf(pictures(6))
    splits = split(shelf, accept=[("picture a", "picture b"), ("picture a", "picture zz"), ("q", "r")])
    assert splits.accepted_leaks == ()
    assert splits.hash == split(shelf).hash
    assert splits.notes[0] == "data.accept_leaks: [picture a, picture b]: that pair is no leak here; remove it"
    assert "there is no case 'picture zz', did you mean 'picture" in splits.notes[1]
    assert "there is no case 'q'; there is no case 'r'" in splits.notes[2]


def test_accepting_one_pair_does_not_accept_another():
    cases = replace(
        make_cases([*"abcdef"], splits=["train", "train", "train", "train", "test", "test"]),
        digests=("x", "y", "z", "w", "x", "y"),
    )
    with pytest.raises(DataError) as error:
        split(None, cases=cases, store=False, accept=[("a", "e")])
    (problem,) = error.value.problems
    assert problem.startswith("b (")


def test_very_many_leaks_are_counted():
    cases = replace(make_cases([f"c{n:03}" for n in range(500)]), digests=tuple(str(n // 2) for n in range(500)))
    sides = side_table([Fold(train=tuple(range(0, 500, 2)), validation=tuple(range(1, 500, 2)))], (), 500)
    leaks, _ = find_leaks(cases, group_of=cases.ids)
    with pytest.raises(DataError, match="250 pairs") as error:
        judge(cases, leaks, sides, ())
    assert len(error.value.problems) == 201
    assert error.value.problems[-1] == "and 50 more"


def test_groups_that_keep_to_one_side_are_no_leak():
    cases = make_cases([*"abcd"], groups=["p", "p", "q", "q"])
    sides = side_table([Fold(train=(0, 1), validation=(2, 3)), Fold(train=(0,), validation=(1,))], (), 4)
    (leak,) = group_leaks(cases, sides, group_of=cases.groups)
    assert leak.members == (0, 1)
    assert group_leaks(cases, sides[:1], group_of=cases.groups) == []


def test_lookalikes_are_kept_on_one_side_where_the_job_says_so():
    twins = {"twin 1": smooth(50), "twin 2": changed(smooth(50)), "twin 3": changed(changed(smooth(50)))}
    shelf = Shelf(pictures(7, **twins))
    made = split(shelf, lookalikes="together", k=4)
    wanted = {index for index, name in enumerate(shelf.cases.ids) if name.startswith("twin")}
    for fold in made.folds:
        assert wanted <= set(fold.train) or wanted <= set(fold.validation)
    assert made.content()["parameters"] == {"lookalikes": "together"}
    assert sorted(case for fold in made.folds for case in fold.validation) == list(range(10))


def test_fault_D4_together_moves_no_official_test_case():
    shelf = Shelf(pictures(5, **{"twin 1": smooth(50), "twin 2": changed(smooth(50))}))
    shelf.cases = replace(shelf.cases, splits=(*("train",) * 6, "test"))
    with pytest.raises(DataError, match="twin 1"):
        split(shelf, lookalikes="together", k=2)


def test_tiles_of_one_picture_stay_together():
    shelf = Shelf(pictures(6), groups=["a", "a", "b", "b", "c", "c"])
    made = split(shelf, group_by="picture", k=3)
    assert sorted(tuple(shelf.cases.groups[case] for case in fold.validation) for fold in made.folds) == [
        ("a", "a"),
        ("b", "b"),
        ("c", "c"),
    ]
