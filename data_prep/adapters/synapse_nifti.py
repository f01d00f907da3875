"""BTCV as published: `RawData/Training/{img/img0001,label/label0001}.nii.gz`, 13 structures, Hounsfield units."""

import re
from dataclasses import replace

import numpy as np

from data_prep.adapters.pairs import match
from data_prep.adapters.volumes import read_volumes
from data_prep.case import Case, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.source import SourceTree
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FILE = re.compile(r"(?:(?P<part>.*)/)?(?P<kind>img|label)/(?P=kind)(?P<number>\d{4})\.nii(?:\.gz)?")
_TEST_SCANS = frozenset({1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38})
"""Of the 30 scans with masks; the usual protocol, so that both layouts are scored on the same ones."""
_STRUCTURES = LabelRule(tuple(range(1, 14)))
_ORGANS = np.array([0, 7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0], np.uint8)
"""The organ (TransUNet's order) of each of the challenge's values; oesophagus, veins, adrenal glands are background."""


def recognises(tree: SourceTree) -> bool:
    """Whether the source has this layout."""
    return any(_FILE.fullmatch(key) for key in tree.entries)


def discover(tree: SourceTree) -> Discovery:
    """Pair scans and masks; folders without any mask are left out.

    Raises:
        DataError: scans without a mask, or masks without a scan.
    """
    found = {key: file for key in tree.entries if (file := _FILE.fullmatch(key))}
    labelled = {file["part"] for file in found.values() if file["kind"] == "label"}
    images, masks = (
        {k: f"case{f['number']}" for k, f in found.items() if f["kind"] == kind and f["part"] in labelled}
        for kind in ("img", "label")
    )
    pairs = match(images, masks)
    if pairs.problems or not pairs.complete:
        problems = pairs.problems or ["label: there are no masks; unpack the training part of the data set"]
        raise DataError(f"{tree.location}: scans and masks of this data set do not fit together", problems)
    cases = tuple(
        Case(
            id=name,
            group=name,
            split="test" if int(found[image]["number"]) in _TEST_SCANS else "train",
            images=(image,),
            labels=(mask,),
        )
        for name, (image, mask) in pairs.complete.items()
    )
    spare = len(found) - len(images) - len(masks)
    warnings = (f"{spare} scans lie in folders without any mask; they are left out.",) if spare else ()
    return Discovery(cases=cases, patients_known=True, files=tree.select([*images, *masks]), warnings=warnings)


def read(source: Location, case: Case) -> RawCase:
    """One scan in Hounsfield units, and its eight organs.

    Raises:
        CaseError: everything that is wrong with its files.
    """
    raw = read_volumes(source, case, _STRUCTURES)
    return replace(raw, label=_ORGANS[raw.label])
