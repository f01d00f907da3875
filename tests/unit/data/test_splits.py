import json
import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.memory_store import make_cases
from udt_cluster.config.data import AcceptedLeak, SplitsConfig
from udt_cluster.data.splits import Splits, load_splits, make_splits, save_splits, splits_location
from udt_cluster.errors import CorruptError, DataError, VersionError
from udt_cluster.storage import Location


def split(cases, *, k=5, seed=1234, group_by="patient", data_version="v1") -> Splits:
    return make_splits(cases, SplitsConfig(k=k, seed=seed), group_by=group_by, data_version=data_version)


def volumes(patients: int, *, phases: int = 2):
    ids = [f"patient{n:03}-{phase}" for n in range(patients) for phase in range(phases)]
    return make_cases(ids, groups=[case_id.partition("-")[0] for case_id in ids])


def folds_by_id(splits: Splits) -> list[tuple[set[str], set[str]]]:
    ids = splits.case_ids
    return [({ids[c] for c in fold.train}, {ids[c] for c in fold.validation}) for fold in splits.folds]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=5, max_size=40),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(2, 5),
)
def test_folds_partition_the_cases_and_keep_groups_whole(sizes, seed, k):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    cases = make_cases([f"c{number}" for number in range(len(groups))], groups=groups)
    splits = split(cases, k=k, seed=seed)
    everything = set(range(len(groups)))
    assert sorted(case for fold in splits.folds for case in fold.validation) == sorted(everything)
    for fold in splits.folds:
        assert set(fold.train) | set(fold.validation) == everything
        assert not {groups[c] for c in fold.train} & {groups[c] for c in fold.validation}
    counts = [len(fold.validation) for fold in splits.folds]
    assert max(counts) - min(counts) <= max(sizes)


def test_equal_groups_give_equal_folds():
    counts = [len(fold.validation) for fold in split(volumes(100), k=5).folds]
    assert counts == [40] * 5


def test_the_order_of_the_table_does_not_matter():
    cases = volumes(20)
    rows = list(range(len(cases)))
    random.Random(3).shuffle(rows)
    shuffled = make_cases([cases.ids[r] for r in rows], groups=[cases.groups[r] for r in rows])
    ours, theirs = split(cases), split(shuffled)
    assert ours.hash == theirs.hash
    assert folds_by_id(ours) == folds_by_id(theirs)
    assert ours.folds != theirs.folds  # indices follow the table


def test_the_seed_matters_and_the_assignment_is_frozen():
    assert split(volumes(20), seed=1).hash != split(volumes(20), seed=2).hash
    # Written down once: a change here moves every published fold.
    assert split(volumes(6, phases=1), k=3, seed=1234).hash == "3b5d17b9615e70c7"


def test_hash_covers_the_content_but_not_the_data_version():
    cases = volumes(10)
    assert split(cases, data_version="other").hash == split(cases).hash
    assert split(cases, k=4).hash != split(cases).hash
    assert split(cases, group_by="case").hash != split(cases).hash
    moved = make_cases(cases.ids, groups=cases.groups, splits=["test", "test", *["train"] * 18])
    assert split(moved).hash != split(cases).hash


def test_official_test_cases_are_in_no_fold():
    ids = [f"c{n}" for n in range(12)]
    splits = split(make_cases(ids, splits=["test"] * 2 + ["train"] * 8 + ["unknown"] * 2))
    assert splits.test == (0, 1)
    assert {case for fold in splits.folds for case in fold.validation} == {ids.index(i) for i in ids[2:]}
    assert splits.warnings == ()


def test_group_by_case_makes_groups_of_one_and_warns_when_patients_are_known():
    splits = split(volumes(3), k=5, group_by="case")
    assert [len(fold.validation) for fold in splits.folds] == [2, 1, 1, 1, 1]
    assert "3 patients have several cases" in splits.warnings[0]
    assert split(volumes(6, phases=1), k=5, group_by="case").warnings == ()


@pytest.mark.parametrize(
    ("patients", "remedy"), [(4, "set data.splits.k to at most 4"), (1, "a fold needs at least 2 groups")]
)
def test_fewer_groups_than_folds_is_refused_with_the_numbers(patients, remedy):
    with pytest.raises(DataError) as error:
        split(volumes(patients), k=5)
    assert f"5 folds need at least 5 groups, but the data set has {patients}" in str(error.value)
    assert f"{2 * patients} cases" in str(error.value)
    assert remedy in str(error.value)


def test_test_cases_do_not_count_as_groups():
    with pytest.raises(DataError, match=r"has 3 .*3 cases for training and 2 official test cases"):
        split(make_cases(["a", "b", "c", "d", "e"], splits=["test", "test", "train", "train", "train"]))


def test_twin_ids_are_listed():
    with pytest.raises(DataError) as error:
        split(make_cases(["a", "b", "a", "b", "c"]), k=2)
    assert error.value.problems == ("a", "b")


