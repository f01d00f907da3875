"""`glas`: the Gland Segmentation challenge (Sirinukunwattana et al. 2017, Medical Image Analysis 35), in two layouts.

The original one (`train_1.bmp`, `train_1_anno.bmp`, `testA_1.bmp`, ..., and `Grade.csv`, which knows the patients),
and the one that the code of UCTransNet and UDTransNet reads (`Train_Folder/{img,labelcol}`, `Test_Folder/...`), which
has lost the patients. Masks hold the number of the gland; every gland is foreground.
"""

import csv
import io
import re

from data_prep.adapters.pairs import Pairs, match, read_pair
from data_prep.adapters.parts import RELEASED, class_names, discover_parts, in_order, is_released, refuse
from data_prep.case import Adapter, Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

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
        return class_names(config, ("gland",))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find out which layout it is, and pair images with masks."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if is_released(tree):
            return discover_parts(tree, RELEASED, title="GlaS", warnings=(_PATIENTS_LOST,))
        if any(_ORIGINAL.fullmatch(key) for key in tree.entries):
            return _original(tree)
        raise DataError(
            f"{source} is no GlaS data set: there is neither Train_Folder/img with Train_Folder/labelcol, nor "
            "train_1.bmp with train_1_anno.bmp. data.source must be the folder that holds them."
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One picture and its mask; every gland becomes class 1."""
        return read_pair(source, case, LabelRule(None))


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
    refuse(tree, problems, title="GlaS")
    groups = patients if tables else {name: name for name in pairs.complete}
    splits: dict[str, Split] = {name: "train" if name.startswith("train") else "test" for name in pairs.complete}
    warnings = () if tables else ("patients unknown: there is no Grade.csv, so folds may leak.",)
    cases = in_order(_cases(pairs, groups, splits))
    files = tree.select([*found, *tables])
    return Discovery(cases=cases, patients_known=bool(tables), files=files, warnings=warnings)


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


ADAPTER: Adapter = Glas()
