"""The whole preparation in one process: versions, bytes, faults, and nothing half-written."""

import pickle
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr
from PIL import Image, PngImagePlugin

from data_prep import FileIndex, InProcessExecutor, Prepared, find_version, prepare
from data_prep.phantom import acdc, glas
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.data.geometry import resize_image, resize_label
from udt_cluster.errors import AuthError, CorruptError, DataError
from udt_cluster.storage import Location


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hearts")
    acdc(folder, patients=3, test_patients=1, side=48)
    return folder


@pytest.fixture(scope="module")
def glands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glands")
    glas(folder, train=5, test=2, size=(48, 64))
    return folder


def job(source: Path, adapter: str = "acdc", **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": str(source), "adapter": adapter, "size": (32, 32), **fields})


def run(config: DataConfig, folder: Path, **options: Any) -> Prepared:
    executor = options.pop("executor", InProcessExecutor())
    return prepare(
        config, "set", Location.parse(folder / "s"), executor=executor, index=FileIndex(folder / "i.db"), **options
    )


def objects(prepared: Prepared) -> dict[str, bytes]:
    return {entry.key: (prepared.location / entry.key).read_bytes() for entry in prepared.location.entries()}


def canonical(path: Path) -> np.ndarray:
    """(z, y, x) by nibabel alone."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).transpose(2, 1, 0)


def test_samples_are_the_resized_slices_of_the_files(hearts: Path, tmp_path: Path) -> None:
    store = DataStore.open(run(job(hearts, resize="pad"), tmp_path).location, verify_checksums=True)
    path = hearts / "training/patient002/patient002_frame01.nii.gz"
    image = canonical(path)
    label = canonical(Path(str(path).replace(".nii", "_gt.nii")))
    case = store.cases.ids.index("patient002_frame01")
    first, count = int(store.cases.first_sample[case]), int(store.cases.num_samples[case])
    assert count == len(image)
    images, labels = store.read_samples(first, first + count)
    expected = resize_image(torch.from_numpy(image.copy()), (32, 32), "pad").numpy()
    assert np.array_equal(images[:, 0], expected)
    assert np.array_equal(labels, resize_label(torch.from_numpy(label.copy()), (32, 32), "pad").numpy())
    assert np.array_equal(store.native_label(case), label)
    assert store.info.dtype == "int16"
    assert store.info.class_names == ("background", "RV", "MYO", "LV")
    assert store.cases.groups[case] == "patient002"
    assert set(store.cases.splits) == {"train", "test"}
    assert '"phase": "ED"' in store.cases.metas[case]


def test_the_fingerprint_is_that_of_the_stored_samples(glands: Path, tmp_path: Path) -> None:
    store = DataStore.open(run(job(glands, "glas", group_by="case"), tmp_path).location)
    images, labels = store.read_samples(0, store.num_samples)
    found = store.info.fingerprint
    np.testing.assert_allclose(found.mean, images.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(found.std, images.std(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(found.percentile_99_5, np.percentile(images, 99.5, axis=(0, 2, 3)))
    np.testing.assert_allclose(found.class_fractions, np.bincount(labels.ravel()) / labels.size)
    assert (found.num_samples, found.num_cases) == (7, 7)


def test_the_same_again_does_nothing_and_says_so(hearts: Path, tmp_path: Path) -> None:
    first = run(job(hearts), tmp_path)
    before = {entry: entry.token for entry in first.location.entries()}
    seen: list[str] = []
    again = run(job(hearts), tmp_path, on_progress=lambda done, total, what: seen.append(what))
    assert not first.already_there
    assert again.already_there
    assert again.seconds < 2
    assert again.version == first.version
    assert {entry: entry.token for entry in again.location.entries()} == before
    assert not seen


@pytest.mark.parametrize(
    "change",
    [
        {"normalize": "zscore"},
        {"splits": {"k": 2, "seed": 7}},
        {"group_by": "case"},
    ],
)
def test_folds_and_normalisation_prepare_nothing_again(hearts: Path, tmp_path: Path, change: dict[str, object]) -> None:
    index = FileIndex(tmp_path / "i.db")
    assert find_version(job(hearts, **change), "set", index)[0] == find_version(job(hearts), "set", index)[0]


@pytest.mark.parametrize("change", [{"size": (32, 48)}, {"resize": "pad"}, {"classes": ["a", "b", "c"]}])
def test_what_changes_samples_is_another_version(hearts: Path, tmp_path: Path, change: dict[str, object]) -> None:
    index = FileIndex(tmp_path / "i.db")
    assert find_version(job(hearts, **change), "set", index)[0] != find_version(job(hearts), "set", index)[0]


def test_another_byte_in_a_file_is_another_version(glands: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(glands, tmp_path / "copy"))
    config, index = job(source, "glas", group_by="case"), FileIndex(tmp_path / "i.db")
    before = find_version(config, "set", index)[0]
    assert find_version(job(glands, "glas", group_by="case"), "set", index)[0] == before, "the place does not matter"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(source / "Train_Folder/img/1.png")
    assert find_version(config, "set", index)[0] != before
    (source / "Train_Folder/img/1.png").rename(source / "Train_Folder/img/9.png")
    (source / "Train_Folder/labelcol/1.png").rename(source / "Train_Folder/labelcol/9.png")
    assert find_version(config, "set", index)[0] != before


class ShufflingExecutor:
    """Runs tasks in another order, and passes everything through pickle, as a cluster would."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.driver_bytes = 0

    def map(self, function: Callable[..., Any], items: Iterable[Any], *, description: str) -> Iterator[Any]:
        sent = [self._through_driver(item) for item in items]
        remote = pickle.loads(pickle.dumps(function))
        results = {i: self._through_driver(remote(sent[i])) for i in self._random.sample(range(len(sent)), len(sent))}
        return iter([results[index] for index in range(len(sent))])

    def _through_driver(self, value: Any) -> Any:
        data = pickle.dumps(value)
        self.driver_bytes += len(data)
        return pickle.loads(data)


@pytest.mark.parametrize("adapter", ["acdc", "glas"])
def test_any_executor_anywhere_writes_the_same_bytes(hearts: Path, glands: Path, tmp_path: Path, adapter: str) -> None:
    source, fields = (hearts, {}) if adapter == "acdc" else (glands, {"group_by": "case"})
    first = run(job(source, adapter, **fields), tmp_path / "one")
    moved = Path(shutil.copytree(source, tmp_path / "moved" / "source"))
    second = run(job(moved, adapter, **fields), tmp_path / "two", executor=ShufflingExecutor(5))
    assert second.version == first.version
    assert objects(second) == objects(first)


def test_pixels_do_not_pass_the_driver(glands: Path, tmp_path: Path) -> None:
    executor = ShufflingExecutor(0)
    prepared = run(job(glands, "glas", group_by="case", size=(160, 160)), tmp_path, executor=executor)
    store = DataStore.open(prepared.location)
    pixels = store.num_samples * 160 * 160 * 4
    assert executor.driver_bytes < pixels / 4


def test_progress_counts_cases_and_shards(glands: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    run(job(glands, "glas", group_by="case"), tmp_path, on_progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[2] == "cases"] == [(number, 7, "cases") for number in range(1, 8)]
    assert [step for step in seen if step[2] == "shards"] == [(1, 2, "shards"), (2, 2, "shards")]


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_written(glands: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(glands, tmp_path / "copy"))
    (source / "Train_Folder/img/2.png").write_bytes(b"")
    image = (source / "Train_Folder/img/3.png").read_bytes()
    (source / "Train_Folder/img/3.png").write_bytes(image[: len(image) // 2])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(source / "Train_Folder/labelcol/4.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(source / "Test_Folder/img/1.png")
    with pytest.raises(DataError) as error:
        run(job(source, "glas", group_by="case"), tmp_path)
    assert error.value.exit_code == 3
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "Train_Folder/img/2.png",
        "Train_Folder/img/3.png",
        "Train_Folder/labelcol/4.png",
        "test_1",
    ]
    assert "1 channel(s), where most cases have 3" in error.value.problems[3]
    assert not Location.parse(tmp_path / "s/data").entries()


def test_fault_d7_unreadable_files_are_named(glands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file of mode 000 gives to all but root."""
    checksum, read_bytes = Location.checksum, Location.read_bytes

    def refused(self: Location) -> None:
        if self.name == "2.png":
            raise AuthError(f"{self}: the file system refused access")

    monkeypatch.setattr(Location, "checksum", lambda self: refused(self) or checksum(self))
    with pytest.raises(DataError) as error:
        run(job(glands, "glas", group_by="case"), tmp_path)
    assert len(error.value.problems) == 4, "image and mask, train and test"
    assert all("2.png: may not be read" in problem for problem in error.value.problems)
    monkeypatch.setattr(Location, "checksum", checksum)
    monkeypatch.setattr(Location, "read_bytes", lambda self, **part: refused(self) or read_bytes(self, **part))
    with pytest.raises(DataError, match=r"img/2\.png: may not be read"):
        run(job(glands, "glas", group_by="case"), tmp_path)


def test_mixed_precision_is_widened_and_said(tmp_path: Path) -> None:
    for number, dtype in enumerate(("uint8", "uint16")):
        for kind, values in (("images", np.full((20, 20), 200)), ("masks", np.eye(20))):
            path = tmp_path / "source" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype("uint8" if kind == "masks" else dtype)).save(path)
    store = DataStore.open(run(job(tmp_path / "source", "image_folder", group_by="case"), tmp_path).location)
    assert store.info.dtype == "uint16"
    assert store.read_samples(0, 2)[0].min() == 200
    assert "all are stored as uint16" in store.info.warnings[0]


@pytest.mark.parametrize("harm", ["missing", "truncated", "commit"])
def test_a_damaged_version_is_mended_by_preparing_again(glands: Path, tmp_path: Path, harm: str) -> None:
    config = job(glands, "glas", group_by="case")
    first = run(config, tmp_path)
    whole = objects(first)
    target = first.location / ("COMMIT" if harm == "commit" else "images/c/0/0/0/0")
    if harm == "missing":
        target.delete()
    else:
        target.write_bytes(target.read_bytes()[:-7])
    with pytest.raises(CorruptError):
        DataStore.open(first.location)
    committed: list[bool] = []
    again = run(config, tmp_path, on_progress=lambda *_: committed.append((first.location / "COMMIT").exists()))
    assert not again.already_there
    assert not any(committed), "nobody may take it for whole meanwhile"
    assert any("damaged" in warning for warning in again.warnings)
    assert objects(again) == whole


CANARY = "Mustermann^Erika 1954-03-17 MRN0012345"


def test_fault_s9_text_of_headers_never_reaches_the_store(hearts: Path, glands: Path, tmp_path: Path) -> None:
    scans = Path(shutil.copytree(hearts, tmp_path / "scans"))
    for path in scans.rglob("*.nii.gz"):
        image = nib.load(path)
        image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        for field, length in (("descrip", 79), ("db_name", 17), ("aux_file", 23)):
            image.header[field] = CANARY[:length]
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", CANARY.encode()))
        nib.save(image, path)
        assert CANARY[:17].encode() in nib.load(path).to_bytes()
    for path in scans.rglob("Info.cfg"):
        path.write_text(path.read_text() + f"Name: {CANARY}\nHeight: 184.0\n")
    slides = Path(shutil.copytree(glands, tmp_path / "slides"))
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", CANARY)
    for path in slides.rglob("*.png"):
        with Image.open(path) as image:
            image.save(path, pnginfo=text)
        assert CANARY[:17].encode() in path.read_bytes()
    for config in (job(scans), job(slides, "glas", group_by="case")):
        prepared = run(config, tmp_path)
        group = zarr.open(str(prepared.location.local_path), mode="r")
        decoded = [str(list(array[:])) for name, array in group["cases"].arrays() if array.dtype.kind in "TO"]
        assert len(decoded) == 6
        plain = [data.decode("latin-1") for data in objects(prepared).values()]
        for word in ("Mustermann", "MRN0012345", "1954", "184.0", str(tmp_path)):
            assert not any(word in part for part in [*decoded, *plain])


def test_native_labels_over_several_shards(hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udt_cluster.data.schema.NATIVE_SHARD", 8192)
    monkeypatch.setattr("udt_cluster.data.schema.NATIVE_CHUNK", 2048)
    store = DataStore.open(run(job(hearts), tmp_path).location)
    assert sum(entry.key.startswith("native_labels/c/") for entry in store.location.entries()) > 5
    for case, name in enumerate(store.cases.ids):
        (path,) = hearts.rglob(f"{name}_gt.nii.gz")
        assert np.array_equal(store.native_label(case), canonical(path))
