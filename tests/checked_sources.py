"""Small sources with nothing wrong, and how tests ask what check and preparation say of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep import FileIndex, InProcessExecutor, prepare
from data_prep.check import CheckReport, Finding, check_source
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

CASES = 8
HEIGHT, WIDTH = 40, 48


def picture(number: int) -> np.ndarray:
    """An image that resembles no other: coarse blocks of random colours."""
    blocks = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((HEIGHT // 8, WIDTH // 8, 1), np.uint8))


def mask(number: int, value: int = 1) -> np.ndarray:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[8 : 20 + number, 8:30] = value
    return label


def save(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def save_volume(path: Path, voxels: np.ndarray, shift: float = 0.0) -> None:
    affine = np.diag([1.4, 1.4, 10.0, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(voxels, affine), path)


def config(source: Path, adapter: str = "image_folder", **fields: object) -> DataConfig:
    group_by = {"group_by": "case"} if adapter == "image_folder" else {}
    defaults = {"adapter": adapter, "size": (32, 32), "splits": {"k": 4}, **group_by}
    return DataConfig.model_validate({"source": str(source), **defaults, **fields})


def check(source: Path, adapter: str = "image_folder", *, pictures: bool = False, **fields: object) -> CheckReport:
    return check_source(config(source, adapter, **fields), executor=InProcessExecutor(), pictures=pictures)


def of(report: CheckReport, row: str, severity: str = "refused") -> list[Finding]:
    return [finding for finding in report.findings if (finding.row, finding.severity) == (row, severity)]


def only(report: CheckReport, row: str, severity: str = "refused") -> Finding:
    (finding,) = of(report, row, severity)
    assert report.blocks or severity != "refused"
    return finding


def refuses(source: Path, tmp_path: Path, adapter: str = "image_folder", **fields: object) -> DataError:
    """What preparation says of the same source."""
    with pytest.raises(DataError) as error:
        prepare(
            config(source, adapter, **fields),
            "set",
            Location.parse(tmp_path / "storage"),
            executor=InProcessExecutor(),
            index=FileIndex(tmp_path / "i.db"),
        )
    return error.value


def prepared(source: Path, tmp_path: Path, adapter: str = "image_folder", **more: object) -> Path:
    storage = tmp_path / "storage"
    prepare(
        config(source, adapter),
        "set",
        Location.parse(storage),
        executor=InProcessExecutor(),
        index=FileIndex(tmp_path / "i.db"),
        **more,
    )
    return storage


def objects(folder: Path) -> list[str]:
    found = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    assert found
    return [*found, *(str(path) for path in folder.rglob("*"))]
