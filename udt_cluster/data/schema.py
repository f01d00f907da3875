"""The on-disk contract: what one prepared data-set version looks like as a Zarr v3 group.

``<storage>/data/<dataset>/<version>/`` holds these objects, and a COMMIT written last::

    zarr.json                    attributes: StoreInfo
    images                       [N, C, H, W]   source precision
    labels                       [N, H, W]      uint8 class indices
    native_labels                [P]            uint8, every case's label before any resize, one after the other
    samples/case, samples/slice  [N]            int32: which case, and which of its slices
    samples/foreground           [N]            int32: pixels of the stored label that are not background
    samples/perceptual_hash      [N]            uint64: difference hash of the stored image, 0 for a flat one
    samples/turned_hash          [N, 3]         uint64: of the same image mirrored, transposed, and both
    cases/id, group, split, site, meta  [M]     strings (site is "" where unknown; meta is JSON)
    cases/digest                 [M]            string: SHA-256 of the source image's type, shape and pixels, 32 hex
    cases/native_offset          [M]            int64: where the case begins in native_labels
    cases/native_shape           [M, 3]         int64: D, H, W before any resize (D = 1 for a picture)
    cases/spacing                [M, 3]         float64: mm between voxels along D, H, W; NaN where unknown
    cases/affine                 [M, 4, 4]      float64: voxel (x, y, z) to mm, NIfTI's convention; NaN where unknown
    cases/first_sample, num_samples  [M]        int64: the case's rows of images and labels

Every chunk is zstd, then crc32c, and chunks of the fill value are written too: Zarr reads what is absent as zeros.
`images` and `labels` have one sample a chunk and `shard_samples` a shard, so that row i of both is in shard
i // shard_samples. Nothing in here names a file, a folder or a person.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from udt_cluster.errors import VersionError

FORMAT = "udt-cluster-store"
FORMAT_VERSION = 3
STORE_DTYPES = ("uint8", "int16", "uint16", "float32")
NATIVE_CHUNK = 2**18
NATIVE_SHARD = 2**24

Resize = Literal["stretch", "pad"]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What the training samples look like, over all of them, at stored resolution (padding included).

    Attributes:
        mean: One number per channel, as are std, minimum, maximum.
        std: Population standard deviation.
        minimum: Smallest value.
        maximum: Largest value.
        percentile_00_5: 0.5th percentile: exact for 8- and 16-bit integers, to 0.05 % of the value for floats.
        percentile_99_5: 99.5th percentile.
        class_fractions: Share of all label pixels, one number per class, background first.
        num_samples: Number of samples.
        num_cases: Number of cases.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    percentile_00_5: tuple[float, ...]
    percentile_99_5: tuple[float, ...]
    class_fractions: tuple[float, ...]
    num_samples: int
    num_cases: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """The inverse of ``dataclasses.asdict``, from JSON."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What a data-set version is; the attributes of its root group.

    Attributes:
        dataset: Name of the data set, the folder above the version.
        adapter: Which adapter read the source.
        version: Hash of inputs, parameters and the version of the preparation.
        size: (H, W) of a sample.
        resize: How samples were brought to that size.
        channels: C of images.
        dtype: Type of images, one of STORE_DTYPES.
        class_names: The background first, in the order of the label values.
        shard_samples: Samples in one shard of images and labels.
        fingerprint: Statistics.
        provenance: number of source files, prep_version, versions of packages, patients_known, warnings, quarantined
            (a list of {"id", "reason"}: cases that were left out).
    """

    dataset: str
    adapter: str
    version: str
    size: tuple[int, int]
    resize: Resize
    channels: int
    dtype: str
    class_names: tuple[str, ...]
    shard_samples: int
    fingerprint: Fingerprint
    provenance: Mapping[str, Any]

    @property
    def num_classes(self) -> int:
        """Classes including the background."""
        return len(self.class_names)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the preparation had to say about this data set."""
        return tuple(self.provenance.get("warnings", ()))

    def to_attrs(self) -> dict[str, Any]:
        """JSON for the attributes of the root group."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        fingerprint = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.fingerprint).items()}
        provenance = dict(self.provenance)
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **plain,
            "fingerprint": fingerprint,
            "provenance": provenance,
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> "StoreInfo":
        """Read the attributes of a root group.

        Raises:
            VersionError: another format, or a format version that this code does not know.
        """
        found = (attrs.get("format"), attrs.get("format_version"))
        if found != (FORMAT, FORMAT_VERSION):
            raise VersionError(
                f"this store has format {found[0]!r} version {found[1]!r}; this code reads {FORMAT!r} version "
                f"{FORMAT_VERSION}. Prepare the data again with this version, or use the version that wrote it."
            )
        values = {each.name: attrs[each.name] for each in fields(cls)}
        values["size"] = tuple(values["size"])
        values["class_names"] = tuple(values["class_names"])
        values["fingerprint"] = Fingerprint.from_dict(values["fingerprint"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseTable:
    """One row per case; a case is one image, or one volume of several samples.

    Opened from a store, a column is read when it is first asked for: a million cases are open at once.

    Attributes:
        ids: Unique, in the order of the rows.
        groups: What must not be split over folds: the patient where known, else the id.
        splits: The data set's own split: "train", "validation", "test" or "unknown".
        native_offset: (M,) int64, where the case begins in native_labels.
        native_shape: (M, 3) int64, D, H, W.
        spacing: (M, 3) float64, mm along D, H, W; NaN = unknown.
        affine: (M, 4, 4) float64, voxel (x, y, z) to mm; NaN = unknown.
        first_sample: (M,) int64, first row of images and labels.
        num_samples: (M,) int64, number of rows.
        metas: JSON objects of what else is known (ACDC: `{"group": "DCM", "phase": "ED"}`); empty = none stored.
        digests: Of the source image's pixels (equal digests are equal images); empty = none stored.
        sites: Hospital or scanner, "" where unknown; empty = none stored.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    native_offset: npt.NDArray[np.int64]
    native_shape: npt.NDArray[np.int64]
    spacing: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    first_sample: npt.NDArray[np.int64]
    num_samples: npt.NDArray[np.int64]
    metas: tuple[str, ...] = field(default_factory=tuple)
    digests: tuple[str, ...] = field(default_factory=tuple)
    sites: tuple[str, ...] = field(default_factory=tuple)

    @classmethod
    def lazily(cls, read: Callable[[str], Any], count: int) -> "CaseTable":
        """A table of `count` rows whose columns are read when they are first asked for.

        Args:
            read: A column by the name of its attribute: a tuple of strings, or an array.
            count: Number of rows.
        """
        table = cls.__new__(cls)
        vars(table).update(_read=read, _count=count)
        return table

    if not TYPE_CHECKING:  # a type checker shall know the columns, and nothing else

        def __getattr__(self, name: str) -> Any:
            if name not in (*STRING_COLUMNS, *NUMBER_COLUMNS) or "_read" not in vars(self):
                raise AttributeError(f"a case table has no column {name!r}")
            return vars(self).setdefault(name, self._read(name))

    def __len__(self) -> int:
        count: int | None = vars(self).get("_count")
        return len(self.ids) if count is None else count

    def __reduce__(self) -> tuple[Any, ...]:
        columns = {name: getattr(self, name) for name in (*STRING_COLUMNS, *NUMBER_COLUMNS)}
        return partial(CaseTable, **columns), ()


