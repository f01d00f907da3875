"""Samples per second of the loaders from a local disk, beside a copy in memory and stock Zarr reads.

    OMP_NUM_THREADS=1 python tests/bench/bench_loader.py --samples 1024

Samples are 224 x 224 x 3 crops of H&E where UDT_TEST_DATA has GlaS, else smooth noise. "CPU ms" is the processor time
of the whole process, all threads, per sample. Every row is the best of its passes; nothing is asserted.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from PIL import Image

from data_prep.case import CasePixels, CaseSummary
from data_prep.statistics import measure
from data_prep.writer import finish, plan_store, shard_tasks, write_shard, write_tables
from udt_cluster.data import DataStore, EvalLoader, Normalization, SampleCache, TrainLoader
from udt_cluster.data.cache import sample_bytes
from udt_cluster.storage import Location

SIDE, BATCH = 224, 32


def crops(samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (3, 224, 224) and masks (224, 224)."""
    rng = np.random.default_rng(0)
    pairs = list(glas_pairs()) or [smooth_pair(rng) for _ in range(8)]
    for _ in range(samples):
        image, mask = pairs[rng.integers(len(pairs))]
        top, left = (rng.integers(side - SIDE + 1) for side in mask.shape)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        yield np.ascontiguousarray(image[part].transpose(2, 0, 1)), np.ascontiguousarray(mask[part])


def glas_pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (H, W, 3) with their masks (H, W), where there are any."""
    folder = Path(os.environ.get("UDT_TEST_DATA", "../shared/data")) / "glas" / "Train_Folder"
    masks = {path.stem.removesuffix("_anno"): path for path in (folder / "labelcol").glob("*")}
    for path in sorted((folder / "img").glob("*")):
        if path.stem in masks:
            image, mask = np.asarray(Image.open(path).convert("RGB")), np.asarray(Image.open(masks[path.stem]))
            yield image, (mask if mask.ndim == 2 else mask[..., 0]) > 0


def smooth_pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise that compresses about as tissue does."""
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-8, 9, (480, 640, 3))
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return image, image[..., 0] > 128


def write_store(folder: Path, samples: int) -> DataStore:
    """A committed store of one case per sample, by the real writer."""
    pixels = [CasePixels(images=x[None], labels=y[None].astype(np.uint8), native_label=y[None, :1, :1].astype(np.uint8))
              for x, y in crops(samples)]  # fmt: skip
    summaries = [
        CaseSummary(
            id=f"case-{index:06d}", group=f"case-{index:06d}", split="train", meta={}, num_samples=1, channels=3,
            dtype="uint8", native_shape=(1, 1, 1), spacing=(np.nan,) * 3, affine=(np.nan,) * 16,
        )
        for index in range(samples)
    ]  # fmt: skip
    statistics = [measure(pixel.images, pixel.labels, num_classes=2) for pixel in pixels]
    plan = plan_store(
        Location.parse(folder) / "data" / "bench" / "v0", summaries, statistics,
        dataset="bench", adapter="image_folder", version="v0", size=(SIDE, SIDE), resize="stretch",
        class_names=("background", "gland"), provenance={},
    )  # fmt: skip
    records = [record for task, cases in shard_tasks(plan) for record in write_shard(task, *(pixels[c] for c in cases))]
    finish(plan, [*records, *write_tables(plan)])
    return DataStore.open(plan.root)


def measured(run: Callable[[], int], *, passes: int) -> tuple[float, float]:
    """Samples per second, and CPU milliseconds per sample, of the fastest pass."""
    results = []
    for _ in range(passes):
        wall, cpu = time.perf_counter(), time.process_time()
        count = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        results.append((count / wall, 1e3 * cpu / count))
    return max(results)


def copies(images: np.ndarray, labels: np.ndarray) -> int:
    """The same gather from arrays in memory: nothing that reads samples can be faster."""
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        batch, batch_labels = (
            np.empty((BATCH, *images.shape[1:]), images.dtype),
            np.empty((BATCH, SIDE, SIDE), np.uint8),
        )
        for row, sample in enumerate(order[start : start + BATCH]):
            batch[row], batch_labels[row] = images[sample], labels[sample]
    return len(order) // BATCH * BATCH


def stock_zarr(folder: Path, samples: int) -> int:
    """What a data set class of a dozen lines does: one read of each array per sample."""
    group: Any = zarr.open_group(folder / "data" / "bench" / "v0", mode="r")
    images, labels = group["images"], group["labels"]
    for sample in np.random.default_rng(0).permutation(images.shape[0])[:samples]:
        assert images[int(sample)].shape == (3, SIDE, SIDE)
        assert labels[int(sample)].shape == (SIDE, SIDE)
    return samples


