"""Look at a folder of images, and find out which adapter reads it and what its settings are: `udt-cluster init FOLDER`.

Layouts of published data sets are known by names that only they have; what none of them claims is looked through for
two sets of files whose names fit together. Masks are told from images by their values, so a few are read.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.readers import PICTURE_SUFFIXES, ReaderError, read_mask, read_nifti, read_picture
from data_prep.source import SourceTree, stem
from udt_cluster.errors import DataError, UdtError
from udt_cluster.storage import Location

_MASK_WORD = re.compile(
    r"(^|[^a-z])(masks?|labels?|labelcol|gt|ground_?truth|annot\w*|anno|seg\w*)([^a-z]|$)", re.IGNORECASE
)
_MOST_CLASSES = 32
_LOOKED_AT = 12
_VOLUMES = 3
_SIDE_LIMIT = 256


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a folder seems to be.

    Attributes:
        adapter: As in `data.adapter`.
        settings: Other fields of `data`, by name.
        size: (H, W) proposed for samples, multiples of 16.
        found: Sentences for people: what was seen, and what to look at again.
    """

    adapter: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (224, 224)
    found: tuple[str, ...] = ()


def detect(source: Location) -> Guess:
    """Find the adapter and its settings for a folder.

    Raises:
        DataError: nothing there looks like images with masks; says what was seen.
    """
    tree = SourceTree.of(source)
    for adapter, claims in _KNOWN.items():
        if claims(tree):
            return Guess(adapter=adapter, found=(f"the layout of {adapter}",))
    for look in (_volumes, _arrays, _pictures):
        if guess := look(tree):
            return guess
    kinds = Counter(key.rpartition(".")[2].lower() if "." in key else "no extension" for key in tree.entries)
    seen = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    raise DataError(
        f"{source}: no images with masks were recognised among its {len(tree.entries)} files ({seen}). An image folder "
        "has images/NAME.png and masks/NAME.png; `udt-cluster init --list` names the layouts that are known."
    )


def _any(pattern: str) -> Callable[[SourceTree], bool]:
    compiled = re.compile(pattern)
    return lambda tree: any(compiled.search(key) for key in tree.entries)


_KNOWN: dict[str, Callable[[SourceTree], bool]] = {
    "acdc": _any(r"(^|/)patient\d+_frame\d+(_gt\.nii(\.gz)?|(_slice_\d+)?\.h5)$"),
    "isic2018": _any(r"^ISIC2018_Task1"),
    "synapse": _any(r"(^|/)(train_npz/case\d+_slice\d+\.npz|test_vol_h5/case\d+\.npy\.h5)$|(^|/)label/label\d{4}\.nii"),
    "covid19": _any(r"(^|/)(LungInfection|MultiClassInfection)-(Train|Test)/"),
    "monuseg": _any(r"(^|/)TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}[^/]*\.(png|tiff?|xml)$"),
    "glas": _any(r"^Train_Folder/labelcol/|(^|/)(train|testA)_\d+_anno\.bmp$"),
    "dicom": _any(r"\.(dcm|DCM)$"),
}


def _volumes(tree: SourceTree) -> Guess | None:
    volumes = [key for key in tree.entries if key.endswith((".nii", ".nii.gz"))]
    if not volumes:
        return None
    size, sized = _size([shape for key in sorted(volumes)[:_VOLUMES] if (shape := _slice_shape(tree.location, key))])
    if "dataset.json" in tree.entries:
        found = ("NIfTI volumes with dataset.json (MSD or nnU-Net)", *sized)
        return Guess(adapter="nifti", settings={"group_by": "case"}, size=size, found=found)
    pair = _paired_folders(volumes)
    if pair is None:
        return None
    settings = {"group_by": "case", "pairs": pair.settings}
    return Guess(adapter="nifti", settings=settings, size=size, found=(pair.sentence("NIfTI volumes"), *sized))


def _slice_shape(source: Location, key: str) -> tuple[int, int] | None:
    try:
        height, width = read_nifti((source / key).read_bytes()).voxels.shape[-2:]
    except (ReaderError, UdtError, OSError):
        return None
    return int(height), int(width)


def _arrays(tree: SourceTree) -> Guess | None:
    arrays = [key for key in tree.entries if key.lower().endswith((".npz", ".h5", ".hdf5"))]
    if not arrays:
        return None
    return Guess(adapter="arrays", settings={"group_by": "case"}, found=(f"{len(arrays)} files of arrays",))


@dataclass(frozen=True, kw_only=True)
class _FolderPair:
    images: str
    masks: str
    suffix: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def settings(self) -> dict[str, str]:
        return {"images": self.images, "masks": self.masks, "mask_suffix": self.suffix}

    def sentence(self, what: str) -> str:
        behind = f" with {self.suffix!r} behind the name" if self.suffix else ""
        return f"{len(self.pairs)} {what} in {self.images or '.'}, their masks in {self.masks or '.'}{behind}"


