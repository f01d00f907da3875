"""The masks of a DICOM series: segmentations that refer to it, a NIfTI volume on its grid, or a picture for a file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from data_prep.adapters.pairs import attempt, read_bytes
from data_prep.adapters.volumes import folder_key, label_rule, named_files
from data_prep.case import Case
from data_prep.labels import LabelRule
from data_prep.readers import PICTURE_SUFFIXES, ReaderError, grid_difference, read_mask, read_nifti
from data_prep.readers.dicom import Frame, read_segments
from data_prep.readers.dicom_series import Series
from data_prep.readers.nifti import NIFTI_SUFFIXES
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig, PairsConfig
from udt_cluster.storage import Location

Labels = npt.NDArray[np.uint8]

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_APART = 0.1


class MaskFiles:
    """Which masks belong to which series.

    Attributes:
        problems: One line for each series without a mask, or with several kinds, as :meth:`of` is asked for it.
    """

    def __init__(
        self,
        tree: SourceTree,
        pairs: PairsConfig,
        segmentations: Mapping[str, Sequence[str]],
        files: Mapping[str, Sequence[str]],
    ) -> None:
        self.problems: list[str] = []
        self._segmentations = segmentations
        self._known_series = set(files)
        self._images = folder_key(pairs.images)
        self._pairs = pairs
        self._volumes = self._named(tree, NIFTI_SUFFIXES)
        self._pictures = self._named(tree, PICTURE_SUFFIXES)
        self._used: set[str] = set()

    def of(self, series: str, files: Sequence[str]) -> tuple[str, ...]:
        """Masks of a series: its segmentations, one volume, or a picture for each of its files; empty: none."""
        names = [self._name(key) for key in files]
        pictures = [self._pictures[name] for name in names if name in self._pictures]
        volumes = [self._volumes[name] for name in self._volume_names(names) if name in self._volumes]
        segmentations = list(self._segmentations.get(series, ()))
        twice = self._used.intersection(volumes)
        self._used.update(pictures, volumes)
        kinds = [found for found in (segmentations, volumes, pictures) if found]
        if len(kinds) > 1 or volumes[1:]:
            self.problems.append(
                f"{', '.join(k[0] for k in kinds)}: several masks for the series of {files[0]}; keep one"
            )
        elif twice:
            self.problems.append(
                f"{volumes[0]}: a mask for several series of one folder; give each a folder of its own"
            )
        elif kinds == [pictures] and len(pictures) < len(files):
            missing = [key for key, name in zip(files, names, strict=True) if name not in self._pictures]
            self.problems += [
                f"{key}: there is no mask for this image; others of its series have one" for key in missing
            ]
        elif kinds:
            return tuple(kinds[0])
        elif not self._segmentations:
            self.problems.append(self._absent(files))
        return ()

    def unused(self) -> list[str]:
        """Masks that no series asked for."""
        unknown = [keys for series, keys in self._segmentations.items() if series not in self._known_series]
        spare = {*self._volumes.values(), *self._pictures.values()} - self._used
        return [f"{key}: the series that it segments is not here" for keys in unknown for key in keys] + [
            f"{key}: there is no series for this mask" for key in sorted(spare)
        ]

    def _named(self, tree: SourceTree, suffixes: Sequence[str]) -> dict[str, str]:
        end = self._pairs.mask_suffix
        named = named_files(tree, self._pairs.masks, suffixes)
        return {name.removesuffix(end): key for key, name in named.items() if name.endswith(end)}

    def _name(self, key: str) -> str:
        """A file's path below `data.pairs.images`, by which masks go."""
        name = key.removeprefix(f"{self._images}/" if self._images else "")
        return name.rpartition(".")[0] if name.lower().endswith(_DICOM_SUFFIXES) else name

    @staticmethod
    def _volume_names(names: Sequence[str]) -> list[str]:
        """A volume goes by the folder of the series, or by its only file."""
        folders = {name.rpartition("/")[0] for name in names}
        return [*(folders if len(folders) == 1 else ()), *(names if len(names) == 1 else ())]

    def _absent(self, files: Sequence[str]) -> str:
        folder = self._name(files[0]).rpartition("/")[0] or "NAME"
        return (
            f"{files[0]}: there is no mask for this series ({len(files)} files): no segmentation refers to it, and "
            f"there is neither {self._pairs.masks}/{folder}{self._pairs.mask_suffix}.nii.gz nor a picture for each file"
        )


def read_label(source: Location, case: Case, series: Series, config: DataConfig, problems: list[str]) -> Labels | None:
    """Class indices of a series in canonical orientation, (D, H, W); None, and what is wrong, where there are none.

    Args:
        source: Where the files lie.
        case: Its labels are the masks.
        series: The images.
        config: Classes, and their values.
        problems: Gets one line for everything that is wrong with the masks.
    """
    first = case.labels[0].lower()
    if first.endswith(NIFTI_SUFFIXES):
        return attempt(problems, case.labels[0], partial(_volume, source, case.labels[0], series, label_rule(config)))
    planes = np.zeros(series.pixels.shape[:3], dtype=np.uint8)
    paint: Callable[[str], None]
    if first.endswith(PICTURE_SUFFIXES):
        slices_of = dict(zip(case.labels, case.images, strict=True))
        paint = partial(_paint_picture, source, series, slices_of, label_rule(config), planes)
    else:
        paint = partial(_paint_segments, source, series, config, planes)
    for key in case.labels:
        attempt(problems, key, partial(paint, key))
    return None if problems else np.ascontiguousarray(series.turned(planes).voxels)


