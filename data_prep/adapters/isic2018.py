"""`isic2018`: lesion boundaries of dermoscopic images (ISIC 2018 Task 1; Codella et al. 2019, arXiv 1902.03368).

The official folders and names: `ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg` with
`ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png`, and so for Validation and Test.
"""

from data_prep.adapters.pairs import read_pair
from data_prep.adapters.parts import Part, class_names, discover_parts
from data_prep.case import Adapter, Case, Discovery, RawCase, Split
from data_prep.labels import LabelRule
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_NAMES: tuple[tuple[str, Split], ...] = (("Training", "train"), ("Validation", "validation"), ("Test", "test"))
_PARTS = tuple(
    Part(
        images=f"ISIC2018_Task1-2_{name}_Input",
        masks=f"ISIC2018_Task1_{name}_GroundTruth",
        split=split,
        mask_suffix="_segmentation",
        masks_withheld=split != "train",
    )
    for name, split in _NAMES
)
_PATIENTS_UNKNOWN = (
    "patients unknown: ISIC 2018 does not say which images are of one person or of one lesion, so folds may leak."
)


class Isic2018:
    """One class, lesion: 255 in the masks; the parts for validation and test are the challenge's."""

    name = "isic2018"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background and lesion."""
        return class_names(config, ("lesion",))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Pair the images and masks of each part; parts whose masks were not published are left out, and said."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if not any(key.startswith("ISIC2018_Task1") for key in tree.entries):
            raise DataError(
                f"{source} is no ISIC 2018 data set: there is neither {_PARTS[0].images} nor {_PARTS[0].masks}. "
                "data.source must be the folder that holds them; for other names, use adapter: image_folder."
            )
        return discover_parts(tree, _PARTS, title="ISIC 2018", warnings=(_PATIENTS_UNKNOWN,))

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One picture and its mask."""
        return read_pair(source, case, LabelRule((255,)))


ADAPTER: Adapter = Isic2018()
