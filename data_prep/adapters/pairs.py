"""What adapters of picture pairs share: images and masks that belong together by name."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from data_prep.adapters import tiles
from data_prep.case import Case, CaseError, RawCase
from data_prep.labels import MaskRule
from data_prep.readers import ReaderError
from data_prep.source import natural_order
from udt_cluster.errors import AuthError
from udt_cluster.storage import Location

_T = TypeVar("_T")


def match(images: Mapping[str, str], masks: Mapping[str, str]) -> "Pairs":
    """Pair files of equal names; both arguments map a key to the name that it goes by."""
    by_name: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names in enumerate((images, masks)):
        for key, name in names.items():
            by_name[name][side].append(key)
    return Pairs(by_name)


class Pairs:
    """Images and masks by name.

    Attributes:
        complete: name -> (image, mask), in natural order of the names.
        problems: One line for each file without a partner, or with several.
    """

    def __init__(self, by_name: Mapping[str, tuple[list[str], list[str]]]) -> None:
        self.complete: dict[str, tuple[str, str]] = {}
        self.problems: list[str] = []
        for name in sorted(by_name, key=natural_order):
            images, masks = by_name[name]
            if len(images) == len(masks) == 1:
                self.complete[name] = (images[0], masks[0])
            elif not masks:
                self.problems += [f"{image}: there is no mask for this image" for image in images]
            elif not images:
                self.problems += [f"{mask}: there is no image for this mask" for mask in masks]
            else:
                self.problems.append(
                    f"{', '.join([*images, *masks])}: several files of one name; keep one image and one mask"
                )


def read_pair(source: Location, case: Case, rule: MaskRule) -> RawCase:
    """One picture, or a tile of one, and its mask.

    Raises:
        CaseError: everything that is wrong with either.
    """
    (image_key,), (label_key,) = case.images, case.labels
    problems: list[str] = []
    image = attempt(problems, image_key, lambda: tiles.picture(case, read_bytes(source, image_key)))
    size = None if image is None else (image.shape[1], image.shape[2])
    label = attempt(
        problems, label_key, lambda: tiles.label(case, read_bytes(source, label_key, limit=rule.max_bytes), rule, size)
    )
    if size is not None and label is not None and size != label.shape:
        (height, width), (mask_height, mask_width) = size, label.shape
        problems.append(f"{label_key}: the mask has {mask_width} x {mask_height} pixels, the image {width} x {height}")
    if problems or image is None or label is None:
        raise CaseError(problems)
    tile = attempt(problems, image_key, lambda: (tiles.cropped(image, case.region), tiles.cropped(label, case.region)))
    if tile is None:
        raise CaseError(problems)
    return RawCase(image=tile[0][None], label=tile[1][None])


def attempt(problems: list[str], key: str, read: Callable[[], _T]) -> _T | None:
    """Read something; what is wrong with it is added to `problems` under its name, and None comes back."""
    try:
        return read()
    except ReaderError as error:
        problems.append(f"{key}: {error}")
        return None


def read_bytes(source: Location, key: str, *, limit: int | None = None) -> bytes:
    """The content of a file of the source.

    Raises:
        ReaderError: it may not be read, has gone since it was listed, or has more than `limit` bytes.
    """
    try:
        data = (source / key).read_bytes(end=None if limit is None else limit + 1)
    except FileNotFoundError as error:
        raise ReaderError("is not there any more") from error
    except AuthError as error:
        raise ReaderError("may not be read; check its owner and mode") from error
    if limit is not None and len(data) > limit:
        raise ReaderError(f"has more than {limit / 2**20:g} MiB; split it, and its picture with it")
    return data
