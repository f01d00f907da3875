"""Volumes that tests write, and what the adapters find and read of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep import adapters
from data_prep.case import CaseError, Discovery, RawCase
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

SHAPE = (5, 4, 3)
SHIFTED = np.diag([1.0, 2.0, 3.0, 1.0])


def config(source: Path, adapter: str, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": str(source), "adapter": adapter, "size": (32, 32), **fields})


def discover(config: DataConfig) -> Discovery:
    return adapters.get(config.adapter).discover(Location.parse(config.source), config)


def read(config: DataConfig, number: int = 0) -> RawCase:
    return adapters.get(config.adapter).read(Location.parse(config.source), discover(config).cases[number], config)


def complaints(config: DataConfig) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        discover(config)
    return error.value.problems


def read_complaints(config: DataConfig, number: int = 0) -> tuple[str, ...]:
    with pytest.raises(CaseError) as error:
        read(config, number)
    return error.value.problems


def classes(config: DataConfig) -> tuple[str, ...]:
    return adapters.get(config.adapter).class_names(config)


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray = SHIFTED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, shape, dtype=np.int16)


def mask(*values: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels.ravel()[: len(values)] = values
    return labels
