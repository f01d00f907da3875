"""Volumes that are stored slice by slice, one file each, and put together again in the order of their numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.adapters.pairs import attempt
from data_prep.case import Case, CaseError, RawCase
from data_prep.labels import LabelRule
from data_prep.readers import ReaderError, store_precision

WHOLE = -1
"""The number of a file that holds the volume itself."""

Slices = Mapping[int, Sequence[str]]
"""The files of one case by the number of their slice; more than one of a number is a mistake."""

ImageAndLabel = tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]

_SHOWN = 5


def keys_in_order(slices: Slices) -> tuple[str, ...]:
    """The volume where there is one (the slices beside it are the same), else the slices by number."""
    if WHOLE in slices:
        return (slices[WHOLE][0],)
    return tuple(slices[number][0] for number in sorted(slices))


def gaps(name: str, slices: Slices, *, first: int, file_name: Callable[[int], str]) -> list[str]:
    """What is there twice, and what is missing between the first slice and the last that is there.

    Args:
        name: Of the case.
        slices: Its files.
        first: The number that slices count from; a lower one that is there counts as well.
        file_name: Of the slice of a number.
    """
    twice = [f"{', '.join(keys)}: several files for the same part of {name}" for keys in slices.values() if keys[1:]]
    if WHOLE in slices or not slices:
        return twice
    missing = sorted(set(range(min(first, *slices), max(slices) + 1)) - set(slices))
    return [*twice, *(f"{file_name(number)}: missing between the slices that are there" for number in missing)]


def read_slices(case: Case, read: Callable[[str], ImageAndLabel]) -> RawCase:
    """The volume of a case; spacing and orientation are not known.

    Args:
        case: Its images are the files that have both.
        read: Reads a file: image and label, (D, H, W) each.

    Raises:
        CaseError: everything that is wrong with its files.
    """
    problems: list[str] = []
    found = [attempt(problems, key, partial(read, key)) for key in case.images]
    planes = [plane for plane in found if plane is not None]
    shapes = {label.shape[1:] for _, label in planes}
    if len(shapes) > 1:
        problems.append(f"{case.id}: its slices have different sizes: {', '.join(map(str, sorted(shapes)))}")
    if problems:
        raise CaseError(problems)
    images, labels = zip(*planes, strict=True)
    return RawCase(image=_joined(images)[:, None], label=_joined(labels))


def as_volume(arrays: Sequence[npt.NDArray[Any]], rule: LabelRule) -> ImageAndLabel:
    """Image and label of a file, (D, H, W) each; a slice has D = 1.

    Args:
        arrays: Image and mask as they were read.
        rule: For the values of the mask.

    Raises:
        ReaderError: they do not fit together, or hold what they must not.
    """
    image, label = arrays
    if image.shape != label.shape:
        raise ReaderError(f"the mask has the shape {label.shape}, the image {image.shape}; export both from one grid")
    if image.ndim not in (2, 3):
        raise ReaderError(f"has the shape {image.shape}; a slice is (H, W), a volume (D, H, W)")
    volume = (-1, *image.shape[-2:])
    return store_precision(image).reshape(volume), rule.apply(label).reshape(volume)


def unlisted(names: Sequence[str]) -> tuple[str, ...]:
    """The warning about cases that no list names; none where there are none."""
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (f"{len(names)} cases are in none of the lists and are left out: {', '.join(names[:_SHOWN])}{more}.",)


def _joined(planes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return planes[0] if len(planes) == 1 else np.concatenate(planes)
