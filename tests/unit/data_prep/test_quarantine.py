"""Bad cases are left out by name and reason, if the job says so; and what no policy lets pass."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import FileIndex, InProcessExecutor, Prepared, find_version, prepare
from data_prep.case import BadCase, Case, Discovery
from data_prep.discovery import Found
from data_prep.phantom import glas
from data_prep.privacy import Pseudonyms, privacy_gate
from data_prep.quarantine import describe
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import AuthError, DataError
from udt_cluster.storage import Location


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glands")
    glas(folder, train=5, test=1, size=(48, 64))
    return folder


@pytest.fixture
def glands(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "glands"))


def job(source: Path, **fields: object) -> DataConfig:
    values = {"source": str(source), "adapter": "glas", "size": (32, 32), "group_by": "case", **fields}
    return DataConfig.model_validate(values)


def run(config: DataConfig, folder: Path, **options: object) -> Prepared:
    index = FileIndex(folder / "i.db")
    return prepare(config, "set", Location.parse(folder / "s"), executor=InProcessExecutor(), index=index, **options)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_bad_cases_are_left_out_by_name_and_reason(glands: Path, tmp_path: Path) -> None:
    cut(glands / "Train_Folder/img/2.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(glands / "Train_Folder/labelcol/4.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(glands / "Train_Folder/img/5.png")
    prepared = run(job(glands, on_bad_case="quarantine"), tmp_path)
    store = DataStore.open(prepared.location, verify_checksums=True)
    assert store.cases.ids == ("test_1", "train_1", "train_3")
    left_out = store.info.provenance["quarantined"]
    assert [entry["id"] for entry in left_out] == ["train_2", "train_4", "train_5"]
    assert "1 channel(s), where most cases have 3" in left_out[2]["reason"]
    assert all(entry["id"] in warning for entry, warning in zip(left_out, store.info.warnings[-3:], strict=True))
    assert not any("png" in entry["reason"] or "Folder" in entry["reason"] for entry in left_out)
    assert store.info.fingerprint.num_cases == 3


def test_the_statistics_are_those_of_the_cases_that_are_left(glands: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(glands / "Train_Folder/img/5.png")
    cut(glands / "Train_Folder/img/2.png")
    store = DataStore.open(run(job(glands, on_bad_case="quarantine"), tmp_path).location)
    images, labels = store.read_samples(0, store.num_samples)
    np.testing.assert_allclose(store.info.fingerprint.mean, images.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(store.info.fingerprint.class_fractions, np.bincount(labels.ravel()) / labels.size)


def test_the_policy_is_part_of_the_version(whole: Path, tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "i.db")
    strict, lenient = (find_version(job(whole, on_bad_case=p), "set", index)[0] for p in ("fail", "quarantine"))
    assert strict != lenient


def test_good_cases_that_a_strict_run_has_staged_are_used(glands: Path, tmp_path: Path) -> None:
    cut(glands / "Train_Folder/img/2.png")
    with pytest.raises(DataError, match="quarantine"):
        run(job(glands), tmp_path)
    staging = tmp_path / "s/staging"
    before = {path: path.stat().st_mtime_ns for path in staging.rglob("*") if path.is_file()}
    assert len(before) == 5
    seen: list[dict[Path, int]] = []
    run(
        job(glands, on_bad_case="quarantine"),
        tmp_path,
        on_progress=lambda *_: seen.append({path: path.stat().st_mtime_ns for path in before if path.exists()}),
    )
    assert seen[0] == seen[-1] == before


def test_when_every_case_is_bad_it_is_refused(glands: Path, tmp_path: Path) -> None:
    for path in glands.rglob("img/*.png"):
        cut(path)
    with pytest.raises(DataError, match="no case is left") as refused:
        run(job(glands, on_bad_case="quarantine"), tmp_path)
    assert len(refused.value.problems) == 6
    assert not Location.parse(tmp_path / "s/data").entries()


def test_fault_D7_files_that_may_not_be_read_cost_their_cases_only(
    glands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What mode 000 gives to all but root."""
    checksum = Location.checksum

    def refused(self: Location) -> object:
        if self.uri.endswith("Train_Folder/img/2.png"):
            raise AuthError(f"{self}: the file system refused access")
        return checksum(self)

    monkeypatch.setattr(Location, "checksum", refused)
    store = DataStore.open(run(job(glands, on_bad_case="quarantine"), tmp_path).location)
    assert [entry["id"] for entry in store.info.provenance["quarantined"]] == ["train_2"]
    assert "may not be read" in store.info.provenance["quarantined"][0]["reason"]
    assert len(store.cases) == 5
    with pytest.raises(DataError, match=r"img/2\.png: may not be read"):
        run(job(glands), tmp_path)


