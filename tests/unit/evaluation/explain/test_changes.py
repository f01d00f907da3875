"""Which case stands in for which, and which slice of it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udt_cluster.evaluation.explain.changes import Change, changes_of, choose_donors, donor_slices

GROUPS = st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40)


@settings(deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_every_case_gets_another_one_each_case_once(groups: list[str], seed: int) -> None:
    donors = choose_donors(groups, seed=seed)
    assert sorted(donors.of) == list(range(len(groups)))
    assert all(case != donor for case, donor in enumerate(donors.of))


@settings(deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_donors_are_of_other_groups_exactly_where_that_can_be(groups: list[str], seed: int) -> None:
    donors = choose_donors(groups, seed=seed)
    assert donors.other_groups == (2 * max(Counter(groups).values()) <= len(groups))
    if donors.other_groups:
        assert all(groups[case] != groups[donor] for case, donor in enumerate(donors.of))


def test_one_case_has_no_donor() -> None:
    assert choose_donors(["a"], seed=0).of == ()


def test_the_seed_decides() -> None:
    groups = [str(number) for number in range(30)]
    assert choose_donors(groups, seed=1) == choose_donors(groups, seed=1)
    assert choose_donors(groups, seed=1) != choose_donors(groups, seed=2)


@pytest.mark.parametrize(
    ("depth", "donor", "wanted"), [(1, 1, [0]), (1, 9, [4]), (3, 1, [0, 0, 0]), (3, 5, [0, 2, 4]), (4, 4, [0, 1, 2, 3])]
)
def test_slices_are_taken_at_the_same_share_of_the_way(depth: int, donor: int, wanted: list[int]) -> None:
    assert donor_slices(depth, donor) == wanted


def test_changes_are_each_level_and_all_of_them() -> None:
    assert [(c.kind, c.level, c.levels) for c in changes_of((1, 3), shuffled=True)] == [
        ("zeroed", "1", (1,)),
        ("zeroed", "3", (3,)),
        ("zeroed", "all", (1, 3)),
        ("shuffled", "1", (1,)),
        ("shuffled", "3", (3,)),
        ("shuffled", "all", (1, 3)),
    ]
    assert changes_of((2,), shuffled=False) == (Change("zeroed", (2,)),)
    assert changes_of((), shuffled=True) == ()
