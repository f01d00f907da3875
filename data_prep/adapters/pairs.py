"""What adapters of picture pairs share: images and masks that belong together by name."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from data_prep.case import Case, CaseError, RawCase
from data_prep.labels import LabelRule
from data_prep.readers import ReaderError, read_mask, read_picture
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


def read_pair(source: Location, case: Case, rule: LabelRule) -> RawCase:
    """One picture and its mask.

    Raises:
        CaseError: everything that is wrong with either.
    """
    problems: list[str] = []
    image = attempt(problems, case.images[0], lambda: read_picture(read_bytes(source, case.images[0])))
    label = attempt(problems, case.labels[0], lambda: rule.apply(read_mask(read_bytes(source, case.labels[0]))))
    if image is not None and label is not None and image.shape[1:] != label.shape:
        (height, width), (mask_height, mask_width) = image.shape[1:], label.shape
        problems.append(
            f"{case.labels[0]}: the mask has {mask_width} x {mask_height} pixels, the image {width} x {height}"
        )
    if problems or image is None or label is None:
        raise CaseError(problems)
    return RawCase(image=image[None], label=label[None])


def attempt(problems: list[str], key: str, read: Callable[[], _T]) -> _T | None:
    """Read something; what is wrong with it is added to `problems` under its name, and None comes back."""
    try:
        return read()
    except ReaderError as error:
        problems.append(f"{key}: {error}")
        return None


def read_bytes(source: Location, key: str) -> bytes:
    """The content of a file of the source.

    Raises:
        ReaderError: it may not be read, or has gone since it was listed.
    """
    try:
        return (source / key).read_bytes()
    except FileNotFoundError as error:
        raise ReaderError("is not there any more") from error
    except AuthError as error:
        raise ReaderError("may not be read; check its owner and mode") from error
