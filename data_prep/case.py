"""The vocabulary of preparation: a case as it is found, as it is read, and as it is prepared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.statistics import Statistics
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Entry, Location

Split = Literal["train", "validation", "test", "unknown"]


class CaseError(ValueError):
    """Something is wrong with a case; ``problems`` names each file and what is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image, or one volume of one patient, as it lies in the source.

    Attributes:
        id: Unique in the data set, and the same wherever the source lies.
        group: The patient where known, else the id (a tile's: its picture).
        split: The data set's own.
        site: The hospital or scanner, where the data set tells.
        images: Keys relative to the source: one file, or the slices in their order.
        labels: As images; the same keys where one file has both.
        region: Of a tile: (top, left, height, width) within its picture, in pixels.
        meta: What else is known and may be stored (no text from file headers).
    """

    id: str
    group: str
    split: Split
    images: tuple[str, ...]
    labels: tuple[str, ...]
    site: str = ""
    region: tuple[int, int, int, int] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BadCase:
    """A case, and everything that is wrong with it."""

    case: Case
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What an adapter found.

    Attributes:
        cases: Sorted by id as people count (2 before 10).
        patients_known: Whether `Case.group` is the patient.
        files: Every file whose content matters, lists and tables included, sorted by key.
        warnings: What the user should know about this data set.
        left_out: Files that make no case, each as if it were one; none where bad cases are not left out.
    """

    cases: tuple[Case, ...]
    patients_known: bool
    files: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[BadCase, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RawCase:
    """A case as read, before any resize.

    Attributes:
        image: (D, C, H, W) in source precision; D = 1 for a picture.
        label: (D, H, W) uint8 class indices, background 0.
        spacing: (3,) float64, mm along D, H, W; NaN where unknown.
        affine: (4, 4) float64, voxel (x, y, z) to mm; NaN where unknown.
    """

    image: npt.NDArray[Any]
    label: npt.NDArray[np.uint8]
    spacing: npt.NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    affine: npt.NDArray[np.float64] = field(default_factory=lambda: np.full((4, 4), np.nan))


class Adapter(Protocol):
    """One layout of files that data sets come in."""

    @property
    def name(self) -> str:
        """As in `data.adapter`."""

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Names of all classes, the background first.

        Raises:
            DataError: `data.classes` does not fit this data set.
        """

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find the cases by their names alone.

        Raises:
            DataError: ``problems`` lists all that is missing or has no partner.
        """

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """Read one case.

        Raises:
            CaseError: unreadable files, masks that do not fit, unexpected label values, NaN.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseSummary:
    """What the plan of a store must know of a prepared case; small.

    Attributes:
        id: As in Case, like group, split, site and meta.
        digest: Of the image as read: `pixel_digest`.
        num_samples: Slices.
        foreground: Pixels of each sample's label that are not background.
        hashes: Perceptual hash of each sample's image.
        turned: Of each sample three more: of its image mirrored, transposed, and both.
        channels: C.
        dtype: Of the image.
        native_shape: (D, H, W) of the label before any resize.
        spacing: As in RawCase, like affine; flat.
    """

    id: str
    group: str
    split: str
    site: str
    meta: Mapping[str, str]
    digest: str
    foreground: Sequence[int]
    hashes: Sequence[int]
    turned: Sequence[int]
    num_samples: int
    channels: int
    dtype: str
    native_shape: tuple[int, int, int]
    spacing: Sequence[float]
    affine: Sequence[float]

    @property
    def native_pixels(self) -> int:
        """D * H * W of the label before any resize."""
        return int(np.prod(self.native_shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class CasePixels:
    """The pixels of a prepared case; large, and wanted only where shards are written.

    Attributes:
        images: (n, C, h, w) in source precision.
        labels: (n, h, w) uint8.
        native_label: (D, H, W) uint8.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.uint8]
    native_label: npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedCase:
    """A case at the size of a training sample."""

    summary: CaseSummary
    statistics: Statistics
    pixels: CasePixels
