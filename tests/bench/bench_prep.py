"""Preparation: cases a second of each adapter against a loop of plain reads, one task against two, and peak memory.

    OMP_NUM_THREADS=1 python tests/bench/bench_prep.py [--size 224] [--volume 512 512 600]

Real data of UDT_TEST_DATA (default ../shared/data). "Plain reads" opens every image and mask with Pillow, nibabel or
h5py and does nothing with them. Scaling compares one process of the preparation with two. Memory is the peak resident
size of a process that prepares two NIfTI volumes with their masks, beside that of its imports.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import h5py
import nibabel as nib
import numpy as np
from PIL import Image

from data_prep import FileIndex, InProcessExecutor, prepare
from data_prep.adapters import get
from data_prep.processes import ProcessExecutor
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

DATA = Path(os.environ.get("UDT_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SETS: dict[str, tuple[str, dict[str, object]]] = {
    "glas": ("glas", {"group_by": "case"}),
    "acdc_h5": ("acdc", {}),
    "isic2018": ("isic2018", {"group_by": "case"}),
    "covid19_medseg": ("covid19", {"group_by": "case"}),
    "monuseg": ("monuseg", {"tiles": {"size": 512, "overlap": 0}}),
    "hippocampus_msd": ("nifti", {"group_by": "case"}),
}
ONE_VOLUME = """
import resource, sys
from pathlib import Path
from data_prep import FileIndex, InProcessExecutor, prepare
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location
import torch, zarr, nibabel, data_prep.adapters.nifti
imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = DataConfig(source=sys.argv[1], adapter="nifti", group_by="case", size=(224, 224))
index = FileIndex(Path(sys.argv[2]) / "i")
prepare(config, "big", Location.parse(sys.argv[2]), executor=InProcessExecutor(), index=index)
print(imported / 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def read_plainly(path: Path) -> None:
    """Decode one file and forget it."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            _ = file["image"][()], file["label"][()]
    elif path.name.endswith((".nii", ".nii.gz")):
        np.asanyarray(nib.load(path).dataobj)
    else:
        with Image.open(path) as image:
            np.asarray(image)


def config_of(name: str, size: int) -> DataConfig:
    """The settings of one of the real data sets."""
    adapter, fields = SETS[name]
    return DataConfig.model_validate({"source": str(DATA / name), "adapter": adapter, "size": (size, size), **fields})


def seconds_to_prepare(config: DataConfig, executor: object) -> float:
    """One preparation from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        storage, index = Location.parse(folder), FileIndex(Path(folder) / "i")
        prepare(config, "bench", storage, executor=executor, index=index)  # type: ignore[arg-type]
        return time.perf_counter() - began


def adapters_table(size: int) -> None:
    """Each adapter in this process."""
    print("| data | cases | samples/case | cases/s | plain reads, cases/s | ratio |\n|---|---|---|---|---|---|")
    for name in SETS:
        config = config_of(name, size)
        source = Location.parse(config.source)
        cases = get(config.adapter).discover(source, config).cases
        files = sorted({key for case in cases for key in (*case.images, *case.labels)})
        began = time.perf_counter()
        for key in files:
            read_plainly(DATA / name / key)
        plain = time.perf_counter() - began
        ours = seconds_to_prepare(config, InProcessExecutor())
        count = len(cases)
        print(
            f"| {name} | {count} | {len(files) / count / 2:.1f} files | {count / ours:.1f} | {count / plain:.1f} | "
            f"{plain / ours:.2f} |"
        )


def warm(executor: ProcessExecutor) -> None:
    """What a process imports, once before the clock starts (the page cache; the processes themselves start anew)."""
    list(executor.map(abs, range(2), description="warming"))


def scaling(size: int) -> None:
    """GlaS three times over, so that the start of processes weighs little."""
    config = config_of("glas", size)
    times = {}
    for workers in (1, 2):
        executor = ProcessExecutor(workers)
        warm(executor)
        times[workers] = seconds_to_prepare(config, executor)
    print(f"\nGlaS by one process {times[1]:.1f} s, by two {times[2]:.1f} s: {times[1] / times[2]:.2f} times as fast")


def memory(shape: tuple[int, int, int]) -> None:
    """One large volume."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rng = np.random.default_rng(0)
        for kind in ("images", "masks"):
            (root / "in" / kind).mkdir(parents=True)
            for number in range(2):
                values = rng.integers(0, 2000 if kind == "images" else 2, shape, dtype=np.int16)
                nib.save(nib.Nifti1Image(values, np.eye(4)), root / "in" / kind / f"v{number}.nii")
        answer = subprocess.run(
            [sys.executable, "-c", ONE_VOLUME, str(root / "in"), str(root / "out")],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        imported, peak = (float(number) for number in answer.stdout.split())
        image = np.prod(shape) * 2 / 1e6
        print(
            f"\nTwo volumes of {shape}, int16 ({image:.0f} MB each): imports alone {imported:.0f} MB, "
            f"peak {peak:.0f} MB, that is {(peak - imported) / image:.1f} times one image"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--volume", type=int, nargs=3, default=(512, 512, 600))
    options = parser.parse_args()
    adapters_table(options.size)
    scaling(options.size)
    memory(tuple(options.volume))


if __name__ == "__main__":
    main()
