"""Which cases a model is explained on: never those that it was trained on, and never the test cases unasked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories import make_store
from udt_cluster.cluster.client.explaining import ExplainRequest, explain_model
from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.data import SplitsConfig
from udt_cluster.config.job import ModelConfig
from udt_cluster.data import DataStore, Normalization, make_splits, save_splits
from udt_cluster.errors import DataError, UsageError
from udt_cluster.evaluation import ModelSpec, SegmentationModel
from udt_cluster.evaluation.explain import ExplainSettings
from udt_cluster.models import build_model

SPLIT = ("train",) * 6 + ("test",) * 2
NO_PICTURES = ExplainSettings(pictures=0)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target("local", storage=str(tmp_path / "storage"))


@pytest.fixture
def store(target: Target) -> Callable[..., DataStore]:
    def make(**settings: Any) -> DataStore:
        return make_store(Path(str(target.storage)), slices=(1,) * 8, splits=SPLIT, **settings)

    return make


def with_splits(store: DataStore) -> str:
    """Two folds, saved; what a model's lineage calls them."""
    config = SplitsConfig(scheme="group_kfold", k=2, seed=1)
    splits = make_splits(store.cases, config, group_by="case", data_version=store.info.version)
    return save_splits(store.location, splits).name


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """The folder of a U-Net for a store, with a lineage."""

    def make(store: DataStore, *, lineages: Sequence[dict[str, Any]] = ({},), name: str = "model") -> str:
        info = store.info
        normalization = Normalization.from_fingerprint("auto", info.fingerprint, info.dtype)
        lineage = {"members": list(lineages)} if len(lineages) > 1 else lineages[0]
        spec = ModelSpec.for_store(ModelConfig(architecture="unet"), info, normalization=normalization, lineage=lineage)
        torch.manual_seed(0)
        networks = [build_model(spec.model, in_channels=1, num_classes=1) for _ in lineages]
        SegmentationModel(spec, networks).save_folder(tmp_path / name)
        return str(tmp_path / name)

    return make


@pytest.fixture
def asked(target: Target, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Explain, and say which cases of the store it was done on."""

    def run(model: str, **request: Any) -> dict[str, Any]:
        said: list[str] = []
        output = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        found = explain_model(
            target, ExplainRequest(model=model, output=output, **request), settings=NO_PICTURES, on_event=said.append
        )
        rows = [line.split(",") for line in (output / "zeroed.csv").read_text().splitlines()[1:]]
        return {**found, "of_member": sorted({(int(row[0]), row[1]) for row in rows}), "said": said}

    return run


def lineage_of(store: DataStore, **changed: Any) -> dict[str, Any]:
    return {
        "dataset": store.info.dataset,
        "data_version": store.info.version,
        "splits": with_splits(store),
        "fold": 1,
        **changed,
    }


def validation(store: DataStore, fold: int) -> list[str]:
    from udt_cluster.data import load_splits
    from udt_cluster.data.splits import splits_location

    hashed = with_splits(store).removesuffix(".json").rpartition("-")[2]
    splits = load_splits(splits_location(store.location, hashed), store.cases)
    return sorted(store.cases.ids[case] for case in splits.folds[fold].validation)


def test_the_cases_are_those_that_the_fold_held_out(store, saved, asked) -> None:
    made = store()
    found = asked(saved(made, lineages=[lineage_of(made)]))
    assert [case for _, case in found["of_member"]] == validation(made, 1)
    assert found["about"]["on"] == "validation cases of fold 1"
    assert (found["run_id"], found["run_url"]) == (None, None), "a folder has no run"
    assert Path(found["page"]).is_file()
    assert found["said"][-1] == "cases 3/3"


def test_the_test_cases_only_when_they_are_asked_for(store, saved, asked) -> None:
    made = store()
    found = asked(saved(made, lineages=[lineage_of(made)]), test=True)
    assert [case for _, case in found["of_member"]] == ["case-06", "case-07"]


def test_each_member_of_an_ensemble_has_the_cases_of_its_fold(store, saved, asked) -> None:
    made = store()
    found = asked(saved(made, lineages=[lineage_of(made, fold=fold) for fold in (0, 1)]))
    wanted = [(fold, case) for fold in (0, 1) for case in validation(made, fold)]
    assert found["of_member"] == sorted(wanted)
    assert found["about"]["on"] == "validation cases of folds 0, 1"


def test_fewer_cases_are_drawn_and_that_is_said(store, saved, asked) -> None:
    made = store()
    model = saved(made, lineages=[lineage_of(made)])
    found, again = asked(model, cases=2), asked(model, cases=2)
    assert len(found["of_member"]) == 2
    assert found["of_member"] == again["of_member"]
    assert found["warnings"][0].startswith("2 of the validation cases")


def test_the_same_data_at_another_version_has_the_same_folds(store, saved, asked) -> None:
    made = store()
    model = saved(made, lineages=[lineage_of(made)])
    other = store(version="v1")
    with pytest.raises(DataError, match="which cases it was trained on cannot be told"):
        asked(model, data="tiny/v1")
    with_splits(other)
    found = asked(model, data="tiny/v1")
    assert [case for _, case in found["of_member"]] == validation(made, 1)
    assert found["about"]["data"] == "tiny/v1"


def test_of_other_data_all_cases_are_taken_but_the_test_cases(store, saved, asked) -> None:
    made = store()
    model = saved(made, lineages=[lineage_of(made)])
    other = store(dataset="other", seed=5)
    found = asked(model, data=other.location.uri)
    assert [case for _, case in found["of_member"]] == [f"case-0{n}" for n in range(6)]
    assert [case for _, case in asked(model, data="other/v0", test=True)["of_member"]] == ["case-06", "case-07"]


def test_a_model_that_does_not_say_where_it_comes_from(store, saved, asked) -> None:
    made = store()
    model = saved(made)
    with pytest.raises(UsageError, match="give --data STORE"):
        asked(model)
    with pytest.raises(UsageError, match=r"does not say what it was trained on: .* with --test"):
        asked(model, data="tiny/v0")
    assert [case for _, case in asked(model, data="tiny/v0", test=True)["of_member"]] == ["case-06", "case-07"]


def test_data_that_are_gone(store, saved, asked) -> None:
    made = store()
    model = saved(made, lineages=[lineage_of(made, data_version="gone")])
    with pytest.raises(DataError, match="trained on tiny/gone, which is not at"):
        asked(model)
    with pytest.raises(UsageError, match="0 data sets answer to 'liver'"):
        asked(model, data="liver")


def test_no_test_cases(saved, asked, target: Target) -> None:
    made = make_store(Path(str(target.storage)), slices=(1,) * 6)
    with pytest.raises(DataError, match="has no test cases"):
        asked(saved(made, lineages=[lineage_of(made)]), test=True)


def test_no_such_model(asked, isolated_home: Path) -> None:
    with pytest.raises(UsageError, match="nothing is there"):
        asked(f"file://{isolated_home}/nowhere")
