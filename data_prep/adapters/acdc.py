"""`acdc`: Automated Cardiac Diagnosis Challenge (Bernard et al. 2018, IEEE TMI 37(11)), in two layouts.

The official one (NIfTI and `Info.cfg` per patient), and the one of HDF5 slices and volumes that comes with the code of
semi-supervised methods. A case is one frame (end of diastole or systole) of one patient; the group is the patient.
"""

import data_prep.adapters.acdc_hdf5 as acdc_hdf5
import data_prep.adapters.acdc_nifti as acdc_nifti
from data_prep.case import Adapter, Case, Discovery, RawCase
from data_prep.labels import LabelRule
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

CLASSES = ("RV", "MYO", "LV")


class Acdc:
    """Right ventricle, myocardium and left ventricle, label values 1, 2, 3."""

    name = "acdc"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background, RV, MYO, LV."""
        if config.classes is not None and len(config.classes) != len(CLASSES):
            raise DataError(f"data.classes: acdc has {list(CLASSES)}; name all three in this order, or none")
        return ("background", *(config.classes or CLASSES))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find out which layout it is, and list frames with their masks."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if acdc_nifti.recognises(tree):
            return acdc_nifti.discover(tree)
        if acdc_hdf5.recognises(tree):
            return acdc_hdf5.discover(tree)
        raise DataError(
            f"{source} is no ACDC data set: there is neither patient001/patient001_frame01.nii.gz (directly, or in "
            "training/ and testing/), nor data/patient001_frame01.h5 or data/patient001_frame01_slice_1.h5. "
            "data.source must be the folder that holds them."
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One frame as a volume."""
        rule = LabelRule((1, 2, 3))
        if case.images[0].endswith(".h5"):
            return acdc_hdf5.read(source, case, rule)
        return acdc_nifti.read(source, case, rule)


ADAPTER: Adapter = Acdc()
