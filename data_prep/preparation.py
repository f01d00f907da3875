"""One case, from its files to samples: what a task does."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.adapters import get as get_adapter
from data_prep.case import Case, CaseError, CasePixels, CaseSummary, PreparedCase, RawCase
from data_prep.perceptual import symmetry_hashes
from data_prep.staging import StagedCase, StagingError, encode_case
from data_prep.statistics import Statistics, measure
from udt_cluster.config.data import DataConfig
from udt_cluster.data.schema import unpadded
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location

MOST_BYTES = 8 * 2**30
"""Of the images of one case at the size of a sample; a node holds several cases at once."""


@dataclass(frozen=True, kw_only=True)
class CaseTask:
    """One case to prepare; small.

    Attributes:
        source: Where its files are.
        case: Which.
        config: How.
        staged: Where its pixels wait for their shards; its name follows from the content of the files.
    """

    source: Location
    case: Case
    config: DataConfig
    staged: Location


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseReport:
    """What the driver learns of a prepared case: its summary and statistics, or what is wrong with it."""

    summary: CaseSummary | None = None
    statistics: Statistics | None = None
    problems: tuple[str, ...] = ()


def run_case_task(task: CaseTask) -> CaseReport:
    """Prepare a case and stage it, unless it is staged.

    What is wrong with its files is reported, not raised, so that all of it is known at the end.
    """
    try:
        staged = StagedCase.open(task.staged)
        return CaseReport(summary=staged.summary, statistics=staged.statistics)
    except (FileNotFoundError, StagingError):
        pass
    try:
        prepared = prepare_case(task.source, task.case, task.config)
    except CaseError as error:
        return CaseReport(problems=error.problems)
    except (UdtError, MemoryError):  # of the storage or of this node, not of the case
        raise
    except Exception as error:  # noqa: BLE001 - a worker's boundary: no file of one case may end the others' preparation
        # Without the error's text: it may hold names from the file.
        kind = type(error).__name__
        return CaseReport(problems=(f"{task.case.id}: could not be read ({kind}); convert or copy its files again",))
    task.staged.write_bytes(encode_case(prepared))
    return CaseReport(summary=prepared.summary, statistics=prepared.statistics)


def prepare_case(source: Location, case: Case, config: DataConfig) -> PreparedCase:
    """Read a case, and bring it to the size of a sample: images bilinear, labels by the nearest pixel centre.

    Raises:
        CaseError: everything that is wrong with its files.
    """
    adapter = get_adapter(config.adapter)
    raw = adapter.read(source, case, config)
    num_classes = len(adapter.class_names(config))
    _refuse_huge(case, raw, config)
    images, labels = _resized(raw, config)
    depth, height, width = raw.label.shape
    rows, columns = unpadded((height, width), config.size, config.resize)
    hashes = symmetry_hashes(images[:, :, :rows, :columns])
    summary = CaseSummary(
        id=case.id,
        group=case.group,
        split=case.split,
        site=case.site,
        meta=case.meta,
        digest=pixel_digest(raw.image),
        foreground=tuple(np.count_nonzero(labels, axis=(1, 2)).tolist()),
        hashes=tuple(hashes[:, 0].tolist()),
        turned=tuple(hashes[:, 1:].ravel().tolist()),
        num_samples=depth,
        channels=images.shape[1],
        dtype=images.dtype.name,
        native_shape=(depth, height, width),
        spacing=tuple(raw.spacing.tolist()),
        affine=tuple(raw.affine.ravel().tolist()),
    )
    return PreparedCase(
        summary=summary,
        statistics=measure(images, labels, num_classes=num_classes),
        pixels=CasePixels(images=images, labels=labels, native_label=raw.label),
    )


def pixel_digest(image: npt.NDArray[np.generic]) -> str:
    """32 hex digits that two images have in common only if type, shape and every value are the same."""
    seen = hashlib.sha256(f"{image.dtype.name} {image.shape} ".encode())
    for plane in image:
        seen.update(np.ascontiguousarray(plane).data)
    return seen.hexdigest()[:32]


def _resized(raw: RawCase, config: DataConfig) -> tuple["npt.NDArray[np.generic]", "npt.NDArray[np.uint8]"]:
    """Slice by slice, so that what is held in float32 at once stays small."""
    import torch  # here, because finding out that nothing is to be done must not take the seconds that this does

    from udt_cluster.data.geometry import resize_image, resize_label

    images = np.empty((*raw.image.shape[:2], *config.size), dtype=_resized_dtype(raw.image.dtype))
    for plane, target in zip(raw.image, images, strict=True):
        whole = torch.from_numpy(np.require(plane, requirements="W"))
        target[...] = resize_image(whole, config.size, config.resize).numpy()
    label = resize_label(torch.from_numpy(raw.label), config.size, config.resize).numpy()
    return images, label


def _resized_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Integers stay what they are; all else becomes float32."""
    return dtype if dtype.kind in "iu" else np.dtype(np.float32)


def _refuse_huge(case: Case, raw: RawCase, config: DataConfig) -> None:
    """Few pixels a slice and many slices can be a small file, and more than the memory at the size of a sample.

    Raises:
        CaseError: the images would have more than :data:`MOST_BYTES`.
    """
    shape = (*raw.image.shape[:2], *config.size)
    needed = math.prod(shape) * _resized_dtype(raw.image.dtype).itemsize
    if needed > MOST_BYTES:
        slices, channels, height, width = shape
        raise CaseError(
            [
                f"{case.id}: {slices} slices x {channels} channel(s) x {height} x {width} pixels would be {needed:,} "
                f"bytes; at most {MOST_BYTES:,} are prepared of one case. Set a smaller data.size, or split the volume"
            ]
        )
