"""Which versions there are, and that gc removes what nobody uses and nothing else."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import make_store
from udt_cluster.data import DataStore
from udt_cluster.data.versions import (
    DAY,
    Staging,
    Version,
    collect,
    list_staging,
    list_versions,
    plan_collection,
    remove_version,
    staging_root,
    version_root,
)
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

NOW = 1_000_000_000.0


def version(dataset: str, name: str, *, committed: bool, age: float) -> Version:
    return Version(
        dataset=dataset,
        version=name,
        location=version_root(Location.parse("s3://bucket/p"), dataset, name),
        committed=committed,
        objects=1,
        size=10,
        modified=NOW - age,
    )


def staging(dataset: str, *, age: float) -> Staging:
    location = staging_root(Location.parse("s3://bucket/p"), dataset)
    return Staging(dataset=dataset, location=location, objects=1, size=7, modified=NOW - age)


def removed(*found: Version | Staging, keep: set[str] = frozenset(), older_than: float = 3 * DAY) -> dict[str, str]:
    removals = plan_collection(
        [each for each in found if isinstance(each, Version)],
        [each for each in found if isinstance(each, Staging)],
        keep=keep,
        older_than=older_than,
        now=NOW,
    )
    return {removal.uri.removeprefix("s3://bucket/p/"): removal.why for removal in removals}


def test_finished_versions_go_when_nobody_uses_them_and_they_are_old() -> None:
    found = [
        version("d", name, committed=True, age=age * DAY) for name, age in (("a", 9), ("b", 9), ("c", 9), ("e", 1))
    ]
    assert removed(*found, keep={"a", "d/b"}) == {"data/d/c": "not used"}
    assert removed(*found, keep={"a", "x/b", "c"}) == {"data/d/b": "not used"}, "b of another data set"


def test_unfinished_ones_go_after_a_day_whatever_is_kept() -> None:
    old, young = version("d", "a", committed=False, age=2 * DAY), version("x", "b", committed=False, age=0.5 * DAY)
    assert removed(old, young, keep={"a", "b"}) == {"data/d/a": "never finished"}


def test_nothing_of_a_data_set_goes_while_a_preparation_may_be_at_work_on_it() -> None:
    """It writes staged cases first and then, for days, shards only; or the other way round."""
    old, stage = version("d", "a", committed=False, age=2 * DAY), staging("d", age=3 * DAY)
    assert removed(old, stage) == {"data/d/a": "never finished", "staging/d": "left by a preparation"}
    assert removed(old, replace(stage, modified=NOW - 60)) == {}
    assert removed(replace(old, modified=NOW - 60), stage) == {}
    assert removed(stage, version("d", "b", committed=True, age=60)) == {"staging/d": "left by a preparation"}


def make_old(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_versions_are_listed_as_they_lie(tmp_path: Path) -> None:
    storage = Location.parse(tmp_path)
    assert list_versions(storage) == ()
    store = make_store(tmp_path, dataset="b", version="v1")
    make_store(tmp_path, dataset="a", version="v0")
    (storage / "data/b/v2/images/c/0/0/0/0").write_bytes(b"12345")
    (storage / "data/b/v2/splits/COMMIT").write_bytes(b"")
    (storage / "data/stray.txt").write_bytes(b"")
    found = list_versions(storage)
    assert [(each.name, each.committed) for each in found] == [("a/v0", True), ("b/v1", True), ("b/v2", False)]
    assert found[1].location == store.location
    assert found[1].objects == len(store.commit.objects) + 1
    assert (found[2].objects, found[2].size) == (2, 5)
    assert abs(found[2].modified - time.time()) < 60


def test_gc_removes_what_it_plans_and_the_rest_still_opens(tmp_path: Path) -> None:
    storage = Location.parse(tmp_path)
    for name in ("used", "unused"):
        make_store(tmp_path, dataset="d", version=name)
    (storage / "data/e/half/images/c/0/0/0/0").write_bytes(b"12345")
    (storage / "staging/e/cases/ab/abc").write_bytes(b"123")
    assert collect(storage, keep={"used"}, older_than=DAY) == ()
    make_old(tmp_path, 2 * DAY)
    (storage / "staging/f/cases/ab/abc").write_bytes(b"at work")
    planned = collect(storage, keep={"used"}, older_than=DAY, dry_run=True)
    assert len(list_versions(storage)) == 3
    gone = collect(storage, keep={"used"}, older_than=DAY)
    assert gone == planned
    assert [(removal.uri.rpartition("/")[2], removal.why) for removal in gone] == [
        ("unused", "not used"),
        ("half", "never finished"),
        ("e", "left by a preparation"),
    ]
    assert gone[1].bytes == 5
    assert [each.name for each in list_versions(storage)] == ["d/used"]
    assert [each.dataset for each in list_staging(storage)] == ["f"]
    assert DataStore.open(storage / "data/d/used", verify_checksums=True).num_samples == 9
    assert collect(storage, keep={"used"}, older_than=DAY) == ()


def test_a_removal_that_breaks_off_leaves_no_data_set_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    with monkeypatch.context() as changed:
        changed.setattr(Location, "delete_tree", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            remove_version(store.location)
    assert store.location.entries()
    with pytest.raises(DataError, match="no COMMIT"):
        DataStore.open(store.location)
    remove_version(store.location)
    assert store.location.entries() == []
    remove_version(store.location)


def test_splits_are_no_version_and_go_with_theirs(tmp_path: Path) -> None:
    storage = Location.parse(tmp_path)
    root = version_root(storage, "d", "v1")
    for key in ("v1/COMMIT", "v1/zarr.json", "v2/COMMIT", "splits/v1-ab.json", "splits/v2-cd.json"):
        (storage / "data/d" / key).write_bytes(b"{}")
    assert [found.name for found in list_versions(storage)] == ["d/v1", "d/v2"]
    remove_version(root)
    assert [entry.key for entry in (storage / "data/d").entries()] == ["splits/v2-cd.json", "v2/COMMIT"]
    aged = NOW
    for path in (tmp_path / "data/d/splits").iterdir():
        os.utime(path, (aged, aged))
    assert collect(storage, keep={"v2"}, older_than=0) == ()