@pytest.mark.parametrize("policy", ["fail", "quarantine"])
def test_fault_D6_a_class_that_no_training_case_has_is_refused(glands: Path, tmp_path: Path, policy: str) -> None:
    for path in (glands / "Train_Folder/labelcol").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)
    with pytest.raises(DataError, match="no training case has a pixel of class gland") as refused:
        run(job(glands, on_bad_case=policy), tmp_path)
    assert refused.value.exit_code == 3


def test_fault_D6_empty_masks_are_allowed_and_counted(glands: Path, tmp_path: Path) -> None:
    for number in (1, 3):
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(glands / f"Train_Folder/labelcol/{number}.png")
    store = DataStore.open(run(job(glands), tmp_path).location)
    assert store.info.provenance["empty_samples"] == 2
    _, labels = store.read_samples(0, store.num_samples)
    assert store.sample_foreground.tolist() == np.count_nonzero(labels, axis=(1, 2)).tolist()
    assert [name for name, n in zip(store.cases.ids, store.sample_foreground, strict=True) if n == 0] == [
        "train_1",
        "train_3",
    ]


def test_reasons_name_no_file() -> None:
    case = Case(id="x", group="x", split="train", images=("a/1.png", "a/11.png"), labels=("Mustermann/m.png",))
    problems = ("x: a/11.png is cut", "m.png is empty", "Mustermann/m.png: JPEG")
    assert describe(BadCase(case, problems)) == "image 2 is cut; the label is empty; the label: JPEG"


def pseudonyms(secret: str) -> Callable[[Discovery], Discovery]:
    """Other names for cases and groups."""

    def rename(found: Discovery) -> Discovery:
        cases = (replace(c, id=f"{secret}-{n}", group=f"{secret}-g{n}") for n, c in enumerate(found.cases))
        return replace(found, cases=tuple(cases))

    return rename


def test_renamed_cases_are_another_version_with_the_same_pixels(glands: Path, tmp_path: Path) -> None:
    cut(glands / "Train_Folder/img/2.png")
    config = job(glands, on_bad_case="quarantine")
    plain, renamed = run(config, tmp_path), run(config, tmp_path, rename=pseudonyms("p"))
    other = find_version(config, "set", FileIndex(tmp_path / "i.db"), rename=pseudonyms("q"))[0]
    assert len({plain.version, renamed.version, other}) == 3
    stores = [DataStore.open(prepared.location) for prepared in (plain, renamed)]
    assert stores[1].cases.ids == ("p-0", "p-1", "p-3", "p-4", "p-5")
    assert stores[1].cases.groups[1] == "p-g1"
    assert stores[1].cases.digests == stores[0].cases.digests
    assert np.array_equal(stores[0].read_samples(0, 5)[0], stores[1].read_samples(0, 5)[0])
    for path in renamed.location.local_path.rglob("*"):
        assert path.is_dir() or b"train_" not in path.read_bytes()


