"""What is known of all cases together: kept small, whatever they are."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from data_prep.case import Case
from data_prep.check.look import Look
from data_prep.privacy import Trace
from data_prep.statistics import ChannelStatistics, Statistics
from udt_cluster.data.schema import CaseTable


@dataclass
class Tally:
    """How often something was seen, and where first."""

    count: int = 0
    cases: list[str] = field(default_factory=list)
    file: str = ""

    def add(self, case: str, file: str = "") -> None:
        """Once more; a few cases are remembered."""
        self.count += 1
        self.file = self.file or file
        if len(self.cases) < 10 and case not in self.cases:
            self.cases.append(case)


@dataclass
class Survey:
    """Counts over cases that were looked at, in their order.

    Attributes:
        class_names: The background first.
        good: Cases that can be prepared.
        bad: Their number.
        class_pixels: Per split ("train" is all that no test or validation set has), pixels of each class.
        class_cases: Cases that have a class.
        sizes: (height, width) of an image -> slices.
        depths: Slices of a case -> cases.
        statistics: Of images of each number of channels, at sample size.
    """

    class_names: tuple[str, ...]
    good: list[Case] = field(default_factory=list)
    bad: int = 0
    class_pixels: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    class_cases: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    channels: dict[int, Tally] = field(default_factory=dict)
    dtypes: Counter[str] = field(default_factory=Counter)
    spacings: Counter[str] = field(default_factory=Counter)
    statistics: dict[int, Statistics] = field(default_factory=dict)
    empty_slices: int = 0
    empty_cases: Tally = field(default_factory=Tally)
    lost: dict[int, Tally] = field(default_factory=dict)
    decisions: dict[str, Tally] = field(default_factory=dict)
    doubts: dict[str, Tally] = field(default_factory=dict)
    traces: dict[tuple[str, str], Tally] = field(default_factory=dict)
    num_bytes: int = 0
    _presence: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _digests: list[str] = field(default_factory=list)
    _hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    _turned: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    _shapes: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, case: Case, look: Look) -> None:
        """One more case."""
        self.num_bytes += look.num_bytes
        for file, line in look.decisions:
            self.decisions.setdefault(line, Tally()).add(case.id, file)
        for file, line in look.doubts:
            self.doubts.setdefault(line, Tally()).add(case.id, file)
        for file, trace in look.traces:
            self._add_trace(case, file, trace)
        if look.summary is None or look.statistics is None:
            self.bad += 1
            return
        self._add_shape(case, look)
        self._add_classes(case, look)
        self._presence.append(np.array(look.statistics.class_counts) > 0)
        self._add_statistics(look.statistics)

    @property
    def num_samples(self) -> int:
        """Slices of all good cases."""
        return sum(depth * count for depth, count in self.depths.items())

    @property
    def presence(self) -> npt.NDArray[np.bool_]:
        """(M, K) whether a good case has a class at sample size; the background counts as present."""
        rows = np.array(self._presence, bool).reshape(len(self.good), len(self.class_names))
        rows[:, 0] = True
        return rows

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Of every slice."""
        return np.concatenate(self._hashes) if self._hashes else np.zeros(0, np.uint64)

    @property
    def turned(self) -> npt.NDArray[np.uint64]:
        """(N, 3) of every slice mirrored, transposed, and both."""
        return np.concatenate(self._turned) if self._turned else np.zeros((0, 3), np.uint64)

    def table(self) -> CaseTable:
        """The case table that a store of the good cases would have."""
        shapes = np.array(self._shapes, np.int64).reshape(-1, 3)
        ends, pixels = (np.concatenate([[0], np.cumsum(n)]) for n in (shapes[:, 0], shapes.prod(axis=1)))
        return CaseTable(
            ids=tuple(case.id for case in self.good),
            groups=tuple(case.group for case in self.good),
            splits=tuple(case.split for case in self.good),
            native_offset=pixels[:-1].astype(np.int64),
            native_shape=shapes,
            spacing=np.full((len(shapes), 3), np.nan),
            affine=np.full((len(shapes), 4, 4), np.nan),
            first_sample=ends[:-1].astype(np.int64),
            num_samples=shapes[:, 0],
            digests=tuple(self._digests),
            sites=tuple(case.site for case in self.good),
        )

    def _add_trace(self, case: Case, file: str, trace: Trace) -> None:
        self.traces.setdefault((trace.kind, trace.field), Tally()).add(case.id, file)

    def _add_shape(self, case: Case, look: Look) -> None:
        assert look.summary is not None
        depth, height, width = look.summary.native_shape
        self.good.append(case)
        self.sizes[height, width] += depth
        self.depths[depth] += 1
        self.dtypes[look.summary.dtype] += 1
        self.channels.setdefault(look.summary.channels, Tally()).add(case.id, case.images[0])
        if np.isfinite(look.summary.spacing).any():
            self.spacings[" x ".join(f"{mm:.3g}" for mm in look.summary.spacing)] += 1
        self._digests.append(look.summary.digest)
        self._hashes.append(np.array(look.summary.hashes, np.uint64))
        self._turned.append(np.array(look.summary.turned, np.uint64).reshape(-1, 3))
        self._shapes.append(look.summary.native_shape)

    def _add_classes(self, case: Case, look: Look) -> None:
        split = case.split if case.split in ("test", "validation") else "train"
        counts = np.array(look.class_pixels, np.int64)
        self.class_pixels[split] = self.class_pixels.get(split, np.zeros_like(counts)) + counts
        self.class_cases.update(index for index, pixels in enumerate(look.class_pixels) if pixels)
        self.empty_slices += look.empty_slices
        if not counts[1:].any():
            self.empty_cases.add(case.id, case.labels[0])
        for index in look.lost_classes:
            self.lost.setdefault(index, Tally()).add(case.id, case.labels[0])

    def _add_statistics(self, statistics: Statistics) -> None:
        channels = len(statistics.channels)
        known = self.statistics.get(channels)
        self.statistics[channels] = statistics if known is None else known.merged(statistics)

    def intensities(self) -> list[ChannelStatistics]:
        """Of each channel, of the images with the usual number of channels."""
        if not self.statistics:
            return []
        usual = max(self.channels, key=lambda number: (self.channels[number].count, number))
        return list(self.statistics[usual].channels)
