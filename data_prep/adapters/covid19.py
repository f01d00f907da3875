"""`covid19`: axial CT slices of COVID-19 patients (MedSeg) in the folders of Inf-Net (Fan et al. 2020, IEEE TMI 39(8)).

`TrainingSet/LungInfection-Train/Doctor-label/{Imgs,GT}`, `TrainingSet/MultiClassInfection-Train/{Imgs,GT}`, and so for
`TestingSet`, where the images of both are those of `LungInfection-Test`. Pseudo-labels, edges and priors are not read.
"""

from data_prep.adapters.pairs import read_pair
from data_prep.adapters.parts import Part, class_names, discover_parts
from data_prep.case import Adapter, Case, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.readers import PICTURE_SUFFIXES
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_DOCTOR = "TrainingSet/LungInfection-Train/Doctor-label"
_TEST = "TestingSet/LungInfection-Test"
_MULTI_TRAIN = "TrainingSet/MultiClassInfection-Train"
_MULTI_TEST = "TestingSet/MultiClassInfection-Test"

_CLASSES = {"infection": ("infection",), "multi_class": ("ground_glass", "consolidation")}
_RULES = {"infection": LabelRule((255,)), "multi_class": LabelRule((1, 2))}
_PATIENTS_UNKNOWN = (
    "patients unknown: several of these slices are of one patient, and nothing says which, so folds may leak."
)


class Covid19:
    """Lesions as one class (255 in the masks), or ground-glass opacity 1 and consolidation 2, as `data.labels` says."""

    name = "covid19"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background and infection, or background, ground_glass and consolidation."""
        return class_names(config, _CLASSES[config.labels])

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Pair images and masks of both official parts; they are the same cases for either kind of labels."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if not any(key.startswith(("TrainingSet/", "TestingSet/")) for key in tree.entries):
            raise DataError(
                f"{source} is no COVID-19 data set in Inf-Net's folders: there is neither {_DOCTOR} nor "
                f"{_MULTI_TRAIN}. data.source must be the folder that holds TrainingSet and TestingSet."
            )
        parts = _multi_class(tree) if config.labels == "multi_class" else _infection()
        return discover_parts(tree, parts, title="COVID-19", warnings=(_PATIENTS_UNKNOWN,))

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One slice and its mask."""
        return read_pair(source, case, _RULES[config.labels])


def _infection() -> tuple[Part, ...]:
    return (
        Part(images=f"{_DOCTOR}/Imgs", masks=f"{_DOCTOR}/GT", split="train", prefix="train_"),
        Part(images=f"{_TEST}/Imgs", masks=f"{_TEST}/GT", split="test", prefix="test_"),
    )


def _multi_class(tree: SourceTree) -> tuple[Part, ...]:
    """Images beside the masks, or where those of the single class are."""
    own_train, own_test = f"{_MULTI_TRAIN}/Imgs", f"{_MULTI_TEST}/Imgs"
    train = own_train if tree.below(own_train, PICTURE_SUFFIXES) else f"{_DOCTOR}/Imgs"
    test = own_test if tree.below(own_test, PICTURE_SUFFIXES) else f"{_TEST}/Imgs"
    return (
        Part(images=train, masks=f"{_MULTI_TRAIN}/GT", split="train", prefix="train_"),
        Part(images=test, masks=f"{_MULTI_TEST}/GT", split="test", prefix="test_"),
    )


ADAPTER: Adapter = Covid19()
