"""What adapters of volumes share: files that belong together by name, and an image and its mask on one grid."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.adapters.pairs import attempt, read_bytes
from data_prep.case import Case, CaseError, RawCase
from data_prep.labels import LabelRule
from data_prep.readers import Volume, grid_difference, read_nifti, store_precision
from data_prep.readers.volume import SliceAxis
from data_prep.source import SourceTree, natural_order
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})")


def label_rule(config: DataConfig) -> LabelRule:
    """Which value is which class, by `data.label_values`; without them 1, 2, ..., or all above 0 for a single class."""
    if config.label_values is not None:
        return LabelRule(config.label_values)
    classes = len(config.classes or ("foreground",))
    return LabelRule(None if classes == 1 else tuple(range(1, classes + 1)))


def folder_key(folder: str) -> str:
    """A folder of a job as the start of keys: without `.`, and `""` for the source itself."""
    return posixpath.normpath(f"/{folder}").lstrip("/")


def named_files(tree: SourceTree, folder: str, suffixes: Sequence[str]) -> dict[str, str]:
    """Files below a folder, each with its path below it without the extension."""
    start = folder_key(folder)
    keys = tree.below(start, suffixes)
    return {key: _without_suffix(key.removeprefix(f"{start}/" if start else ""), suffixes) for key in keys}


def _without_suffix(name: str, suffixes: Sequence[str]) -> str:
    longest = max((suffix for suffix in suffixes if name.lower().endswith(suffix)), key=len)
    return name[: -len(longest)]


@dataclass(frozen=True, kw_only=True)
class VolumePairs:
    """Images, a file for each channel, and masks by name.

    Attributes:
        complete: name -> (images in the order of their channels, mask), in natural order of the names.
        problems: One line for each file without a partner, or with several.
    """

    complete: Mapping[str, tuple[tuple[str, ...], str]]
    problems: list[str]


def pair_volumes(images: Mapping[str, str], masks: Mapping[str, str], channels: int | None = None) -> VolumePairs:
    """Pair files of equal names; NAME_0000, NAME_0001, ... are the channels of the image whose mask is NAME.

    Args:
        images: The name that each key goes by.
        masks: As images.
        channels: How many an image has, in so many files or in one; None: as many files as most images have.
    """
    masks_of: dict[str, list[str]] = defaultdict(list)
    for key, name in masks.items():
        masks_of[name].append(key)
    images_of: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, name in images.items():
        numbered = None if name in masks_of else _CHANNEL.fullmatch(name)
        owner, channel = (numbered["name"], int(numbered["channel"])) if numbered else (name, 0)
        images_of[owner if owner in masks_of else name][channel].append(key)
    counts = [len(files) for files in images_of.values()]
    wanted = channels or max(sorted(set(counts)), key=counts.count, default=1)
    unnumbered = set(images.values())
    complete, problems = {}, []
    for name in sorted({*images_of, *masks_of}, key=natural_order):
        files, own_masks = images_of.get(name, {}), masks_of.get(name, [])
        in_one_file = channels is not None and name in unnumbered
        found = _unpaired(files, own_masks) or ([] if in_one_file else _uneven(name, files, wanted))
        problems += found
        if not found:
            complete[name] = (tuple(files[channel][0] for channel in sorted(files)), own_masks[0])
    return VolumePairs(complete=complete, problems=problems)


def _unpaired(files: Mapping[int, Sequence[str]], masks: Sequence[str]) -> list[str]:
    keys = [key for same in files.values() for key in same]
    if not masks:
        return [f"{key}: there is no mask for this image" for key in keys]
    if not files:
        return [f"{mask}: there is no image for this mask" for mask in masks]
    if masks[1:] or any(same[1:] for same in files.values()):
        return [f"{', '.join([*keys, *masks])}: several files of one name; keep one image and one mask"]
    return []


def _uneven(name: str, files: Mapping[int, Sequence[str]], channels: int) -> list[str]:
    expected = set(range(channels))
    return [
        f"{name}_{channel:04d}: this channel is {'missing' if channel in expected else 'one too many'}; the images of "
        f"this data set have {channels}"
        for channel in sorted(expected ^ set(files))
    ]


def read_volumes(
    source: Location, case: Case, rule: LabelRule, *, axis: SliceAxis = "file", channels: int = 1
) -> RawCase:
    """The NIfTI volumes of a case, one a channel, and their mask, all on the grid of the first.

    Args:
        source: Where the files lie.
        case: With one or several images, and one label.
        rule: For the values of the mask.
        axis: Along which slices are cut.
        channels: How many each image file has along its fourth axis.

    Raises:
        CaseError: everything that is wrong with any of the files.
    """
    problems: list[str] = []
    (label_key,) = case.labels
    found = [attempt(problems, key, partial(_image, source, key, axis, channels)) for key in case.images]
    mask = attempt(problems, label_key, lambda: read_nifti(read_bytes(source, label_key), axis=axis))
    indices = attempt(problems, label_key, lambda: rule.apply(mask.voxels)) if mask else None
    images = [image for image in found if image is not None]
    if images:
        others = zip(case.images[1:], images[1:], strict=False) if len(images) == len(found) else ()
        problems += [f"{key}: {what}" for key, other in others if (what := grid_difference(images[0], other, "it"))]
        if mask and (what := grid_difference(images[0], mask)):
            problems.append(f"{label_key}: {what}")
    if problems or indices is None:
        raise CaseError(problems)
    return RawCase(image=_channels(images), label=indices, spacing=images[0].spacing, affine=images[0].affine)


def _image(source: Location, key: str, axis: SliceAxis, channels: int) -> Volume:
    volume = read_nifti(read_bytes(source, key), axis=axis, channels=channels)
    return Volume(voxels=store_precision(volume.voxels), affine=volume.affine, spacing=volume.spacing)


def _channels(images: Sequence[Volume]) -> npt.NDArray[Any]:
    """(D, C, H, W); a single image is not copied."""
    planes = [image.voxels if image.voxels.ndim == 4 else image.voxels[:, None] for image in images]
    return planes[0] if len(planes) == 1 else store_precision(np.concatenate(planes, axis=1))