def _volume(source: Location, key: str, series: Series, rule: LabelRule) -> Labels:
    if np.isnan(series.affine).any():
        raise ReaderError("a volume cannot be the mask of an image without a position in the body; store it as PNG")
    mask = read_nifti(read_bytes(source, key))
    if difference := grid_difference(series.turned(series.pixels), mask):
        raise ReaderError(difference)
    return rule.apply(mask.voxels)


def _paint_picture(
    source: Location, series: Series, slices_of: Mapping[str, str], rule: LabelRule, planes: Labels, key: str
) -> None:
    """A picture is the mask of the one slice that its DICOM file has."""
    mine = [index for index, placed in enumerate(series.slices) if placed.key == slices_of[key]]
    if len(mine) != 1:
        raise ReaderError(f"a picture for {len(mine)} frames of {slices_of[key]}; store the masks as a NIfTI volume")
    mask = rule.apply(read_mask(read_bytes(source, key)))
    if mask.shape != planes.shape[1:]:
        raise ReaderError(
            f"the mask has {mask.shape} pixels (H, W), the image {planes.shape[1:]}; resample it (nearest neighbour)"
        )
    planes[mine[0]] = mask


def _paint_segments(source: Location, series: Series, config: DataConfig, planes: Labels, key: str) -> None:
    """All segments of a segmentation, frame by frame."""
    labels, frames = read_segments(read_bytes(source, key))
    index_of = _class_indices(labels, config)
    for frame in frames:
        if frame.pixels.shape != planes.shape[1:]:
            raise ReaderError(
                f"the mask has {frame.pixels.shape} pixels (H, W), the image {planes.shape[1:]}; draw it on the series"
            )
        drawn = frame.pixels if frame.segment == 0 else (frame.pixels != 0) * np.uint16(frame.segment)
        target = planes[_slice(frame, series)]
        for segment in np.unique(drawn[drawn != 0]).tolist():
            if segment not in index_of:
                raise ReaderError(_unknown(segment, int(np.count_nonzero(drawn == segment)), config))
            _paint(target, drawn == segment, index_of[segment])


def _paint(target: Labels, mask: npt.NDArray[np.bool_], index: int) -> None:
    covered = int(np.count_nonzero(mask & (target != 0) & (target != index)))
    if covered:
        raise ReaderError(f"segments overlap in {covered} pixels of a slice; every pixel can have one class only")
    target[mask] = index


def _class_indices(labels: Mapping[int, str], config: DataConfig) -> dict[int, int]:
    """Class of each segment number: by `label_values`, else by the segment's label, else all are the one class."""
    if config.label_values is not None:
        return {value: index for index, value in enumerate(config.label_values, start=1)}
    if config.classes is None:
        return dict.fromkeys(labels, 1)
    index_of = {name.casefold(): index for index, name in enumerate(config.classes, start=1)}
    found = {number: index_of.get(label.strip().casefold()) for number, label in labels.items()}
    return {number: index for number, index in found.items() if index is not None}


def _unknown(segment: int, count: int, config: DataConfig) -> str:
    if config.label_values is not None:
        allowed = f"data.label_values: {list(config.label_values)}"
    else:
        allowed = f"the segments called {list(config.classes or ())} (data.classes)"
    return (
        f"unexpected label values {segment} ({count} pixels): a segment that is no class; allowed: {allowed}. Name its "
        "SegmentLabel in data.classes, or all segment numbers in data.label_values"
    )


def _slice(frame: Frame, series: Series) -> int:
    """Index of the slice that a frame of a segmentation lies on.

    Raises:
        ReaderError: it lies on none, or is turned or scaled against it.
    """
    first = series.slices[0].frame
    if frame.position is None or series.positions is None:
        mine = [i for i, placed in enumerate(series.slices) if placed.frame.instance == frame.instance != ""]
        if len(mine) != 1:
            raise ReaderError("a frame neither has a position nor refers to an image of the series; export it again")
        return mine[0]
    spacing, most = first.spacing, _APART / max(series.pixels.shape[1:3])
    own, wanted = frame.directions, first.directions
    turned = own is not None and wanted is not None and np.abs(own - wanted).max() > most
    if turned or not np.allclose(frame.spacing, spacing, rtol=most, equal_nan=True):
        raise ReaderError(f"is turned against the images, or has no pixels of {spacing} mm; resample it to their grid")
    apart = np.linalg.norm(series.positions - frame.position, axis=1)
    nearest = int(apart.argmin())
    if not apart[nearest] <= _APART * np.nan_to_num(min(spacing), nan=1.0):
        raise ReaderError(f"a frame lies {apart[nearest]:.2f} mm away from the nearest slice; draw it on the series")
    return nearest
