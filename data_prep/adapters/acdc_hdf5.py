"""ACDC as HDF5: 2-D slices (`patientNNN_frameMM_slice_K.h5`) and volumes (`patientNNN_frameMM.h5`), with lists.

Slices are put together again in the order of their numbers, so that a case is a volume whichever way it is stored.
`test.list` names the test cases; `train.list` and `val.list` are both for development, whose folds are drawn anew.
Spacing and orientation are lost in this layout.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.adapters.pairs import attempt, read_bytes
from data_prep.case import Case, CaseError, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.readers import ReaderError, read_hdf5, store_precision
from data_prep.source import SourceTree, natural_order
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FILE = re.compile(r"(?:.*/)?(?P<name>(?P<patient>patient\d+)_frame\d+)(?:_slice_(?P<slice>\d+))?\.h5")
_ENTRY = re.compile(r"patient\d+_frame\d+(_slice_\d+)?")
_LISTS = {"train.list": "train", "train_slices.list": "train", "val.list": "train", "test.list": "test"}
_SHOWN = 5


def recognises(tree: SourceTree) -> bool:
    """Whether the source has this layout."""
    return any(_FILE.fullmatch(key) for key in tree.entries)


def discover(tree: SourceTree) -> Discovery:
    """Group slices into cases, and take split and membership from the lists."""
    files = {key: file for key in tree.entries if (file := _FILE.fullmatch(key))}
    slices: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, file in files.items():
        slices[file["name"]][int(file["slice"]) if file["slice"] else -1].append(key)
    lists = [key for key in tree.entries if key.rpartition("/")[2] in _LISTS]
    splits, problems = _read_lists(tree, lists, slices)
    problems += [problem for name in slices for problem in _gaps(name, slices[name])]
    if problems:
        raise DataError(f"{tree.location}: this ACDC data set is not complete", problems)
    patients = {file["name"]: file["patient"] for file in files.values()}
    listed = [name for name in slices if name in splits] if lists else list(slices)
    cases = [
        Case(
            id=name,
            group=patients[name],
            split="test" if splits.get(name) == "test" else "train",
            images=(keys := _keys(slices[name])),
            labels=keys,
        )
        for name in sorted(listed, key=natural_order)
    ]
    used = [key for case in cases for key in case.images]
    return Discovery(
        cases=tuple(cases),
        patients_known=True,
        files=tree.select([*used, *lists]),
        warnings=tuple(_unlisted(sorted(set(slices) - set(listed), key=natural_order))),
    )


def read(source: Location, case: Case, rule: LabelRule) -> RawCase:
    """The volume of a case.

    Raises:
        CaseError: everything that is wrong with its files.
    """
    problems: list[str] = []
    planes = [attempt(problems, key, partial(_read_file, source, key, rule)) for key in case.images]
    read_planes = [plane for plane in planes if plane is not None]
    shapes = {label.shape[1:] for _, label in read_planes}
    if len(shapes) > 1:
        problems.append(f"{case.id}: its slices have different sizes: {', '.join(map(str, sorted(shapes)))}")
    if problems:
        raise CaseError(problems)
    image = np.concatenate([image for image, _ in read_planes])
    return RawCase(image=image[:, None], label=np.concatenate([label for _, label in read_planes]))


def _read_file(source: Location, key: str, rule: LabelRule) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Image and label, (D, H, W) each; a slice has D = 1."""
    image, label = read_hdf5(read_bytes(source, key), "image", "label")
    if image.shape != label.shape:
        raise ReaderError(f"the mask has the shape {label.shape}, the image {image.shape}")
    if image.ndim not in (2, 3):
        raise ReaderError(f"has the shape {image.shape}; a slice is (H, W), a volume (D, H, W)")
    volume = (-1, *image.shape[-2:])
    return store_precision(image).reshape(volume), rule.apply(label).reshape(volume)


def _keys(slices: dict[int, list[str]]) -> tuple[str, ...]:
    """The volume where there is one (the slices beside it are the same), else the slices by number."""
    if -1 in slices:
        return (slices[-1][0],)
    return tuple(slices[number][0] for number in sorted(slices))


def _gaps(name: str, slices: dict[int, list[str]]) -> list[str]:
    twice = [
        f"{', '.join(keys)}: several files for the same part of {name}" for keys in slices.values() if len(keys) > 1
    ]
    numbers = sorted(slices)
    if -1 in slices or not numbers:
        return twice
    missing = sorted(set(range(min(1, numbers[0]), numbers[-1] + 1)) - set(numbers))
    return [*twice, *(f"{name}_slice_{number}.h5: missing between the slices that are there" for number in missing)]


def _read_lists(
    tree: SourceTree, lists: Sequence[str], slices: dict[str, dict[int, list[str]]]
) -> tuple[dict[str, str], list[str]]:
    """Split of each listed case, and what is listed but absent, or listed for training and test."""
    splits: dict[str, str] = {}
    problems: list[str] = []
    for key in sorted(lists):
        split = _LISTS[key.rpartition("/")[2]]
        for entry in _lines(tree.read_text(key)):
            name, _, number = entry.partition("_slice_")
            found = slices.get(name, {})
            if not _ENTRY.fullmatch(entry):
                problems.append(f"{entry!r} in {key} is no case; write patient001_frame01 or one of its slices")
            elif not found or (number and -1 not in found and int(number) not in found):
                problems.append(f"{entry}: listed in {key}, but there is no {entry}.h5")
            elif splits.setdefault(name, split) != split:
                problems.append(f"{entry}: listed for training and for test ({key})")
    return splits, problems


def _lines(text: str) -> list[str]:
    entries = (line.strip().removesuffix(".h5").rpartition("/")[2] for line in text.splitlines())
    return [entry for entry in entries if entry]


def _unlisted(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} cases are in none of the lists and are left out: {', '.join(names[:_SHOWN])}{more}."]
