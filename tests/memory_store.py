"""A data set in memory with what loaders read of a DataStore; every pixel says which sample it belongs to."""

import threading
import uuid
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from udt_cluster.data.schema import CaseTable, Fingerprint, StoreInfo


def make_cases(
    ids: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    num_samples: Sequence[int] | None = None,
) -> CaseTable:
    """A case table of which only ids, groups, official splits and numbers of samples matter."""
    counts = np.array([1] * len(ids) if num_samples is None else num_samples, np.int64)
    return CaseTable(
        ids=tuple(ids),
        groups=tuple(ids if groups is None else groups),
        splits=tuple(["train"] * len(ids) if splits is None else splits),
        native_offset=np.zeros(len(ids), np.int64),
        native_shape=np.ones((len(ids), 3), np.int64),
        spacing=np.full((len(ids), 3), np.nan),
        affine=np.full((len(ids), 4, 4), np.nan),
        first_sample=np.cumsum(counts) - counts,
        num_samples=counts,
    )


class MemoryDataStore:
    """Samples in memory. `reads` lists what was asked for; `fail_at` is a sample that cannot be read."""

    def __init__(
        self,
        *,
        cases: CaseTable,
        size: tuple[int, int] = (16, 16),
        channels: int = 3,
        dtype: str = "uint8",
        shard_samples: int = 4,
        num_classes: int = 3,
    ) -> None:
        self.cases = cases
        self.num_samples = int(cases.num_samples.sum())
        rng = np.random.default_rng(0)
        self.images = rng.integers(1, 200, (self.num_samples, channels, *size)).astype(dtype)
        self.labels = rng.integers(0, num_classes, (self.num_samples, *size), np.uint8)
        self.sample_case = np.repeat(np.arange(len(cases), dtype=np.int32), cases.num_samples)
        self.sample_slice = np.concatenate([np.arange(n, dtype=np.int32) for n in cases.num_samples] or [[]])
        ones = (1.0,) * channels
        self.info = StoreInfo(
            dataset="memory",
            adapter="image_folder",
            version="0" * 16,
            size=size,
            resize="stretch",
            channels=channels,
            dtype=dtype,
            class_names=("background", *(f"class {n}" for n in range(1, num_classes))),
            shard_samples=shard_samples,
            fingerprint=Fingerprint(
                mean=ones,
                std=ones,
                minimum=ones,
                maximum=tuple(200 * one for one in ones),
                percentile_00_5=ones,
                percentile_99_5=tuple(200 * one for one in ones),
                class_fractions=(1 / num_classes,) * num_classes,
                num_samples=self.num_samples,
                num_cases=len(cases),
            ),
            provenance={},
        )
        self.sample_foreground = np.count_nonzero(self.labels, axis=(1, 2)).astype(np.int32)
        self.location = SimpleNamespace(uri=f"memory:{uuid.uuid4()}")
        self.commit = SimpleNamespace(digest="0" * 64)
        self.reads: list[tuple[int, int]] = []
        self.fail_at: int | None = None
        self._lock = threading.Lock()

    @property
    def num_shards(self) -> int:
        return -(-self.num_samples // self.info.shard_samples)

    def read_shard(self, index: int, *, out: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        start = index * self.info.shard_samples
        out[0][...], out[1][...] = self.read_samples(start, min(start + self.info.shard_samples, self.num_samples))
        return out

    def read_samples(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            self.reads.append((start, stop))
        if self.fail_at is not None and start <= self.fail_at < stop:
            raise OSError(f"sample {self.fail_at} cannot be read")
        return self.images[start:stop], self.labels[start:stop]