def _paired_folders(keys: Sequence[str]) -> _FolderPair | None:
    """The two folders, or the one folder with a suffix, that pair most files; the masks are those named so."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        by_folder[key.rpartition("/")[0]][stem(key)] = key
    found = [
        pair
        for images, image_files in by_folder.items()
        for masks, mask_files in by_folder.items()
        for pair in _pairs_of(images, image_files, masks, mask_files)
    ]
    return max(found, key=lambda pair: (len(pair.pairs), _looks_like_masks(pair), pair.images), default=None)


def _pairs_of(
    images: str, image_files: Mapping[str, str], masks: str, mask_files: Mapping[str, str]
) -> list[_FolderPair]:
    """One candidate for each suffix that occurs; within one folder the suffix must not be empty."""
    apart = images != masks
    suffixes = {name[end:] for name in mask_files for end in range(1, len(name) + apart) if name[:end] in image_files}
    return [
        _FolderPair(images=images, masks=masks, suffix=suffix, pairs=pairs)
        for suffix in suffixes
        if (pairs := tuple((k, mask_files[n + suffix]) for n, k in image_files.items() if n + suffix in mask_files))
        and _complete(pairs, image_files, suffix if images == masks else None)
    ]


def _complete(pairs: Sequence[object], images: Mapping[str, str], suffix: str | None) -> bool:
    """Whether nearly every image has its mask: names that fit by chance are few."""
    count = len(images) if suffix is None else sum(not name.endswith(suffix) for name in images)
    return len(pairs) >= max(1, 0.8 * count)


def _looks_like_masks(pair: _FolderPair) -> int:
    """+1 where only the masks' side is named so, -1 where only the images' side is."""
    masks = bool(_MASK_WORD.search(f"{pair.masks}/{pair.suffix}" if pair.images != pair.masks else pair.suffix))
    return masks - (pair.images != pair.masks and bool(_MASK_WORD.search(pair.images)))


def _pictures(tree: SourceTree) -> Guess | None:
    pictures = [key for key in tree.entries if key.lower().endswith(PICTURE_SUFFIXES)]
    pair = _paired_folders(pictures)
    if pair is None:
        return None
    masks = [mask for _, mask in pair.pairs[:: max(1, len(pair.pairs) // _LOOKED_AT)]][:_LOOKED_AT]
    settings, sentences = _classes([_values(tree.location, key) for key in masks])
    settings = {"group_by": "case", "pairs": pair.settings, **settings}
    sides = [shape for key, _ in pair.pairs[:_LOOKED_AT] if (shape := _shape(tree.location, key))]
    size, sized = _size(sides)
    return Guess(
        adapter="image_folder", settings=settings, size=size, found=(pair.sentence("pictures"), *sentences, *sized)
    )


def _values(source: Location, key: str) -> npt.NDArray[Any] | None:
    """The distinct values of a mask; None where it cannot be read as one."""
    try:
        return np.unique(read_mask((source / key).read_bytes()))
    except (ReaderError, UdtError, OSError):
        return None


def _shape(source: Location, key: str) -> tuple[int, int] | None:
    try:
        height, width = read_picture((source / key).read_bytes()).shape[-2:]
    except (ReaderError, UdtError, OSError):
        return None
    return int(height), int(width)


def _classes(found: Sequence[npt.NDArray[Any] | None]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Names and values of the classes, from the values of a few masks."""
    readable = [values for values in found if values is not None]
    if not readable:
        return {"classes": ["foreground"]}, ("no mask could be read: run `udt-cluster data check` on this job",)
    values = [int(value) for value in np.unique(np.concatenate(readable)) if value > 0]
    if len(values) <= 1 or len(values) > _MOST_CLASSES:
        what = f"{values[0]}" if len(values) == 1 else f"{len(values)} values: instance ids, taken as one class"
        return {"classes": ["foreground"]}, (f"masks hold 0 and {what}",)
    names = [f"class-{number}" for number in range(1, len(values) + 1)]
    settings: dict[str, Any] = {"classes": names}
    if values != list(range(1, len(values) + 1)):
        settings["label_values"] = values
    return settings, (f"masks hold 0 and {', '.join(map(str, values))}: {len(values)} classes, to be named",)


def _size(sides: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The usual size of the pictures, brought below a limit, in multiples of 16."""
    if not sides:
        return (224, 224), ()
    height, width = (float(np.median([side[axis] for side in sides])) for axis in (0, 1))
    scale = min(1.0, _SIDE_LIMIT / max(height, width))
    rounded = tuple(max(16, round(side * scale / 16) * 16) for side in (height, width))
    return (rounded[0], rounded[1]), (f"pixels: about {height:.0f}x{width:.0f}",)
