"""Readers of file formats: bytes in, arrays out, and a ReaderError for whatever is not what it should be."""

from data_prep.readers.base import ReaderError, store_precision
from data_prep.readers.hdf5 import read_hdf5
from data_prep.readers.nifti import read_nifti
from data_prep.readers.pictures import PICTURE_SUFFIXES, read_mask, read_picture
from data_prep.readers.volume import Volume, grid_difference

__all__ = [
    "PICTURE_SUFFIXES",
    "ReaderError",
    "Volume",
    "grid_difference",
    "read_hdf5",
    "read_mask",
    "read_nifti",
    "read_picture",
    "store_precision",
]
