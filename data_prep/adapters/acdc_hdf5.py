"""ACDC as HDF5: 2-D slices (`patientNNN_frameMM_slice_K.h5`) and volumes (`patientNNN_frameMM.h5`), with lists.

Slices are put together again in the order of their numbers, so that a case is a volume whichever way it is stored.
`train.list`, `val.list` and `test.list` are the official split; cases that none of them names are left out. Spacing
and orientation are lost in this layout.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from data_prep.adapters.pairs import read_bytes
from data_prep.adapters.slices import WHOLE, Slices, as_volume, gaps, keys_in_order, read_slices, unlisted
from data_prep.case import Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule
from data_prep.readers import read_hdf5
from data_prep.source import SourceTree, natural_order
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FILE = re.compile(r"(?:.*/)?(?P<name>(?P<patient>patient\d+)_frame\d+)(?:_slice_(?P<slice>\d+))?\.h5")
_ENTRY = re.compile(r"patient\d+_frame\d+(_slice_\d+)?")
_LISTS: dict[str, Split] = {
    "train.list": "train",
    "train_slices.list": "train",
    "val.list": "validation",
    "test.list": "test",
}


def recognises(tree: SourceTree) -> bool:
    """Whether the source has this layout."""
    return any(_FILE.fullmatch(key) for key in tree.entries)


def discover(tree: SourceTree) -> Discovery:
    """Group slices into cases, and take split and membership from the lists."""
    files = {key: file for key in tree.entries if (file := _FILE.fullmatch(key))}
    slices: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key, file in files.items():
        slices[file["name"]][int(file["slice"]) if file["slice"] else WHOLE].append(key)
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
            split=splits.get(name, "train"),
            images=(keys := keys_in_order(slices[name])),
            labels=keys,
        )
        for name in sorted(listed, key=natural_order)
    ]
    used = [key for case in cases for key in case.images]
    return Discovery(
        cases=tuple(cases),
        patients_known=True,
        files=tree.select([*used, *lists]),
        warnings=unlisted(sorted(set(slices) - set(listed), key=natural_order)),
    )


def read(source: Location, case: Case, rule: LabelRule) -> RawCase:
    """The volume of a case.

    Raises:
        CaseError: everything that is wrong with its files.
    """
    return read_slices(case, lambda key: as_volume(read_hdf5(read_bytes(source, key), "image", "label"), rule))


def _gaps(name: str, slices: Slices) -> list[str]:
    return gaps(name, slices, first=1, file_name=lambda number: f"{name}_slice_{number}.h5")


def _read_lists(
    tree: SourceTree, lists: Sequence[str], slices: Mapping[str, Slices]
) -> tuple[dict[str, Split], list[str]]:
    """Split of each listed case, and what is listed but absent, or listed for two of them."""
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for key in sorted(lists):
        split = _LISTS[key.rpartition("/")[2]]
        for entry in _lines(tree.read_text(key)):
            name, _, number = entry.partition("_slice_")
            found = slices.get(name, {})
            if not _ENTRY.fullmatch(entry):
                problems.append(f"{entry!r} in {key} is no case; write patient001_frame01 or one of its slices")
            elif not found or (number and WHOLE not in found and int(number) not in found):
                problems.append(f"{entry}: listed in {key}, but there is no {entry}.h5")
            elif splits.setdefault(name, split) != split:
                problems.append(f"{entry}: listed for {splits[name]} and for {split} ({key}); keep one")
    return splits, problems


def _lines(text: str) -> list[str]:
    entries = (line.strip().removesuffix(".h5").rpartition("/")[2] for line in text.splitlines())
    return [entry for entry in entries if entry]