def gathered(cache: SampleCache, samples: int) -> int:
    """Raw batches from a warm cache, in this thread."""
    order = np.random.default_rng(0).permutation(samples)
    for start in range(0, samples - BATCH + 1, BATCH):
        images, labels = np.empty((BATCH, 3, SIDE, SIDE), np.uint8), np.empty((BATCH, SIDE, SIDE), np.uint8)
        cache.gather(order[start : start + BATCH], images, labels)
    return samples // BATCH * BATCH


def train_loader(store: DataStore, **settings: Any) -> TrainLoader:
    """A loader of all cases."""
    normalization = Normalization.from_fingerprint("auto", store.info.fingerprint, store.info.dtype)
    return TrainLoader(
        store, range(len(store.cases)), normalization=normalization, global_batch_size=BATCH, micro_batch_size=BATCH,
        rank=0, world_size=1, seed=0, device="cpu", cache_bytes=8 * 2**30, **settings,
    )  # fmt: skip


def one_epoch(loader: TrainLoader, epoch: int) -> int:
    """Samples of an epoch, looked at by nobody."""
    return sum(len(batch.samples) for step in loader.epoch(epoch) for batch in step)


def raw_epoch(loader: TrainLoader, epoch: int, *, at_most: int | None = None) -> int:
    """The same up to where the device begins: batches in the source's type, not augmented, not normalised."""
    order = np.random.default_rng(epoch).permutation(loader.cache.store.num_samples)[:at_most]
    parts = (order[start : start + BATCH] for start in range(0, len(order) - BATCH + 1, BATCH))
    return sum(len(raw.samples) for raw in loader._reader.read(parts))


def loader_rows(store: DataStore, passes: int) -> Iterator[tuple[str, float, float]]:
    """Rows of the loaders."""
    for threads in (0, 1, 2, 4):
        cold = (train_loader(store, augment="none", threads=threads) for _ in range(passes))
        first = measured(lambda cold=cold: raw_epoch(next(cold), 0), passes=passes)
        yield f"first epoch, raw batches, {threads} threads", *first
    for threads in (0, 1, 2, 4):
        warm = train_loader(store, augment="none", threads=threads)
        raw_epoch(warm, 0)
        yield (
            f"from the cache, raw batches, {threads} threads",
            *measured(lambda w=warm: raw_epoch(w, 1), passes=passes),
        )
    for augment in ("none", "released"):
        ready = train_loader(store, augment=augment, threads=2)
        one_epoch(ready, 0)
        name = f"from the cache, `TrainLoader`, augment {augment}, float32 on the CPU, 2 threads"
        yield name, *measured(lambda r=ready: one_epoch(r, 1), passes=passes)
    validation = EvalLoader(
        store, range(len(store.cases)), normalization=ready._normalization, batch_size=BATCH, cache=ready.cache
    )
    yield (
        "from the cache, `EvalLoader`, float32, 2 threads",
        *measured(lambda: sum(len(batch.case) for batch in validation), passes=passes),
    )
    everything, quarter = np.arange(store.num_samples), store.num_samples // 4 * sample_bytes(store)
    small = SampleCache.for_samples(store, everything, capacity_bytes=quarter)
    tight = train_loader(store, augment="none", threads=2, cache=small)
    name = "cache for a quarter of the data, raw batches, 2 threads"
    yield name, *measured(lambda: raw_epoch(tight, 0, at_most=256), passes=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="udt-bench-") as name:
        store = write_store(Path(name), options.samples)
        images, labels = store.read_samples(0, store.num_samples)
        print(f"{options.samples} samples, {store.info.shard_samples} a shard, {os.cpu_count()} cores\n")
        rows = [
            ("copy of arrays in memory", *measured(lambda: copies(images, labels), passes=options.passes)),
            ("stock Zarr, sample by sample", *measured(lambda: stock_zarr(Path(name), 256), passes=options.passes)),
        ]
        cache = SampleCache(store, capacity_bytes=8 * 2**30, block_samples=store.info.shard_samples)
        gathered(cache, options.samples)
        rows.append(
            (
                "gather from the cache, no threads",
                *measured(lambda: gathered(cache, options.samples), passes=options.passes),
            )
        )
        rows += loader_rows(store, options.passes)
    stock = rows[1][1]
    print("| 224 x 224 x 3 uint8 + mask, local disk | samples/s | CPU ms per sample | x stock Zarr |")
    print("|---|---:|---:|---:|")
    for title, rate, cpu in rows:
        print(f"| {title} | {rate:,.0f} | {cpu:.3f} | {rate / stock:,.1f} |")


if __name__ == "__main__":
    main()
