"""Synapse as the code of TransUNet has it: `train_npz/case0005_slice000.npz`, `test_vol_h5/case0008.npy.h5`, and lists.

Slices are put together again in the order of their numbers, so that a case is a volume whichever way it is stored.
`train.txt` and `test_vol.txt` are the split; without them the folders are. Spacing and orientation are lost.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

from data_prep.adapters.pairs import read_bytes
from data_prep.adapters.slices import (
    WHOLE,
    ImageAndLabel,
    Slices,
    as_volume,
    gaps,
    keys_in_order,
    read_slices,
    unlisted,
)
from data_prep.case import Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule
from data_prep.readers import read_hdf5
from data_prep.readers.arrays import read_npz
from data_prep.source import SourceTree, natural_order
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FILE = re.compile(r"(?:.*/)?(?P<name>case\d{4})(?:_slice(?P<slice>\d+)\.npz|\.npy\.h5)")
_ENTRY = re.compile(r"(?P<name>case\d{4})(?:_slice(?P<slice>\d+))?")
_LISTS: dict[str, Split] = {"train.txt": "train", "test_vol.txt": "test"}
_RULE = LabelRule(tuple(range(1, 9)))


def recognises(tree: SourceTree) -> bool:
    """Whether the source has this layout."""
    return any(_FILE.fullmatch(key) for key in tree.entries)


def discover(tree: SourceTree) -> Discovery:
    """Group slices into scans, and take split and membership from the lists.

    Raises:
        DataError: missing slices, and what is listed but not there.
    """
    slices: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in tree.entries:
        if file := _FILE.fullmatch(key):
            slices[file["name"]][int(file["slice"]) if file["slice"] else WHOLE].append(key)
    lists = sorted(key for key in tree.entries if key.rpartition("/")[2] in _LISTS)
    splits, problems = _read_lists(tree, lists, slices) if lists else (_by_folder(slices), [])
    problems += [problem for name in slices for problem in _gaps(name, slices[name])]
    if problems:
        raise DataError(f"{tree.location}: this Synapse data set is not complete", problems)
    cases = tuple(
        Case(id=name, group=name, split=splits[name], images=(keys := keys_in_order(slices[name])), labels=keys)
        for name in sorted(splits, key=natural_order)
    )
    used = [key for case in cases for key in case.images]
    return Discovery(
        cases=cases,
        patients_known=True,
        files=tree.select([*used, *lists]),
        warnings=unlisted(sorted(set(slices) - set(splits), key=natural_order)),
    )


def read(source: Location, case: Case) -> RawCase:
    """The volume of a scan.

    Raises:
        CaseError: everything that is wrong with its files.
    """

    def read_file(key: str) -> ImageAndLabel:
        read_arrays = read_npz if key.endswith(".npz") else read_hdf5
        return as_volume(read_arrays(read_bytes(source, key), "image", "label"), _RULE)

    return read_slices(case, read_file)


def _gaps(name: str, slices: Slices) -> list[str]:
    return gaps(name, slices, first=0, file_name=lambda number: f"{name}_slice{number:03d}.npz")


def _by_folder(slices: Mapping[str, Slices]) -> dict[str, Split]:
    """Volumes are for testing, slices for training."""
    return {name: "test" if WHOLE in files else "train" for name, files in slices.items()}


def _read_lists(tree: SourceTree, lists: list[str], slices: Mapping[str, Slices]) -> tuple[dict[str, Split], list[str]]:
    """Split of each listed scan, and what is listed but absent, or listed for both."""
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for key in lists:
        split = _LISTS[key.rpartition("/")[2]]
        for line in filter(None, map(str.strip, tree.read_text(key).splitlines())):
            entry = _ENTRY.fullmatch(line.removesuffix(".npz").removesuffix(".npy.h5"))
            found = slices.get(entry["name"], {}) if entry else {}
            if entry is None:
                problems.append(f"{line!r} in {key} is no case; write case0005_slice000 or case0008")
            elif not found or (entry["slice"] and WHOLE not in found and int(entry["slice"]) not in found):
                problems.append(f"{line}: listed in {key}, but there is no such file")
            elif splits.setdefault(entry["name"], split) != split:
                problems.append(f"{line}: listed for {splits[entry['name']]} and for {split} ({key}); keep one")
    return splits, problems
