"""Small valid things for tests, made by the real code."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.case import CasePixels, CaseSummary, PreparedCase
from data_prep.perceptual import symmetry_hashes
from data_prep.preparation import pixel_digest
from data_prep.shard_tasks import shard_tasks, write_shard
from data_prep.staging import encode_case
from data_prep.statistics import measure
from data_prep.writer import finish, plan_store, write_tables
from udt_cluster.data.geometry import resize_image, resize_label
from udt_cluster.data.schema import Resize
from udt_cluster.data.store import DataStore
from udt_cluster.storage import Location

CLASS_NAMES = ("background", "first", "second", "third")


def make_store(
    folder: Path | Location,
    *,
    slices: Sequence[int] = (1, 1, 3, 4),
    patients: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    empty: Sequence[int] = (),
    twins: Sequence[tuple[int, int]] = (),
    size: tuple[int, int] = (32, 32),
    native: tuple[int, int] = (40, 36),
    channels: int = 1,
    dtype: str = "uint8",
    num_classes: int = 2,
    spacing: tuple[float, float, float] = (5.0, 1.5, 1.25),
    resize: Resize = "stretch",
    shard_samples: int = 4,
    dataset: str = "tiny",
    version: str = "v0",
    seed: int = 0,
) -> DataStore:
    """Write a tiny store by the real writer, commit it and open it.

    Cases are called case-00, case-01, ...; case i has `slices[i]` samples: pictures (1) or volumes (more). Each class
    is a bright rectangle in a noisy image, so that a network can learn it. Native height and width differ from case to
    case. Volumes have the spacing (D, H, W) in mm, pictures have none.

    Args:
        folder: Where; the store is in folder/data/<dataset>/<version>.
        slices: Samples of each case.
        patients: Group of each case; by default its id.
        splits: "train", "validation", "test" or "unknown" of each case; by default "train".
        sites: Of each case; by default unknown.
        digests: Of each case's image; by default the real ones.
        empty: Cases whose every other label, from the first on, has no foreground.
        twins: (case, other): the case has the other's pixels; the other comes before it and has as many slices.
        size: (H, W) of a sample.
        native: Native (H, W) of the first case; case i has i more rows.
        channels: C.
        dtype: uint8, uint16, int16 or float32.
        num_classes: With the background, at most 4.
        spacing: Of the volumes.
        resize: Of the store.
        shard_samples: Samples in a shard.
        dataset: Name.
        version: Name.
        seed: Of the pixels.
    """
    import torch

    location = folder if isinstance(folder, Location) else Location.parse(folder)
    rng = np.random.default_rng(seed)
    staging = location / "staging" / f"{dataset}-{version}"
    summaries, statistics, staged, raws = [], [], [], []
    for index, depth in enumerate(slices):
        image, label = _case(rng, (depth, native[0] + index, native[1]), channels, dtype, num_classes)
        label[::2] *= index not in empty
        if index in dict(twins):
            image, label = raws[dict(twins)[index]]
        raws.append((image, label))
        small = resize_image(torch.from_numpy(image), size, resize).numpy()
        small_label = resize_label(torch.from_numpy(label), size, resize).numpy()
        hashes = symmetry_hashes(small)
        name = f"case-{index:02d}"
        summaries.append(
            CaseSummary(
                id=name,
                group=patients[index] if patients else name,
                split=splits[index] if splits else "train",
                site=sites[index] if sites else "",
                meta={},
                digest=digests[index] if digests else pixel_digest(image),
                foreground=tuple(np.count_nonzero(small_label, axis=(1, 2)).tolist()),
                hashes=tuple(hashes[:, 0].tolist()),
                turned=tuple(hashes[:, 1:].ravel().tolist()),
                num_samples=depth,
                channels=channels,
                dtype=dtype,
                native_shape=label.shape,
                spacing=spacing if depth > 1 else (np.nan,) * 3,
                affine=tuple(np.diag([*spacing[::-1], 1.0]).ravel()) if depth > 1 else (np.nan,) * 16,
            )
        )
        statistics.append(measure(small, small_label, num_classes=num_classes))
        pixels = CasePixels(images=small, labels=small_label, native_label=label)
        staged.append(staging / name)
        staged[-1].write_bytes(
            encode_case(PreparedCase(summary=summaries[-1], statistics=statistics[-1], pixels=pixels))
        )
    plan = plan_store(
        location / "data" / dataset / version,
        summaries,
        statistics,
        dataset=dataset,
        adapter="image_folder",
        version=version,
        size=size,
        resize=resize,
        class_names=CLASS_NAMES[:num_classes],
        provenance={"patients_known": patients is not None, "warnings": []},
        shard_samples=shard_samples,
    )
    written = [write_shard(task) for task in shard_tasks(plan, staged, staging / "shards")]
    finish(plan, [*(record for report in written for record in report.records), *write_tables(plan)])
    staging.delete_tree()
    return DataStore.open(plan.root)


def _case(
    rng: np.random.Generator, shape: tuple[int, int, int], channels: int, dtype: str, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image (D, C, H, W) and label (D, H, W) with one rectangle per class, its brightness that of the class."""
    depth, height, width = shape
    label = np.zeros(shape, dtype=np.uint8)
    for plane in label:
        for value in range(1, num_classes):
            top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
            plane[top : top + height // 3, left : left + width // 3] = value
    bright = 40.0 + 200.0 * label / (num_classes - 1)
    image = bright[:, None] + rng.normal(0, 10, (depth, channels, height, width))
    return np.clip(image, 0, 255).astype(dtype), label