def test_unknown_group_by_is_refused():
    with pytest.raises(ValueError, match="allowed: patient, picture, case"):
        split(volumes(5), group_by="site")


def test_saved_beside_the_store_and_read_back(tmp_path):
    cases = volumes(10)
    store = Location.parse(tmp_path) / "acdc" / "v1"
    splits = split(cases)
    location = save_splits(store, splits)
    assert location == splits_location(store, splits.hash)
    assert location.local_path == tmp_path / "acdc" / "splits" / f"v1-{splits.hash}.json"
    assert load_splits(location, cases) == splits
    before = location.read_bytes()
    assert save_splits(store, splits) == location
    assert location.read_bytes() == before
    assert b"patient003-1" in before


def test_read_back_into_a_table_of_another_order(tmp_path):
    cases = volumes(10)
    reordered = make_cases(cases.ids[::-1], groups=cases.groups[::-1])
    location = save_splits(Location.parse(tmp_path) / "acdc" / "v1", split(cases))
    loaded = load_splits(location, reordered)
    assert folds_by_id(loaded) == folds_by_id(split(cases))
    assert loaded.hash == split(cases).hash


def test_splits_of_the_first_format_are_read(tmp_path):
    """Written by the first release: no parameters, no accepted leaks."""
    splits = split(volumes(6, phases=1), k=3)
    content = json.loads(save_splits(Location.parse(tmp_path) / "acdc" / "v1", splits).read_bytes())
    assert content["format_version"] == 1
    assert content.keys() == {
        "format_version", "scheme", "k", "seed", "group_by", "folds", "test", "warnings"
    }  # fmt: skip


def test_parameters_and_accepted_leaks_are_saved_and_hashed(tmp_path):
    cases = replace(volumes(10, phases=1), digests=("same", "same", *map(str, range(8))))
    leak = AcceptedLeak(cases=("patient001-0", "patient000-0"), reason="the same phantom, scanned twice")
    config = SplitsConfig(scheme="holdout", seed=held_apart(cases))
    splits = make_splits(cases, config, group_by="patient", data_version="v1", accept_leaks=[leak])
    location = save_splits(Location.parse(tmp_path) / "acdc" / "v1", splits)
    assert load_splits(location, cases) == splits
    content = json.loads(location.read_bytes())
    assert content["format_version"] == 2
    assert content["parameters"] == {"validation_fraction": 0.2}
    assert content["accepted_leaks"] == [{"cases": ["patient000-0", "patient001-0"], "reason": leak.reason}]
    other = replace(splits, accepted_leaks=({**splits.accepted_leaks[0], "reason": "another reason"},))
    assert other.hash != splits.hash
    assert replace(splits, parameters={"validation_fraction": 0.3}).hash != splits.hash
    assert replace(splits, notes=("seen in the images",)).hash == splits.hash


def held_apart(cases) -> int:
    """A seed whose holdout separates the first two cases."""
    for seed in range(100):
        config = SplitsConfig(scheme="holdout", seed=seed)
        (fold,) = make_splits(replace(cases, digests=()), config, group_by="patient", data_version="v1").folds
        if (0 in fold.validation) != (1 in fold.validation):
            return seed
    raise AssertionError("100 seeds keep the first two cases together")


def test_splits_survive_a_pickle():
    splits = split(volumes(5))
    assert pickle.loads(pickle.dumps(splits)) == splits


def test_splits_of_another_version_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="v1"):
        save_splits(Location.parse(tmp_path) / "acdc" / "v2", split(volumes(5)))


def test_absent_splits_are_named(tmp_path):
    location = splits_location(Location.parse(tmp_path) / "acdc" / "v1", "0" * 16)
    with pytest.raises(DataError, match="no splits 0000000000000000 at"):
        load_splits(location, volumes(5))


@pytest.mark.parametrize("damage", ["edit", "truncate", "list"])
def test_changed_splits_are_refused(tmp_path, damage):
    cases = volumes(5)
    location = save_splits(Location.parse(tmp_path) / "acdc" / "v1", split(cases))
    content = location.read_bytes()
    location.write_bytes(
        {"edit": content.replace(b"patient000-0", b"patient001-0", 1), "truncate": content[:-9], "list": b"[]"}[damage]
    )
    with pytest.raises(CorruptError, match="prepare"):
        load_splits(location, cases)


def test_splits_that_name_other_cases_are_refused(tmp_path):
    location = save_splits(Location.parse(tmp_path) / "acdc" / "v1", split(volumes(6)))
    with pytest.raises(CorruptError) as error:
        load_splits(location, volumes(5))
    assert error.value.problems == ("patient005-0", "patient005-1")


def test_a_later_format_is_a_version_error(tmp_path):
    location = save_splits(Location.parse(tmp_path) / "acdc" / "v1", split(volumes(5)))
    location.write_bytes(json.dumps({**json.loads(location.read_bytes()), "format_version": 3}).encode())
    with pytest.raises(VersionError, match="format 3"):
        load_splits(location, volumes(5))
