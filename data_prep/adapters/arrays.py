"""`arrays`: a folder of `.npz` or HDF5 files, each with an image and its class indices."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.adapters.pairs import attempt, read_bytes
from data_prep.adapters.volumes import label_rule, named_files
from data_prep.case import Adapter, Case, CaseError, Discovery, RawCase
from data_prep.readers import ReaderError, read_hdf5, store_precision
from data_prep.readers.arrays import read_npz
from data_prep.source import SourceTree, natural_order
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_SUFFIXES = (".npz", ".h5", ".hdf5")
_MOST_CHANNELS = 4

Array = npt.NDArray[Any]


class Arrays:
    """Pictures and volumes by the names in `data.arrays`; patients, spacing and orientation are not known."""

    name = "arrays"

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """`data.classes`, or one class called foreground."""
        return ("background", *(config.classes or ("foreground",)))

    def discover(self, source: Location, config: DataConfig) -> Discovery:
        """Every file is a case; its id is its path without the extension."""
        tree = SourceTree.of(source)
        names = named_files(tree, "", _SUFFIXES)
        if not names:
            raise DataError(f"{source}: there are no files {', '.join(_SUFFIXES)}. data.source must hold them.")
        cases = [
            Case(id=name, group=name, split="unknown", images=(key,), labels=(key,)) for key, name in names.items()
        ]
        return Discovery(
            cases=tuple(sorted(cases, key=lambda case: natural_order(case.id))),
            patients_known=False,
            files=tree.select(names),
        )

    def read(self, source: Location, case: Case, config: DataConfig) -> RawCase:
        """Image and label of a file."""
        problems: list[str] = []
        raw = attempt(problems, case.images[0], partial(_read_file, source, case.images[0], config))
        if raw is None:
            raise CaseError(problems)
        return raw


def _read_file(source: Location, key: str, config: DataConfig) -> RawCase:
    read = read_npz if key.lower().endswith(".npz") else read_hdf5
    image, label = read(read_bytes(source, key), config.arrays.image, config.arrays.label)
    planes = _planes(image, label)
    volume = (-1, *label.shape[-2:])
    return RawCase(image=store_precision(planes), label=label_rule(config).apply(label).reshape(volume))


def _planes(image: Array, label: Array) -> Array:
    """(D, C, H, W), a view.

    Raises:
        ReaderError: the two do not fit together.
    """
    grey, in_color = image.shape == label.shape, image.shape[:-1] == label.shape
    if label.ndim not in (2, 3) or not (grey or (in_color and image.shape[-1] <= _MOST_CHANNELS)):
        raise ReaderError(
            f"the image has the shape {image.shape}, the label {label.shape}; allowed: (H, W) or (D, H, W) for both, "
            f"and at most {_MOST_CHANNELS} channels at the end of the image's; transpose and save it again"
        )
    volume = (-1, *label.shape[-2:])
    if grey:
        return image.reshape(volume)[:, None]
    return np.moveaxis(image.reshape(*volume, image.shape[-1]), -1, 1)


ADAPTER: Adapter = Arrays()
