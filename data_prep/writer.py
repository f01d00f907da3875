"""Writing a store, the driver's part: a plan of what goes where, the tables, and COMMIT last.

Every object is put whole. Its bytes follow from the samples alone, so two writers of one version write the same and
need no lock. Shards are written by tasks: see `shard_tasks`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from data_prep.case import CaseSummary
from data_prep.statistics import Statistics, fingerprint
from udt_cluster.data.schema import (
    NUMBER_COLUMNS,
    STRING_COLUMNS,
    TURNED_HASH,
    ArrayLayout,
    Resize,
    StoreInfo,
    array_layouts,
)
from udt_cluster.data.shards import ZSTD_LEVEL
from udt_cluster.storage import Commit, Location, ObjectRecord, write_commit

_SHARD_BYTES = 16 * 2**20
_MOST_SHARD_SAMPLES = 512


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """What will be written where."""

    root: Location
    info: StoreInfo
    cases: tuple[CaseSummary, ...]

    @cached_property
    def sample_ends(self) -> npt.NDArray[np.int64]:
        """(M + 1,): rows of images and labels before each case, and after the last."""
        return _running([case.num_samples for case in self.cases])

    @cached_property
    def native_ends(self) -> npt.NDArray[np.int64]:
        """(M + 1,): pixels of native_labels before each case, and after the last."""
        return _running([case.native_pixels for case in self.cases])

    @cached_property
    def layouts(self) -> dict[str, ArrayLayout]:
        """Every array of the store."""
        return array_layouts(
            self.info,
            num_samples=int(self.sample_ends[-1]),
            num_cases=len(self.cases),
            native_pixels=int(self.native_ends[-1]),
        )


def plan_store(
    root: Location,
    cases: Sequence[CaseSummary],
    statistics: Iterable[Statistics],
    *,
    dataset: str,
    adapter: str,
    version: str,
    size: tuple[int, int],
    resize: Resize,
    class_names: tuple[str, ...],
    provenance: Mapping[str, Any],
    shard_samples: int | None = None,
) -> StorePlan:
    """Decide where everything goes.

    Args:
        root: Of the new version.
        cases: In the order of the case table; all with the same number of channels.
        statistics: Of each case, or of several together.
        dataset: Name.
        adapter: Name.
        version: Hash.
        size: (H, W) of the samples.
        resize: As the samples were made.
        class_names: Background first.
        provenance: As in StoreInfo.
        shard_samples: Samples in a shard; by default about 16 MiB of pixels.
    """
    channels, dtype = cases[0].channels, promoted_dtype([case.dtype for case in cases])
    assert all(case.channels == channels for case in cases)
    num_samples = sum(case.num_samples for case in cases)
    sample_bytes = channels * size[0] * size[1] * np.dtype(dtype).itemsize
    info = StoreInfo(
        dataset=dataset,
        adapter=adapter,
        version=version,
        size=size,
        resize=resize,
        channels=channels,
        dtype=dtype,
        class_names=class_names,
        shard_samples=shard_samples or max(1, min(_SHARD_BYTES // sample_bytes, _MOST_SHARD_SAMPLES)),
        fingerprint=fingerprint(statistics, num_samples=num_samples, num_cases=len(cases)),
        provenance=provenance,
    )
    return StorePlan(root=root, info=info, cases=tuple(cases))


def promoted_dtype(dtypes: Sequence[str]) -> str:
    """The smallest type of the schema that holds every value of all of them: one type for a whole data set."""
    kinds = set(dtypes)
    if len(kinds) == 1:
        return kinds.pop()
    if "float32" in kinds or {"int16", "uint16"} <= kinds:
        return "float32"
    return "int16" if "int16" in kinds else "uint16"


def write_tables(plan: StorePlan) -> tuple[ObjectRecord, ...]:
    """Put everything but the shards: attributes, array metadata, the tables."""
    objects: dict[str, Any] = {}
    memory = MemoryStore(objects)
    zarr.create_group(memory, attributes=plan.info.to_attrs())
    columns = _columns(plan)
    for path, layout in plan.layouts.items():
        array = _create(memory, layout)
        if path in columns:
            array[...] = columns[path]
    return tuple(put(plan.root, key, objects[key].to_bytes()) for key in sorted(objects))


def finish(plan: StorePlan, records: Sequence[ObjectRecord]) -> Commit:
    """Declare the store complete; `records` are those of all shards and tables."""
    info = plan.info
    return write_commit(
        plan.root,
        records,
        {"kind": "dataset", "dataset": info.dataset, "version": info.version, "num_samples": int(plan.sample_ends[-1])},
    )


def _columns(plan: StorePlan) -> dict[str, npt.NDArray[Any]]:
    cases = plan.cases
    strings = {
        "ids": [case.id for case in cases],
        "groups": [case.group for case in cases],
        "splits": [case.split for case in cases],
        "metas": [json.dumps(dict(case.meta), sort_keys=True) if case.meta else "" for case in cases],
        "digests": [case.digest for case in cases],
        "sites": [case.site for case in cases],
    }
    numbers = {
        "native_offset": plan.native_ends[:-1],
        "native_shape": np.array([case.native_shape for case in cases], dtype=np.int64),
        "spacing": np.array([case.spacing for case in cases], dtype=np.float64),
        "affine": np.array([case.affine for case in cases], dtype=np.float64).reshape(-1, 4, 4),
        "first_sample": plan.sample_ends[:-1],
        "num_samples": np.diff(plan.sample_ends),
    }
    counts = np.diff(plan.sample_ends)
    samples = {
        "samples/case": np.repeat(np.arange(len(cases), dtype=np.int32), counts),
        "samples/slice": np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        "samples/foreground": np.fromiter((n for case in cases for n in case.foreground), np.int32),
        "samples/perceptual_hash": np.fromiter((h for case in cases for h in case.hashes), np.uint64),
        TURNED_HASH: np.fromiter((h for case in cases for h in case.turned), np.uint64).reshape(-1, 3),
    }
    named: dict[str, npt.NDArray[Any]] = {STRING_COLUMNS[k]: np.array(v, dtype=object) for k, v in strings.items()}
    return {**named, **{NUMBER_COLUMNS[k]: v for k, v in numbers.items()}, **samples}


def _create(store: MemoryStore, layout: ArrayLayout) -> "zarr.Array[Any]":
    return zarr.create_array(
        store,
        name=layout.path,
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        fill_value="" if layout.dtype == "string" else 0,
        dimension_names=layout.dimension_names,
        config={"write_empty_chunks": True},
    )


def put(root: Location, key: str, data: bytes) -> ObjectRecord:
    """Write one object of a store, and say what it is."""
    (root / key).write_bytes(data)
    return ObjectRecord(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _running(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
