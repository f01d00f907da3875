"""One case, from its files to samples: what a task does."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.adapters import get as get_adapter
from data_prep.case import Case, CaseError, CasePixels, CaseSummary, PreparedCase, RawCase
from data_prep.perceptual import perceptual_hashes
from data_prep.staging import StagedCase, StagingError, encode_case
from data_prep.statistics import Statistics, measure
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location


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
    images, labels = _resized(raw, config)
    depth, height, width = raw.label.shape
    summary = CaseSummary(
        id=case.id,
        group=case.group,
        split=case.split,
        site=case.site,
        meta=case.meta,
        digest=pixel_digest(raw.image),
        foreground=tuple(np.count_nonzero(labels, axis=(1, 2)).tolist()),
        hashes=tuple(perceptual_hashes(images).tolist()),
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

    images = [
        resize_image(torch.from_numpy(np.require(plane, requirements="W")), config.size, config.resize).numpy()
        for plane in raw.image
    ]
    label = resize_label(torch.from_numpy(raw.label), config.size, config.resize).numpy()
    return np.stack(images), label
