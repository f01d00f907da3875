"""`data rm` removes what is damaged, too: it is what a damaged data set's message asks for."""

from pathlib import Path

import pytest

from tests.factories import make_store
from udt_cluster.cluster.client import datasets
from udt_cluster.cluster.client.targets import LOCAL, Target
from udt_cluster.data import DataStore
from udt_cluster.errors import CorruptError, DataError


@pytest.fixture(autouse=True)
def unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job and no model needs anything."""
    monkeypatch.setattr(datasets, "in_use", lambda target: {})


def test_fault_z3_a_version_with_damaged_metadata_can_be_removed(tmp_path: Path) -> None:
    store = make_store(tmp_path, version="v0")
    other = make_store(tmp_path, version="w0")
    part = store.location / "samples/case/zarr.json"
    part.write_bytes(part.read_bytes().replace(b"int32", b"int33"))
    with pytest.raises(CorruptError, match="udt-cluster data rm DATASET/VERSION"):
        DataStore.open(store.location)
    removed = datasets.remove_data(Target(LOCAL, storage=str(tmp_path)), "tiny/v0")
    assert removed == {"uri": store.location.uri, "dataset": "tiny", "version": "v0"}
    assert not store.location.entries()
    assert DataStore.open(other.location).num_samples == other.num_samples


def test_what_is_no_data_set_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="nothing was removed"):
        datasets.remove_data(Target(LOCAL, storage=str(tmp_path)), str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.txt").exists()
