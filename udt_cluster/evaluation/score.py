"""Score a model on cases of a store, at native resolution: tables, a summary, and pictures of the worst and best."""

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udt_cluster.config.job import EvaluateConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import DataError
from udt_cluster.evaluation.gallery import Gallery
from udt_cluster.evaluation.metrics import METRICS, case_metrics, count_classes
from udt_cluster.evaluation.model import SegmentationModel
from udt_cluster.evaluation.spec import complete_folder
from udt_cluster.evaluation.summary import CaseScore, Summary, summarize

PER_CASE_NAME = "per_case.csv"
SUMMARY_NAME = "summary.json"
OVERLAYS_NAME = "overlays"

Progress = Callable[[int, int], None]
"""Told after each case how many are done, of how many."""


def score(
    model: SegmentationModel,
    store: DataStore,
    cases: Sequence[int],
    *,
    config: EvaluateConfig,
    output: Path,
    progress: Progress | None = None,
) -> Summary:
    """Predict cases from their stored samples, bring the probabilities back to native size, and compare.

    One case is in memory at a time. A case of several slices is scored as one volume, a single image in two dimensions.

    Args:
        model: Trained on a store with the same size, channels and classes; its own normalisation is used.
        store: Where samples and native labels are.
        cases: Rows of the store's case table.
        config: Metrics, batch size, number of overlays.
        output: New folder for ``per_case.csv``, ``summary.json`` and ``overlays/``; it appears when all is written.
        progress: Called after each case.

    Raises:
        DataError: no cases, or a model that does not fit the store.
        UsageError: something lies in the output folder already.
    """
    if len(cases) == 0:
        raise DataError("there are no cases to score")
    check_fit(model, store)
    gallery = Gallery(config.worst)
    metrics = tuple(name for name in METRICS if name in config.metrics or name == "dice")
    scores = []
    with complete_folder(output) as folder:
        for done, case in enumerate(cases, start=1):
            scores.append(_score_case(model, store, int(case), config=config, metrics=metrics, gallery=gallery))
            if progress is not None:
                progress(done, len(cases))
        summary = summarize(scores, class_names=model.class_names, metrics=metrics)
        _write_table(folder / PER_CASE_NAME, summary)
        text = json.dumps(summary.to_dict(), indent=2, allow_nan=False)
        (folder / SUMMARY_NAME).write_text(text + "\n", encoding="utf-8")
        gallery.write(folder / OVERLAYS_NAME, model.class_names)
    return summary


def _score_case(
    model: SegmentationModel,
    store: DataStore,
    case: int,
    *,
    config: EvaluateConfig,
    metrics: Sequence[str],
    gallery: Gallery,
) -> CaseScore:
    table, samples = store.cases, case_samples(store, case)
    reference = store.native_label(case)
    height, width = reference.shape[1:]
    prediction = model.predict_samples(samples, native_size=(height, width), batch_size=config.batch_size)
    is_volume = len(reference) > 1
    sizes = [float(size) for size in table.spacing[case][0 if is_volume else 1 :]]
    spacing = sizes if all(math.isfinite(size) for size in sizes) else None
    predicted, expected = (prediction, reference) if is_volume else (prediction[0], reference[0])
    scores = case_metrics(predicted, expected, num_classes=model.num_classes, spacing=spacing, metrics=metrics)
    counts = count_classes(predicted, expected, num_classes=model.num_classes)
    row = CaseScore(
        case=table.ids[case],
        group=table.groups[case],
        unit="px" if spacing is None else "mm",
        scores=scores,
        reference_voxels={index: int(counts.reference[index]) for index in scores},
        prediction_voxels={index: int(counts.prediction[index]) for index in scores},
        voxels=reference.size,
    )
    aspect = 1.0 if spacing is None else spacing[-2] / spacing[-1]
    is_canonical = is_volume and bool(np.isfinite(table.affine[case]).all())
    look = {"aspect": aspect, "resize": model.spec.resize, "is_canonical": is_canonical}
    gallery.offer(row, samples, prediction, reference, **look)
    return row


def case_samples(store: DataStore, case: int) -> npt.NDArray[Any]:
    """The images of a case in the order of its slices, (D, C, h, w)."""
    first, count = int(store.cases.first_sample[case]), int(store.cases.num_samples[case])
    slices = np.asarray(store.sample_slice[first : first + count])
    depth = int(store.cases.native_shape[case][0])
    if sorted(slices.tolist()) != list(range(depth)):
        raise DataError(f"case {store.cases.ids[case]} has {count} samples for its {depth} slices; prepare it again")
    images, _ = store.read_samples(first, first + count)
    return images[np.argsort(slices)]


def check_fit(model: SegmentationModel, store: DataStore) -> None:
    """Refuse a store that the model was not made for; every difference at once."""
    spec, info = model.spec, store.info
    pairs: dict[str, tuple[object, object]] = {
        "class_names": (tuple(spec.class_names), tuple(info.class_names)),
        "channels": (spec.image_channels, info.channels),
        "dtype": (spec.dtype, info.dtype),
        "data.size": (tuple(spec.size), tuple(info.size)),
        "data.resize": (spec.resize, info.resize),
    }
    wrong = [
        f"{name}: the model has {ours}, the store {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs
    ]
    if wrong:
        raise DataError(f"the model cannot be scored on {store.location}; prepare the data as for its training", wrong)


def _write_table(path: Path, summary: Summary) -> None:
    """One row per case and class; an undefined score is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = ["case", "group", "class", "class_name", *summary.metrics]
        writer.writerow([*names, "prediction_voxels", "reference_voxels", "unit"])
        for case in summary.cases:
            for index, values in case.scores.items():
                cells = ["" if math.isnan(values[name]) else f"{values[name]:.9g}" for name in summary.metrics]
                sizes = [case.prediction_voxels[index], case.reference_voxels[index]]
                writer.writerow([case.case, case.group, index, summary.class_names[index], *cells, *sizes, case.unit])
