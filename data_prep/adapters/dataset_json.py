"""`dataset.json`: what two collections of data sets say about theirs, and the cases that they list.

They are the Medical Segmentation Decathlon (Antonelli et al. 2022, Nature Communications 13) and nnU-Net, versions 1
and 2 (https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md).
"""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_prep.adapters.volumes import named_files, pair_volumes
from data_prep.case import Case, Discovery, Split
from data_prep.readers.nifti import NIFTI_SUFFIXES
from data_prep.source import SourceTree, natural_order, stem
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

FILE_NAME = "dataset.json"
_MOST_BYTES = 2**26
_MOST_CLASSES = 255
_MOST_DIGITS = 9
_FOLDERS: dict[str, Split] = {"Tr": "train", "Ts": "test"}


@dataclass(frozen=True, kw_only=True)
class DatasetJson:
    """The parts of the file that matter.

    Attributes:
        values: The mask's value of each foreground class, ascending.
        names: The name of each, in the same order.
        channels: How many an image has.
        listed: Images and mask of each case by its name, where the file lists them; keys as they are written there.
        num_training: How many training cases there are said to be; None: it is not said.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    channels: int
    listed: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    num_training: int | None = None


def read_dataset_json(source: Location) -> DatasetJson | None:
    """Read the file of a source; None where it has none.

    Raises:
        DataError: it is none of both kinds, or asks for what is not supported.
    """
    location = source / FILE_NAME
    try:
        data = location.read_bytes(end=_MOST_BYTES)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{location} is not JSON: {error}. Mend it, or remove it and set data.pairs.") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise DataError(f"{location} has no 'labels'. Give each class its value, as {{'background': 0, 'tumour': 1}}.")
    classes = _classes(location, content["labels"])
    _refuse_file_ending(location, content.get("file_ending", NIFTI_SUFFIXES[0]))
    channels = content.get("channel_names", content.get("modality", {"0": ""}))
    return DatasetJson(
        values=tuple(classes),
        names=tuple(classes.values()),
        channels=max(1, len(channels)) if isinstance(channels, dict | list) else 1,
        listed=_listed(location, content),
        num_training=count if isinstance(count := content.get("numTraining"), int) else None,
    )


def discover(tree: SourceTree, dataset: DatasetJson) -> Discovery:
    """The cases: those that the file lists, else those in imagesTr and labelsTr; imagesTs where labelsTs has masks.

    Raises:
        DataError: everything that is missing.
    """
    cases, problems = (_listed_cases if dataset.listed else _found_cases)(tree, dataset, "Tr")
    test_cases, test_problems = _found_cases(tree, dataset, "Ts")
    problems += test_problems
    if problems:
        raise DataError(f"{tree.location}: images and masks do not fit together, or to {FILE_NAME}", problems)
    ordered = sorted([*cases, *test_cases], key=lambda case: natural_order(case.id))
    used = [key for case in ordered for key in (*case.images, *case.labels)]
    return Discovery(
        cases=tuple(ordered),
        patients_known=False,
        files=tree.select([*used, FILE_NAME]),
        warnings=tuple(_warnings(tree, dataset, len(cases), set(used))),
    )


def _classes(location: Location, labels: Mapping[str, Any]) -> dict[int, str]:
    """Foreground classes by ascending value, from {"0": name} (MSD) or {name: value} (nnU-Net 2)."""
    if len(labels) > _MOST_CLASSES + 1:
        raise DataError(f"{location}: {len(labels)} labels; at most {_MOST_CLASSES} classes and the background fit.")
    if any(len(str(part)) > _MOST_DIGITS for item in labels.items() for part in item if _is_number(part)):
        raise DataError(f"{location}: a label value has more than {_MOST_DIGITS} digits. Give classes small values.")
    if all(isinstance(name, str) and value.isdecimal() for value, name in labels.items()):
        by_value = {int(value): str(name) for value, name in labels.items()}
    else:
        if odd := [name for name, value in labels.items() if type(value) is not int]:
            raise DataError(
                f"{location}: labels {odd} have no single value. Regions of several values are not supported: give "
                "every class one value, without overlap."
            )
        by_value = {value: name for name, value in labels.items()}
    foreground = {value: by_value[value] for value in sorted(by_value) if value != 0}
    names = list(foreground.values())
    if "ignore" in names:
        raise DataError(f"{location}: the label 'ignore' is not supported. Annotate these voxels, or drop the cases.")
    clear = len(by_value) == len(labels) and len({*names, "background", ""}) == len(names) + 2
    if not clear or not names or min(foreground) < 0:
        raise DataError(f"{location}: labels {dict(labels)}: every class needs a name and a value of its own above 0.")
    return foreground


def _is_number(part: object) -> bool:
    return type(part) is int or (isinstance(part, str) and part.isdecimal())


def _refuse_file_ending(location: Location, ending: object) -> None:
    if ending not in NIFTI_SUFFIXES:
        raise DataError(
            f"{location}: file_ending {ending!r}: adapter nifti reads {' and '.join(NIFTI_SUFFIXES)}. For pictures use "
            "data.adapter: image_folder; convert other volumes."
        )


def _listed(location: Location, content: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], str]]:
    """`training: [{image, label}]` of MSD and nnU-Net 1, or `dataset: {name: {images, label}}` of nnU-Net 2."""
    training, dataset = content.get("training"), content.get("dataset")
    try:
        if isinstance(dataset, dict):
            return {n: (tuple(map(_key, case["images"])), _key(case["label"])) for n, case in dataset.items()}
        if isinstance(training, list):
            entries = [(_key(case["image"]), _key(case["label"])) for case in training]
            return {stem(label): ((image,), label) for image, label in entries}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{location}: a case without image or label: {error}. Each one needs both.") from error
    return {}


def _key(path: str) -> str:
    return posixpath.normpath(path.strip())


def _listed_cases(tree: SourceTree, dataset: DatasetJson, part: str) -> tuple[list[Case], list[str]]:
    cases, problems = [], []
    for name, (listed, label) in dataset.listed.items():
        images = _as_stored(tree, listed, dataset.channels)
        missing = [key for key in (*images, label) if key not in tree.entries]
        problems += [f"{key}: {FILE_NAME} lists it, but it is not there" for key in missing]
        cases.append(_case(name, images, label, _FOLDERS[part]))
    return cases, problems


def _as_stored(tree: SourceTree, images: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """NnU-Net 1 lists NAME.nii.gz for NAME_0000.nii.gz, NAME_0001.nii.gz, ..."""
    if len(images) != 1 or images[0] in tree.entries:
        return images
    name = stem(images[0])
    folder, ending = images[0].split(name)[0], images[0].rpartition(name)[2]
    numbered = tuple(f"{folder}{name}_{channel:04d}{ending}" for channel in range(channels))
    return numbered if numbered[0] in tree.entries else images


def _found_cases(tree: SourceTree, dataset: DatasetJson, part: str) -> tuple[list[Case], list[str]]:
    """The cases of imagesTr or imagesTs; none of imagesTs where labelsTs has no mask at all."""
    images, masks = (named_files(tree, f"{kind}{part}", NIFTI_SUFFIXES) for kind in ("images", "labels"))
    if not masks and part == "Ts":
        return [], []
    if not images or not masks:
        return [], [f"images{part}: {len(images)} NIfTI files, labels{part}: {len(masks)}; both must hold some"]
    pairs = pair_volumes(images, masks, dataset.channels)
    return [_case(name, keys, mask, _FOLDERS[part]) for name, (keys, mask) in pairs.complete.items()], pairs.problems


def _case(name: str, images: tuple[str, ...], label: str, split: Split) -> Case:
    return Case(id=name, group=name, split=split, images=images, labels=(label,))


def _warnings(tree: SourceTree, dataset: DatasetJson, training: int, used: set[str]) -> list[str]:
    warnings = []
    if dataset.num_training not in (None, training):
        warnings.append(f"{FILE_NAME} says numTraining {dataset.num_training}; {training} training cases are here.")
    for folder in ("imagesTr", "imagesTs"):
        if spare := [key for key in tree.below(folder, NIFTI_SUFFIXES) if key not in used]:
            why = f"{FILE_NAME} does not list them" if folder == "imagesTr" else "labelsTs has no masks for them"
            warnings.append(f"{folder}: {len(spare)} images are left out, because {why}.")
    return warnings
