"""MoNuSeg, ISIC 2018 and COVID-19 CT as they are published: what the adapters read, against counts by Pillow alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import adapters
from data_prep.case import Discovery
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location


def counted(source: Path, adapter: str, **fields: object) -> tuple[Discovery, dict[str, Counter[int]]]:
    """What an adapter finds, and the pixels of each class in each case."""
    config = DataConfig.model_validate({"source": str(source), "adapter": adapter, **fields})
    location = Location.parse(source)
    found = adapters.get(adapter).discover(location, config)
    counts = {}
    for case in found.cases:
        raw = adapters.get(adapter).read(location, case, config)
        assert raw.image.shape[2:] == raw.label.shape[1:]
        values, pixels = np.unique(raw.label, return_counts=True)
        counts[case.id] = Counter(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
    return found, counts


def histogram(path: Path) -> Counter[int]:
    """Value -> pixels of a mask, counted by Pillow."""
    with Image.open(path) as image:
        return Counter({value: pixels for value, pixels in enumerate(image.histogram()) if pixels})


def as_binary(counts: Counter[int]) -> Counter[int]:
    assert set(counts) <= {0, 255}
    return +Counter({0: counts[0], 1: counts[255]})


def test_monuseg(udt_test_data: Path) -> None:
    source = udt_test_data / "monuseg"
    found, counts = counted(source, "monuseg")
    masks = {path.stem: path for path in source.glob("*/labelcol/*.png")}
    assert counts == {name: as_binary(histogram(path)) for name, path in masks.items()}
    assert Counter(case.split for case in found.cases) == {"train": 2, "validation": 1, "test": 1}
    assert {case.group for case in found.cases} == {name[:12] for name in masks}
    assert found.patients_known


def test_monuseg_tiles_hold_every_pixel_of_the_pictures(udt_test_data: Path) -> None:
    source = udt_test_data / "monuseg"
    found, counts = counted(source, "monuseg", tiles={"size": 250})
    assert len(found.cases) == 4 * 16
    for path in source.glob("*/labelcol/*.png"):
        of_tiles = [count for name, count in counts.items() if name.startswith(f"{path.stem}_y")]
        assert sum(of_tiles, Counter()) == as_binary(histogram(path))


def test_isic2018(udt_test_data: Path) -> None:
    source = udt_test_data / "isic2018"
    found, counts = counted(source, "isic2018", group_by="case")
    masks = list((source / "ISIC2018_Task1_Training_GroundTruth").glob("*.png"))
    assert counts == {path.name.removesuffix("_segmentation.png"): as_binary(histogram(path)) for path in masks}
    assert len(found.cases) == 150
    assert {case.split for case in found.cases} == {"train"}


@pytest.mark.parametrize("labels", ["infection", "multi_class"])
def test_covid19(udt_test_data: Path, labels: str) -> None:
    source = udt_test_data / "covid19_medseg"
    found, counts = counted(source, "covid19", group_by="case", labels=labels)
    assert Counter(case.split for case in found.cases) == {"train": 50, "test": 48}
    folders = {
        "infection": ("TrainingSet/LungInfection-Train/Doctor-label/GT", "TestingSet/LungInfection-Test/GT"),
        "multi_class": ("TrainingSet/MultiClassInfection-Train/GT", "TestingSet/MultiClassInfection-Test/GT"),
    }
    train, test = ({path.stem: histogram(path) for path in (source / folder).glob("*")} for folder in folders[labels])
    expected = {f"train_{name}": count for name, count in train.items()}
    expected |= {f"test_{name}": count for name, count in test.items()}
    if labels == "infection":
        expected = {name: as_binary(count) for name, count in expected.items()}
    assert counts == expected
    assert set().union(*counts.values()) == ({0, 1} if labels == "infection" else {0, 1, 2})


def test_covid19_images_of_both_kinds_of_labels_are_the_same(udt_test_data: Path) -> None:
    source = udt_test_data / "covid19_medseg"
    location = Location.parse(source)
    images = []
    for labels in ("infection", "multi_class"):
        config = DataConfig.model_validate({"source": str(source), "adapter": "covid19", "labels": labels})
        adapter = adapters.get("covid19")
        cases = adapter.discover(location, config).cases
        images.append([adapter.read(location, case, config).image for case in cases[::12]])
    assert len(images[0]) == 9
    assert all(np.array_equal(a, b) for a, b in zip(*images, strict=True))
