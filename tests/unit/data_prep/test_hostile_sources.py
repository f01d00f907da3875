"""Sources that are broken on purpose, or change under the reader: one line by name, never a raw error."""

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from data_prep import FileIndex, InProcessExecutor, Prepared, preparation, prepare
from data_prep.phantom import glas
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.data.versions import remove_version
from udt_cluster.errors import CorruptError, DataError
from udt_cluster.storage import Location


def run(source: Path, folder: Path, adapter: str, **fields: object) -> Prepared:
    values = {"source": str(source), "adapter": adapter, "size": (32, 32), "group_by": "case", **fields}
    rename = values.pop("rename", None)
    config, index = DataConfig.model_validate(values), FileIndex(folder / "i.db")
    options = {"rename": rename} if rename else {}
    return prepare(config, "set", Location.parse(folder / "s"), executor=InProcessExecutor(), index=index, **options)


def nifti(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    rng, label = np.random.default_rng(0), np.zeros((12, 12, 3), np.uint8)
    label[2:5, 2:5] = 1
    for number in (1, 2, 3):
        nifti(tmp_path / "v" / "imagesTr" / f"c_{number}.nii", rng.integers(0, 99, label.shape).astype(np.int16))
        nifti(tmp_path / "v" / "labelsTr" / f"c_{number}.nii", label)
    labels = {"labels": {"background": 0, "a": 1}, "file_ending": ".nii", "channel_names": {"0": "CT"}}
    (tmp_path / "v" / "dataset.json").write_text(json.dumps(labels))
    return tmp_path / "v"


def npz(path: Path, header: str, content: bytes) -> None:
    """Arrays `image` and `label`, both with this header."""
    head = header.encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("image.npy", "label.npy"):
            archive.writestr(name, member)


def _unknown_datatype(folder: Path) -> None:
    path = folder / "imagesTr" / "c_2.nii"
    data = bytearray(path.read_bytes())
    data[70:72] = struct.pack("<h", 1234)
    path.write_bytes(data)


def test_fault_d1_f7_a_datatype_that_does_not_exist_is_one_bad_case(volumes: Path, tmp_path: Path) -> None:
    _unknown_datatype(volumes)
    with pytest.raises(DataError, match="c_2"):
        run(volumes, tmp_path, "nifti")
    store = DataStore.open(run(volumes, tmp_path, "nifti", on_bad_case="quarantine").location)
    assert store.cases.ids == ("c_1", "c_3")


@pytest.mark.parametrize(("shape", "size"), [("(True, 4)", 4), ("(0, 32)", 0)])
def test_fault_d1_f7_arrays_of_odd_shapes_are_bad_cases(tmp_path: Path, shape: str, size: int) -> None:
    good = io.BytesIO()
    np.savez(good, image=np.arange(256, dtype=np.uint8).reshape(16, 16), label=np.eye(16, dtype=np.uint8))
    source = tmp_path / "a"
    npz(source / "odd.npz", f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}", bytes(size))
    for name in ("one", "two"):
        (source / f"{name}.npz").write_bytes(good.getvalue())
    with pytest.raises(DataError, match="odd"):
        run(source, tmp_path, "arrays", classes=["a"])
    store = DataStore.open(run(source, tmp_path, "arrays", classes=["a"], on_bad_case="quarantine").location)
    assert store.cases.ids == ("one", "two")


def test_fault_f7_any_error_of_a_reader_is_the_problem_of_its_case(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preparation.pixel_digest
    calls: list[int] = []

    def fails_once(image: np.ndarray) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise IndexError("Jane Doe")
        return real(image)

    monkeypatch.setattr(preparation, "pixel_digest", fails_once)
    with pytest.raises(DataError) as caught:
        run(volumes, tmp_path, "nifti")
    assert caught.value.problems == ("c_2: could not be read (IndexError); convert or copy its files again",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"9" * 5000: "a", "0": "background"}, "more than 9 digits"),
        ({"background": 0, "a": 10**12}, "more than 9 digits"),
        ({f"c{number}": number for number in range(257)}, "257 labels; at most 255"),
    ],
)
def test_fault_d1_dataset_json_of_absurd_labels(volumes: Path, tmp_path: Path, labels: object, message: str) -> None:
    (volumes / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii"}))
    with pytest.raises(DataError, match=message):
        run(volumes, tmp_path, "nifti")


def test_fault_d1_file_names_that_are_no_text_are_named_escaped(volumes: Path, tmp_path: Path) -> None:
    shutil.copy(volumes / "imagesTr/c_1.nii", os.fsencode(volumes) + b"/imagesTr/M\xfcller.nii")
    with pytest.raises(DataError, match="not UTF-8") as caught:
        run(volumes, tmp_path, "nifti")
    assert caught.value.problems == ("'imagesTr/M\\udcfcller.nii'",)
    assert caught.value.exit_code == 3
    str(caught.value).encode("utf-8")


def test_fault_d1_a_thin_volume_may_not_become_gigabytes(volumes: Path, tmp_path: Path) -> None:
    for part, kind in (("images", np.int16), ("labels", np.uint8)):
        nifti(volumes / f"{part}Tr" / "c_2.nii", np.ones((2, 2, 8000), kind))
    with pytest.raises(DataError, match="1 problems") as caught:
        run(volumes, tmp_path, "nifti", size=(1024, 1024))
    (problem,) = caught.value.problems
    assert problem.startswith("c_2: 8000 slices x 1 channel(s) x 1024 x 1024 pixels would be 16,777,216,000 bytes")
    assert "at most 8,589,934,592" in problem
    assert "smaller data.size" in problem


@pytest.mark.parametrize("policy", ["fail", "quarantine"])
def test_fault_z1_a_file_that_changes_after_it_was_hashed_is_not_committed(tmp_path: Path, policy: str) -> None:
    source = tmp_path / "glands"
    glas(source, train=2, test=1, size=(48, 64))
    executor = InProcessExecutor()

    class Meanwhile(InProcessExecutor):
        """Swaps a picture once all is hashed."""

        def map(self, task: Callable[..., object], items: object, **options: object) -> object:
            shutil.copy(source / "Train_Folder/img/1.png", source / "Train_Folder/img/2.png")
            return executor.map(task, items, **options)

    values = {"source": str(source), "adapter": "glas", "size": (32, 32), "group_by": "case", "on_bad_case": policy}
    config, index = DataConfig.model_validate(values), FileIndex(tmp_path / "i.db")
    storage = Location.parse(tmp_path / "s")
    with pytest.raises(DataError, match=r"img/2\.png: changed while the source was read; prepare again"):
        prepare(config, "set", storage, executor=Meanwhile(), index=index)
    assert not any(entry.key.endswith("COMMIT") for entry in storage.entries())
    again = prepare(config, "set", storage, executor=executor, index=index)
    assert DataStore.open(again.location, verify_checksums=True).num_samples == 3


def test_fault_z3_the_remedy_for_a_flipped_bit_of_a_shard_mends_it(tmp_path: Path) -> None:
    """Its size is right, so preparing alone would find all in place; hence the message says what comes first."""
    source = tmp_path / "glands"
    glas(source, train=2, test=1, size=(48, 64))
    location = run(source, tmp_path, "glas").location
    shard = location / "images/c/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(CorruptError, match="remove it by `udt-cluster data rm DATASET/VERSION` and then prepare"):
        DataStore.open(location).read_shard(0)
    remove_version(location)
    again = run(source, tmp_path, "glas")
    assert (again.location, again.already_there) == (location, False)
    assert len(DataStore.open(location, verify_checksums=True).read_shard(0)[0]) == 3


@pytest.mark.parametrize("source", ["/", "//", "/proc", "/proc/self/fd", "/sys/class", "/dev", "/tmp/../proc", "link"])
def test_fault_D7_places_of_the_system_are_no_source(tmp_path: Path, source: str) -> None:
    """Listing one would take for ever; a link to one is one."""
    (tmp_path / "link").symlink_to("/proc")
    place = Location.parse(str(tmp_path / source) if source == "link" else source)
    with pytest.raises(DataError, match=r"name the folder that the images are in") as error:
        SourceTree.of(place)
    assert error.value.message.startswith(f"data.source {place}: ")


def test_fault_D7_a_job_with_a_place_of_the_system_or_a_placeholder_is_refused_when_it_is_read(tmp_path: Path) -> None:
    for source, says in (("/proc/1", "/proc belongs to the operating"), ("/", "the whole file system of a node")):
        with pytest.raises(ValidationError, match=says):
            DataConfig(source=source, adapter="glas")
    with pytest.raises(ValidationError, match="a placeholder; replace it by your folder"):
        DataConfig(source="/path/to/ACDC", adapter="acdc")
    with pytest.raises(DataError, match="a placeholder; replace it by your folder"):
        SourceTree.of(Location.parse("/path/to/ACDC"))
    for fine in ("/dev/shm/images", "/device", "/systems/x", "/data/process", str(tmp_path)):
        assert DataConfig(source=fine, adapter="glas").source == fine