def test_fault_D7_pictures_without_a_mask_are_left_out_by_name(glands: Path, tmp_path: Path) -> None:
    (glands / "Train_Folder/labelcol/2.png").unlink()
    (glands / "Train_Folder/img/4.png").unlink()
    cut(glands / "Train_Folder/img/5.png")
    with pytest.raises(DataError) as refused:
        run(job(glands), tmp_path)
    assert len(refused.value.problems) == 2
    assert "set data.on_bad_case: quarantine to leave these out" in refused.value.message
    prepared = run(job(glands, on_bad_case="quarantine"), tmp_path)
    store = DataStore.open(prepared.location, verify_checksums=True)
    assert store.cases.ids == ("test_1", "train_1", "train_3")
    left_out = {entry["id"]: entry["reason"] for entry in store.info.provenance["quarantined"]}
    assert left_out.keys() == {"2", "4", "train_5"}
    assert left_out["2"] == "there is no mask for this image"
    assert left_out["4"] == "there is no image for this mask"
    for said in (prepared.warnings, store.info.warnings):
        assert "case 2 is left out: there is no mask for this image" in said


def test_another_missing_mask_is_another_version_and_its_return_is_the_whole_one(glands: Path, tmp_path: Path) -> None:
    config, index = job(glands, on_bad_case="quarantine"), FileIndex(tmp_path / "i.db")
    whole, _ = find_version(config, "set", index)
    mask = glands / "Train_Folder/labelcol/2.png"
    kept = mask.read_bytes()
    mask.unlink()
    without, discovery = find_version(config, "set", index)
    assert [entry.case.id for entry in discovery.left_out] == ["2"]
    (glands / "Train_Folder/img/2.png").unlink()
    never, _ = find_version(config, "set", index)
    assert len({whole, without, never}) == 3
    shutil.copy(glands / "Train_Folder/img/1.png", glands / "Train_Folder/img/2.png")
    mask.write_bytes(kept)
    assert find_version(config, "set", index)[1].left_out == ()


def test_a_list_that_does_not_fit_is_not_left_out(tmp_path: Path) -> None:
    """A list decides which cases train: without it the others would mean something else."""
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "v" / name).mkdir(parents=True)
    (tmp_path / "v/dataset.json").write_text("{")
    found = Found(
        discovery=Discovery(cases=(), patients_known=False, files=()),
        problems=("dataset.json: it is no JSON", "imagesTr/a.nii: there is no mask for this image"),
        files=frozenset({"dataset.json", "imagesTr/a.nii"}),
    )
    assert not found.covered
    assert replace(found, problems=found.problems[1:]).covered
    with pytest.raises(DataError):
        run(DataConfig(source=str(tmp_path / "v"), adapter="nifti", on_bad_case="quarantine"), tmp_path)


def test_fault_S9_names_of_what_is_left_out_are_pseudonyms_too(glands: Path, tmp_path: Path) -> None:
    for folder in ("img", "labelcol"):
        (glands / "Train_Folder" / folder / "2.png").rename(glands / "Train_Folder" / folder / "Mustermann_Erika.png")
    (glands / "Train_Folder/labelcol/Mustermann_Erika.png").unlink()
    config = job(glands, on_bad_case="quarantine")
    names = Pseudonyms.open(tmp_path / "home", "set")
    prepared = run(config, tmp_path, rename=names.apply)
    assert not any("Mustermann" in warning for warning in prepared.warnings)
    stored = (path for path in prepared.location.local_path.rglob("*") if path.is_file())
    assert all(b"Mustermann" not in path.read_bytes() for path in stored)
    (left_out,) = DataStore.open(prepared.location).info.provenance["quarantined"]
    assert names.originals()[left_out["id"]] == "Mustermann_Erika"
    gate = privacy_gate(home=tmp_path / "home", dataset="set", pseudonymize=False, upload=True)
    with pytest.raises(DataError) as refused:
        run(config, tmp_path, rename=gate)
    assert any(line.startswith("Mustermann_Erika: ") for line in refused.value.problems)


def test_the_first_of_many_that_are_left_out_are_named(glands: Path, tmp_path: Path) -> None:
    for number in range(100, 130):
        shutil.copy(glands / "Train_Folder/img/1.png", glands / f"Train_Folder/img/{number}.png")
    warnings = find_version(job(glands, on_bad_case="quarantine"), "set", FileIndex(tmp_path / "i.db"))[1].warnings
    assert sum("is left out: there is no mask" in warning for warning in warnings) == 20
    assert "and 10 more are left out" in warnings
