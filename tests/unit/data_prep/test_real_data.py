"""Real images: what the adapters make of them, against counts by Pillow and h5py alone."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from data_prep import FileIndex, InProcessExecutor, adapters, prepare
from data_prep.readers import ReaderError, read_nifti
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.storage import Location

Prepare = Callable[..., DataStore]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    folder = tmp_path_factory.mktemp("stores")
    stores: dict[str, DataStore] = {}

    def make(source: Path, adapter: str, **fields: object) -> DataStore:
        if str(source) not in stores:
            config = DataConfig.model_validate({"source": str(source), "adapter": adapter, "size": (32, 32), **fields})
            storage, index = Location.parse(folder / "s"), FileIndex(folder / "i.db")
            found = prepare(config, source.name.replace("_", "-"), storage, executor=InProcessExecutor(), index=index)
            stores[str(source)] = DataStore.open(found.location)
        return stores[str(source)]

    return make


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_glas(udt_test_data: Path, prepared: Prepare) -> None:
    source = udt_test_data / "glas"
    store = prepared(source, "glas", group_by="case")
    assert len(store.cases) == store.num_samples == 165
    assert store.cases.splits.count("train") == 85
    assert store.info.dtype == "uint8"
    assert store.info.channels == 3
    foreground = total = 0
    for case, name in enumerate(store.cases.ids):
        part, number = name.split("_")
        mask = pixels(source / f"{part.title()}_Folder" / "labelcol" / f"{number}.png")
        label = store.native_label(case)
        assert np.array_equal(label[0], mask > 0), name
        foreground, total = foreground + int((mask > 0).sum()), total + mask.size
    assert store.info.fingerprint.class_fractions[1] == pytest.approx(foreground / total, abs=0.01)
    assert any("folds may leak" in warning for warning in store.info.warnings)


def test_acdc_hdf5(udt_test_data: Path, prepared: Prepare) -> None:
    source = udt_test_data / "acdc_h5"
    store = prepared(source, "acdc")
    files = sorted((source / "data").glob("*.h5"))
    names = {path.stem.partition("_slice_")[0] for path in files}
    assert set(store.cases.ids) == names
    assert len(set(store.cases.groups)) == 13
    test = {line.strip() for line in (source / "test.list").read_text().splitlines()}
    assert {n for n, split in zip(store.cases.ids, store.cases.splits, strict=True) if split == "test"} == test
    counts, samples = np.zeros(4, np.int64), 0
    for path in files:
        with h5py.File(path) as file:
            label = file["label"][()]
        counts += np.bincount(label.ravel(), minlength=4)
        samples += label.size // (label.shape[-1] * label.shape[-2])
    ours = sum(np.bincount(store.native_label(case).ravel(), minlength=4) for case in range(len(store.cases)))
    assert np.array_equal(ours, counts)
    assert store.num_samples == samples
    assert store.info.dtype == "float32"


def test_acdc_slices_are_in_the_order_of_their_numbers(udt_test_data: Path, prepared: Prepare) -> None:
    source = udt_test_data / "acdc_h5"
    store = prepared(source, "acdc")
    label = store.native_label(store.cases.ids.index("patient003_frame01"))
    assert len(label) == 10
    for number in (1, 2, 10):
        with h5py.File(source / "data" / f"patient003_frame01_slice_{number}.h5") as file:
            assert np.array_equal(label[number - 1], file["label"][()])


def test_a_folder_of_pairs(udt_test_data: Path, prepared: Prepare) -> None:
    source = udt_test_data / "isic2018"
    folders = {
        "images": "ISIC2018_Task1-2_Training_Input",
        "masks": "ISIC2018_Task1_Training_GroundTruth",
        "mask_suffix": "_segmentation",
    }
    store = prepared(source, "image_folder", group_by="case", pairs=folders, label_values=[255])
    assert len(store.cases) == len(list((source / folders["images"]).glob("*.jpg"))) == 150
    for case in (0, 77, 149):
        mask = pixels(source / folders["masks"] / f"{store.cases.ids[case]}_segmentation.png")
        assert np.array_equal(store.native_label(case)[0], mask == 255)


def test_palette_masks_of_real_files_are_indices(udt_test_data: Path) -> None:
    masks = [path for path in (udt_test_data / "covid19_medseg").rglob("*.png") if pixels(path).max() == 2]
    assert masks, "the multi-class masks hold 0, 1 and 2"
    source = masks[0].parent
    config = DataConfig.model_validate(
        {
            "source": str(source),
            "adapter": "image_folder",
            "classes": ["ground-glass", "consolidation"],
            "pairs": {"images": "", "masks": ""},
        }
    )
    adapter = adapters.get("image_folder")
    case = adapter_case(masks[0].name)
    label = adapter.read(Location.parse(source), case, config).label[0]
    assert np.array_equal(label, pixels(masks[0]))


def adapter_case(name: str):
    from data_prep.case import Case

    return Case(id="a", group="a", split="unknown", images=(name,), labels=(name,))


def test_odd_files_are_read_or_refused_with_a_reason(udt_test_data: Path) -> None:
    reasons = {
        "0.dcm": "not a NIfTI file",
        "not-nifti.nii": "not a NIfTI file",
        "example4d.nii.gz": "4 dimensions",
        "functional.nii": "4 dimensions",
    }
    for name, reason in reasons.items():
        with pytest.raises(ReaderError, match=reason):
            read_nifti((udt_test_data / "odd_files" / name).read_bytes())
    assert read_nifti((udt_test_data / "odd_files" / "anatomical.nii").read_bytes()).voxels.dtype == np.int16
