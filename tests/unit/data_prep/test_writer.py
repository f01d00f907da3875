"""Shards: which cases they take, what they weigh, that Zarr would write the same, and that nothing is done twice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from data_prep.case import CasePixels, CaseSummary, PreparedCase
from data_prep.shard_tasks import ShardReport, ShardTask, count_shards, shard_tasks, write_shard
from data_prep.staging import encode_case
from data_prep.statistics import measure
from data_prep.writer import StorePlan, plan_store, promoted_dtype
from udt_cluster.data.schema import NATIVE_CHUNK
from udt_cluster.data.shards import ZSTD_LEVEL, decode_shard
from udt_cluster.storage import Location

HEIGHT, WIDTH = 5, 7


@dataclass(frozen=True)
class Staged:
    """Cases that wait for their shards, and what they hold."""

    plan: StorePlan
    cases: tuple[Location, ...]
    pixels: tuple[CasePixels, ...]
    records: Location

    def tasks(self) -> list[ShardTask]:
        """All shards."""
        return list(shard_tasks(self.plan, self.cases, self.records))


def stage(
    folder: Path, counts: Sequence[int], shard_samples: int | None = 4, dtypes: Sequence[str] = (), blank: bool = False
) -> Staged:
    """Cases of noise with `counts` samples of 16 x 16."""
    rng, root = np.random.default_rng(0), Location.parse(folder)
    prepared = []
    for index, count in enumerate(counts):
        pixels = CasePixels(
            images=rng.integers(0, 1 if blank else 200, (count, 1, 16, 16)).astype(
                dtypes[index] if dtypes else "uint8"
            ),
            labels=rng.integers(0, 1 if blank else 2, (count, 16, 16), np.uint8),
            native_label=rng.integers(0, 1 if blank else 2, (count, HEIGHT, WIDTH), np.uint8),
        )
        summary = CaseSummary(
            id=f"c{index}",
            group=f"c{index}",
            split="train",
            site="",
            meta={},
            digest="0" * 32,
            foreground=(0,) * count,
            hashes=(0,) * count,
            turned=(0,) * (3 * count),
            num_samples=count,
            channels=1,
            dtype=pixels.images.dtype.name,
            native_shape=(count, HEIGHT, WIDTH),
            spacing=(np.nan,) * 3,
            affine=(np.nan,) * 16,
        )
        statistics = measure(pixels.images, pixels.labels, num_classes=2)
        prepared.append(PreparedCase(summary=summary, statistics=statistics, pixels=pixels))
        (root / "staging" / f"c{index}").write_bytes(encode_case(prepared[-1]))
    plan = plan_store(
        root / "store",
        [case.summary for case in prepared],
        [case.statistics for case in prepared],
        dataset="d",
        adapter="glas",
        version="v",
        size=(16, 16),
        resize="stretch",
        class_names=("background", "x"),
        provenance={},
        shard_samples=shard_samples,
    )
    staged = tuple(root / "staging" / f"c{index}" for index in range(len(counts)))
    return Staged(plan, staged, tuple(case.pixels for case in prepared), root / "records")


@pytest.mark.parametrize("counts", [[1, 1, 1], [10, 3, 8], [4, 4], [1, 9, 1], [25]])
def test_shards_take_every_sample_and_native_pixel_once_in_order(tmp_path: Path, counts: list[int]) -> None:
    staged = stage(tmp_path, counts)
    tasks = staged.tasks()
    assert len(tasks) == count_shards(staged.plan)
    taken: dict[str, list[tuple[Location, int]]] = {"samples": [], "native": []}
    for task in tasks:
        assert sum(part.stop - part.start for part in task.parts) <= (4 if task.kind == "samples" else 2**24)
        taken[task.kind] += [(part.staged, row) for part in task.parts for row in range(part.start, part.stop)]
    for kind, per_sample in (("samples", 1), ("native", HEIGHT * WIDTH)):
        whole = [(staged.cases[c], row) for c, count in enumerate(counts) for row in range(count * per_sample)]
        assert taken[kind] == whole


@pytest.mark.parametrize("dtypes", [("uint8",) * 3, ("uint8", "uint16", "uint8")])
def test_zarr_would_write_the_very_same_bytes(tmp_path: Path, dtypes: Sequence[str]) -> None:
    staged = stage(tmp_path, [3, 1, 5], dtypes=dtypes)
    values = {
        "images": np.concatenate([pixels.images for pixels in staged.pixels]).astype(staged.plan.info.dtype),
        "labels": np.concatenate([pixels.labels for pixels in staged.pixels]),
        "native_labels": np.concatenate([pixels.native_label.reshape(-1) for pixels in staged.pixels]),
    }
    objects: dict[str, object] = {}
    for name, array in values.items():
        layout = staged.plan.layouts[name]
        zarr.create_array(
            MemoryStore(objects),
            name=name,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.chunks,
            shards=layout.shards,
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            fill_value=0,
            config={"write_empty_chunks": True},
        )[...] = array
    written = [record.key for task in staged.tasks() for record in write_shard(task).records]
    assert sorted(written) == sorted(key for key in objects if "/c/" in key)
    for key in written:
        assert (staged.plan.root / key).read_bytes() == objects[key].to_bytes()


def test_chunks_of_nothing_but_zeros_are_written_too(tmp_path: Path) -> None:
    """Zarr leaves them out by default, and then what is lost cannot be told from what is black."""
    staged = stage(tmp_path, [2, 2], blank=True)
    for task in staged.tasks():
        for record in write_shard(task).records:
            data = (task.root / record.key).read_bytes()
            assert len(data) == record.size
            shape, count = ((1, 16, 16) if record.key.startswith("images") else (16, 16)), 4
            if task.kind == "native":
                shape, count = (NATIVE_CHUNK,), 1
            room = task.layouts[0].shards[0] // task.layouts[0].chunks[0]
            whole = decode_shard(data, count=count, shard_samples=room, sample_shape=shape, dtype="uint8")
            assert not whole.any()


def test_what_is_written_and_recorded_is_not_written_again(tmp_path: Path) -> None:
    staged = stage(tmp_path, [3, 3])
    first = [write_shard(task) for task in staged.tasks()]
    before = {entry.key: entry.token for entry in staged.plan.root.entries()}
    for location in staged.cases:
        location.delete()
    assert [write_shard(task) for task in staged.tasks()] == first, "staged cases are not even looked at"
    assert {entry.key: entry.token for entry in staged.plan.root.entries()} == before


@pytest.mark.parametrize("harm", ["object gone", "object cut", "record cut", "record of something else"])
def test_a_record_counts_only_with_its_objects(tmp_path: Path, harm: str) -> None:
    staged = stage(tmp_path, [3])
    task = staged.tasks()[0]
    first = write_shard(task)
    target = task.root / first.records[0].key
    whole = target.read_bytes()
    if harm == "object gone":
        target.delete()
    elif harm == "object cut":
        target.write_bytes(whole[:-1])
    else:
        target.write_bytes(b"")
        task.record.write_bytes(b'[{"key": "ima' if harm == "record cut" else json.dumps([{"key": 1}]).encode())
    assert write_shard(task) == first
    assert target.read_bytes() == whole


@pytest.mark.parametrize("position", [-3, 20])
def test_a_staged_case_that_is_broken_or_gone_is_lost_and_deleted(tmp_path: Path, position: int) -> None:
    staged = stage(tmp_path, [3, 2])
    data = bytearray(staged.cases[1].read_bytes())
    data[position] ^= 1
    staged.cases[1].write_bytes(bytes(data))
    reports = [write_shard(task) for task in staged.tasks()]
    assert ShardReport(lost=True) in reports
    assert not staged.cases[1].exists()
    assert staged.cases[0].exists()
    assert write_shard(staged.tasks()[-1]) == ShardReport(lost=True)


def test_shards_weigh_about_16_mib_of_pixels(tmp_path: Path) -> None:
    assert stage(tmp_path, [1], None).plan.info.shard_samples == 512
    assert stage(tmp_path, [1], 7).plan.info.shard_samples == 7


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
