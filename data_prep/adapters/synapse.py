"""`synapse`: abdominal CT of the Beyond the Cranial Vault challenge (BTCV, https://www.synapse.org/Synapse:syn3193805).

In two layouts: slices and volumes as the code of TransUNet publishes them, already windowed to -125..275 HU and scaled
to 0..1; and the original NIfTI, in Hounsfield units. A case is one scan, and every scan is of another patient.
"""

import data_prep.adapters.synapse_arrays as synapse_arrays
import data_prep.adapters.synapse_nifti as synapse_nifti
from data_prep.case import Adapter, Case, Discovery, RawCase
from data_prep.source import SourceTree
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

CLASSES = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")
"""In the order of TransUNet's label values, 1 to 8."""


class Synapse:
    """Eight organs; the twelve test scans are those of the usual protocol."""

    name = "synapse"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Background and eight organs."""
        if config.classes is not None and len(config.classes) != len(CLASSES):
            raise DataError(f"data.classes: synapse has {list(CLASSES)}; name all eight in this order, or none")
        return ("background", *(config.classes or CLASSES))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Find out which layout it is, and list the scans."""
        self.class_names(config)
        tree = SourceTree.of(source)
        if synapse_arrays.recognises(tree):
            _refuse_second_window(config)
            return synapse_arrays.discover(tree)
        if synapse_nifti.recognises(tree):
            return synapse_nifti.discover(tree)
        raise DataError(
            f"{source} is no Synapse data set: there is neither train_npz/case0005_slice000.npz or "
            "test_vol_h5/case0008.npy.h5, nor img/img0001.nii.gz with label/label0001.nii.gz. data.source must be the "
            "folder that holds them."
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """One scan as a volume."""
        if case.images[0].endswith((".npz", ".h5")):
            return synapse_arrays.read(source, case)
        return synapse_nifti.read(source, case)


def _refuse_second_window(config: DataConfig) -> None:
    """The window of Hounsfield units makes nothing of values that are 0..1 already."""
    if config.normalize == "ct_window" and (config.window is None or config.window[1] > 1):
        raise DataError(
            f"data.normalize: ct_window with window {list(config.window or (-125, 275))}: the npz and h5 files of this "
            "layout are windowed already, to 0..1. Remove data.normalize, or use the original NIfTI files."
        )


ADAPTER: Adapter = Synapse()
