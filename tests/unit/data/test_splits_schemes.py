import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import make_store
from tests.memory_store import make_cases
from udt_cluster.config.data import SplitsConfig
from udt_cluster.data.splits import Splits, make_splits
from udt_cluster.data.splits_classes import class_presence, refuse_absent_classes
from udt_cluster.data.splits_schemes import Fold
from udt_cluster.errors import DataError


def split(cases, *, presence=None, store=None, group_by="patient", **config) -> Splits:
    return make_splits(
        cases, SplitsConfig(**config), group_by=group_by, data_version="v1", presence=presence, store=store
    )


def ids_of(splits: Splits, cases) -> set[str]:
    return {splits.case_ids[case] for case in cases}


@st.composite
def tables(draw):
    """A table of whole groups on one side of the official split and at one site each, in any order of its rows."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=6, max_size=20))
    rows = []
    for group, size in enumerate(sizes):
        side = "train" if group < 3 else draw(st.sampled_from(["train", "validation", "test", "unknown"]))
        rows += [(f"g{group}-{n}", f"g{group}", side, f"site{group % 3}") for n in range(size)]
    rows = draw(st.permutations(rows))
    presence = np.array([[True, hash_bit(row[0], 2), hash_bit(row[0], 5)] for row in rows])
    ids, groups, splits, sites = zip(*rows, strict=True)
    return replace(make_cases(ids, groups=groups, splits=splits), sites=sites), presence


def hash_bit(name: str, modulus: int) -> bool:
    return sum(name.encode()) % modulus == 0


SCHEMES = ["group_kfold", "stratified_group_kfold", "holdout", "official", "leave_one_site_out"]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(table=tables(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_group_is_on_two_sides_and_nothing_is_lost(scheme, table, seed):
    cases, presence = table
    splits = split(cases, presence=presence, scheme=scheme, seed=seed, k=3)
    tests = {case for case, side in enumerate(cases.splits) if side == "test"}
    assert set(splits.test) == tests
    assert splits.k == len(splits.folds)
    for fold in splits.folds:
        assert all(list(side) == sorted(side, key=lambda case: cases.ids[case]) for side in (fold.train, splits.test))
        assert fold.train
        assert fold.validation
        sides = [set(fold.train), set(fold.validation), tests]
        assert sorted(case for side in sides for case in side) == list(range(len(cases)))
        groups = [{cases.groups[case] for case in side} for side in sides]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(table=tables(), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_table_does_not_matter(scheme, table, shuffle: random.Random):
    cases, presence = table
    rows = list(range(len(cases)))
    shuffle.shuffle(rows)
    columns = {name: tuple(getattr(cases, name)[row] for row in rows) for name in ("ids", "groups", "splits", "sites")}
    shuffled = replace(cases, **columns)
    ours = split(cases, presence=presence, scheme=scheme, k=3)
    theirs = split(shuffled, presence=presence[rows], scheme=scheme, k=3)
    assert ours.hash == theirs.hash
    assert ours.content() == theirs.content()


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("stratified_group_kfold", "5d4c31b6c11682c5"),
        ("holdout", "30d1129ee51d510f"),
        ("official", "4c4286a89a49f308"),
        ("leave_one_site_out", "dd06082ab7f2e4b3"),
    ],
)
def test_assignments_are_frozen(scheme, expected):
    """Written down once: a change here moves every published fold."""
    ids = [f"p{n:02}-{phase}" for n in range(12) for phase in "ab"]
    cases = make_cases(ids, groups=[i[:3] for i in ids], splits=["validation"] * 4 + ["test"] * 2 + ["train"] * 18)
    cases = replace(cases, sites=tuple(f"site{int(i[1:3]) % 4}" for i in ids))
    presence = np.array([[True, n % 2 == 0, n % 7 == 0] for n in range(24)])
    assert split(cases, presence=presence, scheme=scheme, k=3).hash == expected


def test_a_rare_class_is_shared_out():
    """Six of sixty patients have the class; by chance some folds have most of them."""
    cases = make_cases([f"c{n:02}" for n in range(60)])
    presence = np.array([[True, True, n % 10 == 3] for n in range(60)])
    for seed in range(5):
        folds = split(cases, presence=presence, scheme="stratified_group_kfold", k=3, seed=seed).folds
        assert [int(presence[list(fold.validation), 2].sum()) for fold in folds] == [2, 2, 2]
        assert [len(fold.validation) for fold in folds] == [20, 20, 20]
    by_chance = [split(cases, k=3, seed=seed).folds for seed in range(5)]
    assert any(presence[list(fold.validation), 2].sum() != 2 for folds in by_chance for fold in folds)


def test_a_rare_class_is_shared_out_beside_a_large_group():
    """Counting cases alone would give all four to the fold that the large group is not in."""
    groups = ["large"] * 8 + [f"rare{n}" for n in range(4)] + [f"plain{n}" for n in range(8)]
    cases = make_cases([f"{group}-{n}" for n, group in enumerate(groups)], groups=groups)
    presence = np.array([[True, True, group.startswith("rare")] for group in groups])
    for seed in range(5):
        folds = split(cases, presence=presence, scheme="stratified_group_kfold", k=2, seed=seed).folds
        assert [int(presence[list(fold.validation), 2].sum()) for fold in folds] == [2, 2]
        assert [len(fold.validation) for fold in folds] == [10, 10]


def test_cases_without_foreground_are_shared_out_too():
    cases = make_cases([f"c{n}" for n in range(40)])
    presence = np.array([[True, n >= 10] for n in range(40)])
    folds = split(cases, presence=presence, scheme="stratified_group_kfold", k=5).folds
    assert [sum(case < 10 for case in fold.validation) for fold in folds] == [2] * 5


def test_stratified_without_class_presence_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="class presence"):
        split(make_cases("abcdef"), scheme="stratified_group_kfold")


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, 2), (0.01, 1), (0.99, 9), (0.25, 3)])
def test_holdout_holds_out_its_share_of_the_groups(fraction, held_out):
    cases = make_cases([f"{group}{n}" for group in "abcdefghij" for n in range(2)], groups=[*"aabbccddeeffgghhiijj"])
    (fold,) = split(cases, scheme="holdout", validation_fraction=fraction).folds
    assert len(fold.validation) == 2 * held_out


def test_holdout_of_one_group_is_refused():
    with pytest.raises(DataError, match=r"has 1 .*a fold needs at least 2 groups"):
        split(make_cases(["a1", "a2"], groups=["a", "a"]), scheme="holdout")


def test_official_is_what_the_data_set_says():
    cases = make_cases([*"abcdef"], splits=["train", "validation", "test", "train", "validation", "unknown"])
    splits = split(cases, scheme="official")
    assert [ids_of(splits, side) for side in (splits.folds[0].train, splits.folds[0].validation, splits.test)] == [
        {"a", "d", "f"},
        {"b", "e"},
        {"c"},
    ]
    assert splits.warnings == ()


def test_official_without_validation_cases_is_a_holdout_and_says_so():
    cases = make_cases([f"c{n}" for n in range(12)], splits=["train"] * 10 + ["test"] * 2)
    splits = split(cases, scheme="official")
    assert splits.folds == split(cases, scheme="holdout").folds
    assert splits.test == (10, 11)
    assert "a holdout of 2 training cases" in splits.warnings[0]


@pytest.mark.parametrize(
    ("sides", "message"),
    [(["unknown"] * 4, "does not say which cases train"), (["validation"] * 3 + ["test"], "no training cases")],
)
def test_official_without_anything_official_is_refused(sides, message):
    with pytest.raises(DataError, match=message):
        split(make_cases([*"abcd"], splits=sides), scheme="official")


def test_each_site_is_held_out_once():
    cases = replace(make_cases([*"abcdef"]), sites=("Rome", "Oslo", "Rome", "Bonn", "Oslo", "Rome"))
    splits = split(cases, scheme="leave_one_site_out")
    assert [ids_of(splits, fold.validation) for fold in splits.folds] == [{"d"}, {"b", "e"}, {"a", "c", "f"}]
    assert splits.parameters == {"sites": ["Bonn", "Oslo", "Rome"]}


@pytest.mark.parametrize(
    ("sites", "message", "problems"),
    [
        ((), "site of 3 of 3 cases is not known", ("a", "b", "c")),
        (("Rome", "", "Oslo"), "site of 1 of 3 cases", ("b",)),
        (("Rome",) * 3, "two sites", ()),
    ],
)
def test_sites_must_be_known(sites, message, problems):
    with pytest.raises(DataError, match=message) as error:
        split(replace(make_cases([*"abc"]), sites=sites), scheme="leave_one_site_out")
    assert error.value.problems == problems


def from_file(cases, tmp_path, content, **more) -> Splits:
    path = tmp_path / "splits_final.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return split(cases, scheme="file", file=str(path), **more)


def test_folds_of_nnunet_there_and_back(tmp_path):
    cases = make_cases([f"hippocampus_{n:03}" for n in (1, 3, 4, 6)])
    folds = [
        {"train": ["hippocampus_001", "hippocampus_003"], "val": ["hippocampus_004", "hippocampus_006"]},
        {"train": ["hippocampus_004", "hippocampus_006"], "val": ["hippocampus_001", "hippocampus_003"]},
    ]
    splits = from_file(cases, tmp_path, folds)
    assert splits.k == 2
    assert splits.to_nnunet() == folds
    (tmp_path / "elsewhere").mkdir()
    assert from_file(cases, tmp_path / "elsewhere", folds).hash == splits.hash


def test_our_own_file_with_test_cases_and_cases_left_out(tmp_path):
    cases = make_cases([*"abcde"], splits=["test", "train", "train", "train", "train"])
    splits = from_file(cases, tmp_path, {"folds": [{"train": ["c"], "validation": ["b"]}], "test": ["d"]})
    assert splits.folds == (Fold(train=(2,), validation=(1,)),)
    assert splits.test == (0, 3)
    assert splits.warnings == ("data.splits.file does not name 1 of 5 cases: they are in no fold",)
    again = from_file(cases, tmp_path, splits.content())
    assert (again.folds, again.test) == (splits.folds, splits.test)


def test_names_that_are_no_cases_are_listed_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="no cases of the data set") as error:
        from_file(make_cases(["case_001", "case_002"]), tmp_path, [{"train": ["case001", "xyz"], "val": ["case_002"]}])
    assert error.value.problems == ("'case001', did you mean 'case_001'?", "'xyz'")


def test_folds_that_cannot_be_trained_are_listed(tmp_path):
    cases = make_cases([*"abc"], splits=["train", "train", "test"])
    folds = [{"train": ["a", "b"], "val": ["b"]}, {"train": ["a"], "val": []}, {"train": ["a", "c"], "val": ["b"]}]
    with pytest.raises(DataError) as error:
        from_file(cases, tmp_path, folds)
    assert error.value.problems == (
        "fold 0: b is in train and in validation",
        "fold 1: validation is empty",
        "fold 2: c is a test case",
    )


@pytest.mark.parametrize(
    "content",
    [
        *("", "[" * 100_000, "{}", "[]", "7", "[3]"),
        *('[{"train": ["a"]}]', '[{"train": "a", "val": ["b"]}]', '[{"train": [1], "val": []}]'),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"expected nnU-Net's"):
        from_file(make_cases([*"ab"]), tmp_path, content)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json: there is no such file"):
        split(make_cases([*"ab"]), scheme="file", file=str(tmp_path / "nowhere.json"))


def test_class_presence_agrees_with_the_labels(tmp_path):
    for num_classes in (2, 4):
        store = make_store(
            tmp_path, slices=(1, 2, 3, 1, 5), empty=(0, 3), num_classes=num_classes, version=str(num_classes)
        )
        labels = store.read_samples(0, store.num_samples)[1]
        expected = [
            [v == 0 or (labels[store.sample_case == c] == v).any() for v in range(num_classes)] for c in range(5)
        ]
        assert class_presence(store).tolist() == expected
        assert not class_presence(store)[0, 1:].any()


def test_stratified_folds_of_a_store(tmp_path):
    store = make_store(tmp_path, slices=(1,) * 8, empty=(0, 1, 2, 3), num_classes=3)
    folds = split(store.cases, store=store, scheme="stratified_group_kfold", k=2).folds
    assert [sum(case < 4 for case in fold.validation) for fold in folds] == [2, 2]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_fault_D6_a_class_that_no_training_case_has_is_refused(tmp_path, num_classes):
    store = make_store(tmp_path, slices=(1,) * 6, empty=(0, 1, 2, 3), num_classes=num_classes)
    folds = (Fold(train=(0, 1, 4), validation=(2, 3, 5)), Fold(train=(0, 1, 2), validation=(4, 5)))
    with pytest.raises(DataError, match="cannot be learned") as error:
        refuse_absent_classes(store, folds)
    names = ["first", "second"][: num_classes - 1]
    assert error.value.problems == tuple(f"fold 1: no training case has class {name!r}" for name in names)
    content = [{"train": ["case-00", "case-01"], "val": ["case-04"]}]
    with pytest.raises(DataError, match="cannot be learned"):
        from_file(store.cases, tmp_path, content, store=store)


def test_labels_are_read_only_until_every_class_was_seen(tmp_path):
    store = make_store(tmp_path, slices=(1,) * 40, num_classes=3, shard_samples=4)
    reads = []

    class Counted:
        def __getitem__(self, rows: slice) -> np.ndarray:
            reads.append(rows)
            return labels[rows]

    labels, store.labels = store.labels, Counted()
    refuse_absent_classes(store, [Fold(train=tuple(range(20)), validation=tuple(range(20, 40)))])
    assert reads == [slice(0, 4)]
