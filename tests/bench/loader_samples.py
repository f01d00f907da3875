"""The samples of `bench_loader.py`: 224 x 224 x 3 crops of H&E with their masks, and a store of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.case import CasePixels, CaseSummary
from data_prep.perceptual import symmetry_hashes
from data_prep.shard_tasks import shard_tasks, write_shard
from data_prep.staging import PreparedCase, encode_case
from data_prep.statistics import measure
from data_prep.writer import finish, plan_store, write_tables
from udt_cluster.data import DataStore
from udt_cluster.storage import Location

SIDE = 224


def crops(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 224, 224) and masks (N, 224, 224), uint8."""
    rng = np.random.default_rng(0)
    pairs = list(glas_pairs()) or [smooth_pair(rng) for _ in range(8)]
    images, masks = np.empty((samples, 3, SIDE, SIDE), np.uint8), np.empty((samples, SIDE, SIDE), np.uint8)
    for sample in range(samples):
        image, mask = pairs[rng.integers(len(pairs))]
        top, left = (rng.integers(side - SIDE + 1) for side in mask.shape)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        images[sample], masks[sample] = image[part].transpose(2, 0, 1), mask[part]
    return images, masks


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


def write_store(root: Location, images: np.ndarray, masks: np.ndarray) -> DataStore:
    """A committed store of one case per sample, by the real writer."""
    staging, summaries, statistics, staged = root / "staging", [], [], []
    for index, (image, mask) in enumerate(zip(images[:, None], masks[:, None], strict=True)):
        name, hashes = f"case-{index:06d}", symmetry_hashes(image)
        summaries.append(
            CaseSummary(
                id=name, group=name, split="train", site="", meta={}, digest=f"{index:032x}",
                foreground=(int(mask.sum()),), hashes=(int(hashes[0, 0]),), turned=tuple(hashes[0, 1:].tolist()),
                num_samples=1, channels=3, dtype="uint8", native_shape=(1, 1, 1), spacing=(np.nan,) * 3,
                affine=(np.nan,) * 16,
            )
        )  # fmt: skip
        statistics.append(measure(image, mask, num_classes=2))
        pixels = CasePixels(images=image, labels=mask, native_label=mask[:, :1, :1])
        staged.append(staging / name)
        staged[-1].write_bytes(
            encode_case(PreparedCase(summary=summaries[-1], statistics=statistics[-1], pixels=pixels))
        )
    plan = plan_store(
        root / "data" / "bench" / "v0", summaries, statistics,
        dataset="bench", adapter="image_folder", version="v0", size=(SIDE, SIDE), resize="stretch",
        class_names=("background", "gland"), provenance={},
    )  # fmt: skip
    reports = [write_shard(task) for task in shard_tasks(plan, staged, staging / "shards")]
    finish(plan, [*(record for report in reports for record in report.records), *write_tables(plan)])
    staging.delete_tree()
    return DataStore.open(plan.root)
