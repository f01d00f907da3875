"""`monuseg`: nuclei in H&E images of seven organs (MoNuSeg; Kumar et al. 2017, IEEE TMI 36(7)), in two layouts.

The original one (`Tissue Images/NAME.tif` with `Annotations/NAME.xml`, outlines drawn in Aperio ImageScope; test images
with their annotations beside them in a folder named test), and the one that the code of UCTransNet and UDTransNet reads
(`Train_Folder/{img,labelcol}`, `Val_Folder/...`, `Test_Folder/...`, masks of 0 and 255). The group is the patient, the
first twelve characters of a name like TCGA-18-5592-01Z-00-DX1; the first seven are the hospital that gave the tissue,
the site. Every nucleus is foreground.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from data_prep.adapters.pairs import match, read_pair
from data_prep.adapters.parts import RELEASED, class_names, discover_parts, in_order, is_released, refuse
from data_prep.adapters.tiles import cut_into_tiles
from data_prep.case import Adapter, Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule, OutlineRule
from data_prep.readers import PICTURE_SUFFIXES
from data_prep.source import SourceTree, stem
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_TITLE = "MoNuSeg"
_PATIENT = re.compile(r"(?P<site>TCGA-[0-9A-Z]{2})-[0-9A-Z]{4}(?![0-9A-Za-z])")
_SHOWN = 5


class Monuseg:
    """One class, nucleus; whole pictures, or `data.tiles` of them."""

    name = "monuseg"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background and nucleus."""
        return class_names(config, ("nucleus",))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find out which layout it is, pair images with masks or annotations, and cut tiles where they are wanted."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if is_released(tree):
            found = discover_parts(tree, RELEASED, title=_TITLE)
        elif any(key.lower().endswith(".xml") for key in tree.entries):
            found = _original(tree)
        else:
            raise DataError(
                f"{source} is no MoNuSeg data set: there is neither Train_Folder/img with Train_Folder/labelcol, nor "
                "'Tissue Images' with Annotations (.xml). data.source must be the folder that holds them."
            )
        cases = [_with_patient(case) for case in found.cases]
        unknown = [case.id for case in cases if not _PATIENT.match(case.group)]
        return replace(
            found,
            cases=in_order(cut_into_tiles(cases, source, config.tiles)),
            patients_known=not unknown,
            warnings=(*found.warnings, *_without_patient(unknown)),
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One picture, or a tile of one, and its nuclei."""
        outlined = case.labels[0].lower().endswith(".xml")
        return read_pair(source, case, OutlineRule() if outlined else LabelRule((255,)))


def _original(tree: SourceTree) -> Discovery:
    """Pictures in `Tissue Images`, or beside an annotation; whatever else lies there (masks of others) is not ours."""
    annotations = tree.below("", (".xml",))
    beside = {_folder(key) for key in annotations}
    pictures = tree.below("", PICTURE_SUFFIXES)
    images = [key for key in pictures if _folder(key) in beside or _is_tissue(_folder(key))]
    pairs = match({key: stem(key) for key in images}, {key: stem(key) for key in annotations})
    refuse(tree, pairs.problems, title=_TITLE)
    cases = [
        Case(id=name, group=name, split=_split(image), images=(image,), labels=(annotation,))
        for name, (image, annotation) in pairs.complete.items()
    ]
    return Discovery(cases=in_order(cases), patients_known=False, files=tree.select([*images, *annotations]))


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _is_tissue(folder: str) -> bool:
    return folder.rpartition("/")[2].lower().replace("_", " ") == "tissue images"


def _split(key: str) -> Split:
    return "test" if "test" in _folder(key).lower() else "train"


def _with_patient(case: Case) -> Case:
    """The group, and an id that is the slide's name in either layout, where the name has a patient."""
    slide = stem(case.images[0])
    patient = _PATIENT.match(slide)
    return replace(case, id=slide, group=patient.group(), site=patient["site"]) if patient else case


def _without_patient(ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return [
        f"patients unknown: {', '.join(ids[:_SHOWN])}{more} have no name like TCGA-18-5592-01Z-00-DX1, whose first 12 "
        "characters are the patient, so folds may leak."
    ]


ADAPTER: Adapter = Monuseg()
