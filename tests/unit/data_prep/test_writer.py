"""Shards: which cases they take, what they weigh, and that nothing is left out of them."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.case import CasePixels, CaseSummary
from data_prep.statistics import measure
from data_prep.writer import StorePlan, plan_store, promoted_dtype, shard_tasks, write_shard
from udt_cluster.data.shards import decode_shard
from udt_cluster.storage import Location


def zeros(samples: int) -> CasePixels:
    return CasePixels(
        images=np.zeros((samples, 1, 16, 16), np.uint8),
        labels=np.zeros((samples, 16, 16), np.uint8),
        native_label=np.zeros((samples, 5, 7), np.uint8),
    )


def plan(folder: Path, counts: list[int], shard_samples: int | None) -> StorePlan:
    cases = [
        CaseSummary(
            id=f"c{index}",
            group=f"c{index}",
            split="train",
            site="",
            meta={},
            digest="0" * 32,
            foreground=(0,) * count,
            hashes=(0,) * count,
            num_samples=count,
            channels=1,
            dtype="uint8",
            native_shape=(count, 5, 7),
            spacing=(np.nan,) * 3,
            affine=(np.nan,) * 16,
        )
        for index, count in enumerate(counts)
    ]
    return plan_store(
        Location.parse(folder),
        cases,
        [measure(zeros(count).images, zeros(count).labels, num_classes=2) for count in counts],
        dataset="d",
        adapter="glas",
        version="v",
        size=(16, 16),
        resize="stretch",
        class_names=("background", "x"),
        provenance={},
        shard_samples=shard_samples,
    )


@pytest.mark.parametrize("counts", [[1, 1, 1], [10, 3, 8], [4, 4], [1, 9, 1], [25]])
def test_shards_take_every_sample_and_native_pixel_once_in_order(tmp_path: Path, counts: list[int]) -> None:
    taken: dict[str, list[tuple[int, int, int]]] = {"samples": [], "native": []}
    for task, cases in shard_tasks(plan(tmp_path, counts, 4)):
        assert sum(stop - start for start, stop in task.parts) <= (4 if task.kind == "samples" else 2**24)
        taken[task.kind] += [(case, start, stop) for case, (start, stop) in zip(cases, task.parts, strict=True)]
    for kind, per_sample in (("samples", 1), ("native", 35)):
        rows = [(case, row) for case, start, stop in taken[kind] for row in range(start, stop)]
        assert rows == [(case, row) for case, count in enumerate(counts) for row in range(count * per_sample)]


def test_chunks_of_nothing_but_zeros_are_written_too(tmp_path: Path) -> None:
    """Zarr leaves them out by default, and then what is lost cannot be told from what is black."""
    for task, cases in shard_tasks(plan(tmp_path, [2, 2], 4)):
        for record in write_shard(task, *(zeros(2) for _ in cases)):
            data = (task.root / record.key).read_bytes()
            assert len(data) == record.size
            if task.kind == "samples":
                shape = (1, 16, 16) if record.key.startswith("images") else (16, 16)
                whole = decode_shard(data, count=4, shard_samples=4, sample_shape=shape, dtype="uint8")
                assert not whole.any()


def test_shards_weigh_about_16_mib_of_pixels(tmp_path: Path) -> None:
    assert plan(tmp_path, [1], None).info.shard_samples == 512
    assert plan(tmp_path, [1], 7).info.shard_samples == 7


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["uint8", "uint8"], "uint8"),
        (["uint8", "uint16"], "uint16"),
        (["uint8", "int16"], "int16"),
        (["int16", "uint16"], "float32"),
        (["float32", "uint8", "int16"], "float32"),
    ],
)
def test_one_type_holds_every_value_of_all(kinds: list[str], expected: str) -> None:
    assert promoted_dtype(kinds) == expected
    assert np.result_type(*kinds) == expected or expected == "float32"
