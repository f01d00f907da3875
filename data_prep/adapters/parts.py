"""Data sets of pictures that come in folders: images here, masks there, one pair of folders for each official part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_prep.adapters.pairs import match
from data_prep.case import Case, Discovery, Split
from data_prep.readers import PICTURE_SUFFIXES
from data_prep.source import SourceTree, natural_order, stem
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Part:
    """One official part of a data set.

    Attributes:
        images: Folder of its images, relative to the source.
        masks: Folder of its masks.
        split: What it is for. The part for training must be there.
        prefix: What case ids begin with, where files of several parts have the same names.
        mask_suffix: What a mask's name has behind the image's name.
        masks_withheld: Whether it was published without masks at first; it is left out then.
    """

    images: str
    masks: str
    split: Split
    prefix: str = ""
    mask_suffix: str = ""
    masks_withheld: bool = False


_RELEASED_FOLDERS: tuple[tuple[str, Split, str], ...] = (
    ("Train_Folder", "train", "train_"),
    ("Val_Folder", "validation", "val_"),
    ("Test_Folder", "test", "test_"),
)
RELEASED = tuple(
    Part(images=f"{folder}/img", masks=f"{folder}/labelcol", split=split, prefix=prefix)
    for folder, split, prefix in _RELEASED_FOLDERS
)
"""The folders that the code of UCTransNet and UDTransNet reads."""


def is_released(tree: SourceTree) -> bool:
    """Whether a source has the folders of the released code."""
    return any(key.startswith(("Train_Folder/", "Val_Folder/", "Test_Folder/")) for key in tree.entries)


def class_names(config: DataConfig, classes: Sequence[str]) -> tuple[str, ...]:
    """The background, and the classes of a data set by the names that the job gives them, or by their own.

    Raises:
        DataError: another number of classes.
    """
    if config.classes is not None and len(config.classes) != len(classes):
        raise DataError(
            f"data.classes: {config.adapter} has {list(classes)}, named are {list(config.classes)}; name all "
            f"{len(classes)} in this order, or none"
        )
    return ("background", *(config.classes or classes))


def discover_parts(tree: SourceTree, parts: Sequence[Part], *, title: str, warnings: Sequence[str] = ()) -> Discovery:
    """Pair the images and masks of each part; each case is its own group, and patients are not known.

    Raises:
        DataError: ``problems`` lists all that is missing or has no partner.
    """
    cases: list[Case] = []
    problems: list[str] = []
    said = list(warnings)
    for part in parts:
        images, masks = (tree.below(folder, PICTURE_SUFFIXES) for folder in (part.images, part.masks))
        if part.masks_withheld and images and not masks:
            said.append(f"{part.images}: there is no {part.masks}, so its {len(images)} images are left out.")
        elif part.split == "train" and not (images and masks):
            problems += [
                f"{folder}: the folder is missing or has no pictures"
                for folder, keys in ((part.images, images), (part.masks, masks))
                if not keys
            ]
        else:
            cases += _paired(part, images, masks, problems)
    refuse(tree, problems, title=title)
    files = tree.select(key for case in cases for key in (*case.images, *case.labels))
    return Discovery(cases=in_order(cases), patients_known=False, files=files, warnings=tuple(said))


def in_order(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Cases by their ids as people count."""
    return tuple(sorted(cases, key=lambda case: natural_order(case.id)))


def refuse(tree: SourceTree, problems: Sequence[str], *, title: str) -> None:
    """Raise a DataError if there are any problems."""
    if problems:
        raise DataError(
            f"{tree.location}: {len(problems)} files of this {title} data set are missing or do not fit", problems
        )


def _paired(part: Part, images: Sequence[str], masks: Sequence[str], problems: list[str]) -> list[Case]:
    pairs = match(
        {key: f"{part.prefix}{stem(key)}" for key in images},
        {key: f"{part.prefix}{stem(key).removesuffix(part.mask_suffix)}" for key in masks},
    )
    problems += pairs.problems
    return [
        Case(id=name, group=name, split=part.split, images=(image,), labels=(mask,))
        for name, (image, mask) in pairs.complete.items()
    ]