STRING_COLUMNS = {
    "ids": "cases/id",
    "groups": "cases/group",
    "splits": "cases/split",
    "metas": "cases/meta",
    "digests": "cases/digest",
    "sites": "cases/site",
}
NUMBER_COLUMNS = {
    name: f"cases/{name}"
    for name in ("native_offset", "native_shape", "spacing", "affine", "first_sample", "num_samples")
}
SAMPLE_COLUMNS = {
    "samples/case": "int32",
    "samples/slice": "int32",
    "samples/foreground": "int32",
    "samples/perceptual_hash": "uint64",
}
TURNED_HASH = "samples/turned_hash"


def unpadded(native: tuple[int, int], size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """Rows and columns of a sample of `size` that are no padding, made of an image of `native` (H, W)."""
    (height, width), (rows, columns) = native, size
    if resize != "pad":
        return rows, columns
    return max(1, min(rows, height * columns // width)), max(1, min(columns, width * rows // height))


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """How one array is stored."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dimension_names: tuple[str, ...]


def array_layouts(info: StoreInfo, *, num_samples: int, num_cases: int, native_pixels: int) -> dict[str, ArrayLayout]:
    """Every array of a store, by its path: the stacked ones in shards, each table in one chunk."""
    height, width = info.size
    image, label = (info.channels, height, width), (height, width)
    stacked = [
        ArrayLayout(
            path=path,
            shape=(num_samples, *sample),
            dtype=dtype,
            chunks=(1, *sample),
            shards=(info.shard_samples, *sample),
            dimension_names=("sample", *names),
        )
        for path, sample, dtype, names in (
            ("images", image, info.dtype, ("channel", "y", "x")),
            ("labels", label, "uint8", ("y", "x")),
        )
    ]
    native = ArrayLayout(
        path="native_labels",
        shape=(native_pixels,),
        dtype="uint8",
        chunks=(NATIVE_CHUNK,),
        shards=(NATIVE_SHARD,),
        dimension_names=("pixel",),
    )
    return {layout.path: layout for layout in (*stacked, native, *_tables(num_samples, num_cases))}


def _tables(num_samples: int, num_cases: int) -> list[ArrayLayout]:
    inner: dict[str, tuple[tuple[int, ...], tuple[str, ...], str]] = {
        "native_shape": ((3,), ("axis",), "int64"),
        "spacing": ((3,), ("axis",), "float64"),
        "affine": ((4, 4), ("row", "column"), "float64"),
    }
    tables = [_table(path, (num_cases,), "string", ("case",)) for path in STRING_COLUMNS.values()]
    for name, path in NUMBER_COLUMNS.items():
        shape, names, dtype = inner.get(name, ((), (), "int64"))
        tables.append(_table(path, (num_cases, *shape), dtype, ("case", *names)))
    tables += [_table(path, (num_samples,), dtype, ("sample",)) for path, dtype in SAMPLE_COLUMNS.items()]
    return [*tables, _table(TURNED_HASH, (num_samples, 3), "uint64", ("sample", "view"))]


def _table(path: str, shape: tuple[int, ...], dtype: str, names: tuple[str, ...]) -> ArrayLayout:
    return ArrayLayout(path=path, shape=shape, dtype=dtype, chunks=shape, shards=None, dimension_names=names)
