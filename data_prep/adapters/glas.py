"""`glas`: the Gland Segmentation challenge (Sirinukunwattana et al. 2017, Medical Image Analysis 35), in two layouts.

The original one (`train_1.bmp`, `train_1_anno.bmp`, `testA_1.bmp`, ..., and `Grade.csv`, which knows the patients),
and the one that the code of UCTransNet and UDTransNet reads (`Train_Folder/{img,labelcol}`, `Test_Folder/...`), which
has lost the patients. Masks hold the number of the gland; every gland is foreground.
"""

import csv
import io
import re

from data_prep.adapters.pairs import Pairs, match, read_pair
from data_prep.case import Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule
from data_prep.readers import PICTURE_SUFFIXES
from data_prep.source import SourceTree, natural_order, stem
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FOLDERS: dict[str, tuple[str, Split]] = {
    "Train_Folder": ("train", "train"),
    "Val_Folder": ("val", "train"),
    "Test_Folder": ("test", "test"),
}
_ORIGINAL = re.compile(r"(?:.*/)?(?P<name>(?P<part>train|testA|testB)_\d+)(?P<mask>_anno)?\.bmp")
_PATIENTS_LOST = (
    "patients unknown: this layout does not say which images are of one patient, so folds may leak. The original "
    "layout with Grade.csv does."
)


class Glas:
    """One class, gland; the test images are the challenge's."""

    name = "glas"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background and gland."""
        if config.classes is not None and len(config.classes) != 1:
            raise DataError(
                f"data.classes: glas has one class, {len(config.classes)} are named: {list(config.classes)}"
            )
        return ("background", *(config.classes or ("gland",)))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find out which layout it is, and pair images with masks."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if any(key.startswith(tuple(f"{folder}/" for folder in _FOLDERS)) for key in tree.entries):
            return _released(tree)
        if any(_ORIGINAL.fullmatch(key) for key in tree.entries):
            return _original(tree)
        raise DataError(
            f"{source} is no GlaS data set: there is neither Train_Folder/img with Train_Folder/labelcol, nor "
            "train_1.bmp with train_1_anno.bmp. data.source must be the folder that holds them."
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One picture and its mask; every gland becomes class 1."""
        return read_pair(source, case, LabelRule(None))


def _released(tree: SourceTree) -> Discovery:
    cases: list[Case] = []
    problems = [
        f"Train_Folder/{kind}: the folder is missing or has no pictures"
        for kind in ("img", "labelcol")
        if not tree.below(f"Train_Folder/{kind}", PICTURE_SUFFIXES)
    ]
    files: list[str] = []
    for folder, (prefix, split) in _FOLDERS.items():
        images, masks = (tree.below(f"{folder}/{kind}", PICTURE_SUFFIXES) for kind in ("img", "labelcol"))
        pairs = match({key: f"{prefix}_{stem(key)}" for key in images}, {key: f"{prefix}_{stem(key)}" for key in masks})
        problems += pairs.problems if (images and masks) or folder != "Train_Folder" else []
        cases += _cases(pairs, {name: name for name in pairs.complete}, dict.fromkeys(pairs.complete, split))
        files += [*images, *masks]
    _refuse(tree, problems)
    return _discovery(tree, cases, files, patients_known=False, warnings=(_PATIENTS_LOST,))


def _original(tree: SourceTree) -> Discovery:
    found = {key: match_ for key in tree.entries if (match_ := _ORIGINAL.fullmatch(key))}
    images = {key: m["name"] for key, m in found.items() if not m["mask"]}
    masks = {key: m["name"] for key, m in found.items() if m["mask"]}
    pairs = match(images, masks)
    tables = [key for key in tree.entries if key.rpartition("/")[2] == "Grade.csv"]
    patients = _patients(tree.read_text(tables[0])) if tables else {}
    problems = list(pairs.problems)
    if tables:
        problems += [f"{tables[0]}: has no row with a patient for {n}" for n in pairs.complete if n not in patients]
    _refuse(tree, problems)
    groups = patients if tables else {name: name for name in pairs.complete}
    splits: dict[str, Split] = {name: "train" if name.startswith("train") else "test" for name in pairs.complete}
    warnings = () if tables else ("patients unknown: there is no Grade.csv, so folds may leak.",)
    cases = _cases(pairs, groups, splits)
    return _discovery(tree, cases, [*found, *tables], patients_known=bool(tables), warnings=warnings)


def _patients(text: str) -> dict[str, str]:
    """Group of each image name. The released table has blanks around its column names."""
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    plain = [
        {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in rows
    ]
    return {row["name"]: f"patient_{row['patient id']}" for row in plain if row.get("name") and row.get("patient id")}


def _cases(pairs: Pairs, groups: dict[str, str], splits: dict[str, Split]) -> list[Case]:
    return [
        Case(id=name, group=groups[name], split=splits[name], images=(image,), labels=(mask,))
        for name, (image, mask) in pairs.complete.items()
    ]


def _discovery(
    tree: SourceTree, cases: list[Case], files: list[str], *, patients_known: bool, warnings: tuple[str, ...]
) -> Discovery:
    ordered = tuple(sorted(cases, key=lambda case: natural_order(case.id)))
    return Discovery(cases=ordered, patients_known=patients_known, files=tree.select(files), warnings=warnings)


def _refuse(tree: SourceTree, problems: list[str]) -> None:
    if problems:
        raise DataError(
            f"{tree.location}: {len(problems)} files of this GlaS data set are missing or do not fit", problems
        )


ADAPTER = Glas()
