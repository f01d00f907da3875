"""The on-disk contract and the constants of normalisation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from udt_cluster.data import Fingerprint, Normalization, StoreInfo
from udt_cluster.data.schema import array_layouts
from udt_cluster.errors import DataError, VersionError

FINGERPRINT = Fingerprint(
    mean=(100.0, 50.0),
    std=(20.0, 0.0),
    minimum=(0.0, 50.0),
    maximum=(255.0, 50.0),
    percentile_00_5=(10.0, 50.0),
    percentile_99_5=(210.0, 50.0),
    class_fractions=(0.75, 0.25),
    num_samples=7,
    num_cases=3,
)
INFO = StoreInfo(
    dataset="d",
    adapter="glas",
    version="v",
    size=(32, 48),
    resize="pad",
    channels=2,
    dtype="uint8",
    class_names=("background", "gland"),
    shard_samples=4,
    fingerprint=FINGERPRINT,
    provenance={"warnings": ["mind the gap"], "files": 6},
)


def test_store_info_survives_json() -> None:
    again = StoreInfo.from_attrs(json.loads(json.dumps(INFO.to_attrs(), allow_nan=False)))
    assert again == INFO
    assert again.num_classes == 2
    assert again.warnings == ("mind the gap",)


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"format_version": 4}, {"format_version": None}, {"format": "ome"}]
)
def test_another_format_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(VersionError, match="Prepare the data again"):
        StoreInfo.from_attrs({**INFO.to_attrs(), **change})


def test_rows_of_images_and_labels_share_their_shards() -> None:
    layouts = array_layouts(INFO, num_samples=7, num_cases=3, native_pixels=1000)
    assert layouts["images"].shape == (7, 2, 32, 48)
    assert layouts["labels"].shape == (7, 32, 48)
    for name in ("images", "labels"):
        assert layouts[name].chunks[0] == 1
        assert layouts[name].shards is not None
        assert layouts[name].shards[0] == 4


def test_auto_is_scale255_for_8_bits_and_zscore_for_the_rest() -> None:
    assert Normalization.from_fingerprint("auto", FINGERPRINT, "uint8").kind == "scale255"
    assert Normalization.from_fingerprint("auto", FINGERPRINT, "float32").kind == "zscore"
    assert Normalization.from_fingerprint("auto", FINGERPRINT, "uint16").kind == "zscore"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("scale255", 255.0, 1.0),
        ("scale255", 51.0, 0.2),
        ("zscore", 140.0, 2.0),
        ("zscore", -1e6, (-1e6 - 100) / 20),
        ("percentile", 110.0, 0.5),
        ("percentile", 0.0, 0.0),
        ("percentile", 255.0, 1.0),
    ],
)
def test_what_a_pixel_becomes(kind: str, value: float, expected: float) -> None:
    normalize = Normalization.from_fingerprint(kind, FINGERPRINT, "uint8")
    x = torch.full((1, 2, 4, 4), value)
    assert normalize(x)[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    for kind in ("zscore", "percentile"):
        out = Normalization.from_fingerprint(kind, FINGERPRINT, "uint8")(torch.full((1, 2, 2, 2), 50.0))
        assert torch.all(out[:, 1] == 0)


def test_raw_types_become_float32() -> None:
    normalize = Normalization.from_fingerprint("zscore", FINGERPRINT, "uint16")
    for dtype in (np.uint8, np.uint16, np.int16, np.float32):
        assert normalize(torch.from_numpy(np.ones((1, 2, 2, 2), dtype))).dtype == torch.float32


def test_normalization_survives_json() -> None:
    for kind in ("scale255", "zscore", "percentile"):
        constants = Normalization.from_fingerprint(kind, FINGERPRINT, "uint8")
        assert Normalization.from_dict(json.loads(json.dumps(constants.to_dict(), allow_nan=False))) == constants


def test_scale255_is_refused_where_255_means_nothing() -> None:
    with pytest.raises(DataError, match=r"float32, from 0 to 255\. Allowed: auto, zscore, percentile") as error:
        Normalization.from_fingerprint("scale255", replace(FINGERPRINT, minimum=(0.0, 0.0)), "float32")
    assert error.value.exit_code == 3
