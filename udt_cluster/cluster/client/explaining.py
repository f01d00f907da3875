"""A trained model of a target explained in this process: found with its data and its cases, measured, logged."""

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.client import local
from udt_cluster.cluster.client.datasets import find_data, storage_of
from udt_cluster.cluster.client.targets import Target
from udt_cluster.errors import DataError, UsageError
from udt_cluster.storage import Location, read_commit

if TYPE_CHECKING:
    from udt_cluster.data import DataStore
    from udt_cluster.evaluation import SegmentationModel
    from udt_cluster.evaluation.explain import ExplainSettings
    from udt_cluster.tracking import Tracker

VALIDATION, TEST = "validation", "test"
_SEED = 0  # of which cases are taken where not all are

Lineage = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExplainRequest:
    """What a person asked for.

    Attributes:
        model: A registered model, or the folder of one.
        output: New folder; None for `explain-<model>` here.
        data: URI or `DATASET/VERSION`; None for the data that the model was trained on.
        cases: No more than so many for each member of the model; None for all.
        test: The data set's own test cases instead of those that the model's fold held out.
    """

    model: str
    output: Path | None = None
    data: str | None = None
    cases: int | None = None
    test: bool = False


@dataclass(frozen=True)
class _Found:
    """A model, and where it is registered."""

    model: "SegmentationModel"
    name: str
    tracker: "Tracker | None" = None
    run_id: str | None = None

    @property
    def lineages(self) -> list[Lineage]:
        """Where each member comes from."""
        lineage = self.model.spec.lineage
        return list(lineage.get("members", [lineage] * len(self.model.networks)))


@dataclass(frozen=True)
class _Chosen:
    """Cases for each member, and what they are in words."""

    cases: list[list[int]]
    words: str
    kind: str
    notes: list[str] = field(default_factory=list)


def explain_model(
    target: Target, request: ExplainRequest, *, settings: "ExplainSettings", on_event: Callable[[str], None]
) -> dict[str, Any]:
    """Explain a model on cases that it was not trained on; see :func:`udt_cluster.evaluation.explain.explain`.

    Args:
        target: Where the model is registered and its data lie.
        request: Which model and cases.
        settings: What is drawn.
        on_event: Told what is going on.

    Returns:
        What explain.json holds, and `folder`, `page`, `run_id` and `run_url` (None for a model that is a folder).

    Raises:
        UsageError: there is no such model or data, or something lies in the folder already.
        DataError: there are no such cases, it cannot be told which were trained on, or the store does not fit.
        UnreachableError: storage or tracking do not answer.
    """
    from udt_cluster.data import DataStore
    from udt_cluster.evaluation.explain import PAGE_NAME, explain

    found = _find_model(target, request.model)
    output = request.output or Path(f"explain-{_as_file_name(found.name)}")
    store = DataStore.open(_data_of(target, found, request.data))
    chosen = _cases(store, found, request)
    count, total = sum(map(len, chosen.cases)), len(found.lineages)
    on_event(f"{found.name}: {chosen.words}, {count} to go" + (f" through {total} networks" if total > 1 else ""))
    report = explain(
        found.model,
        store,
        chosen.cases,
        output=output,
        settings=settings,
        about={"model": found.name, "data": f"{store.info.dataset}/{store.info.version}", "on": chosen.words},
        progress=_Progress(on_event),
        notes=chosen.notes,
    )
    url = _log(found, output, chosen.kind, report)
    return {
        **report,
        "folder": str(output),
        "page": str(output / PAGE_NAME),
        "run_id": found.run_id,
        "run_url": url,
    }


class _Progress:
    """Says every tenth of the way."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, done: int, total: int) -> None:
        """Told after each case."""
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            self._say(f"cases {done}/{total}")


def _find_model(target: Target, reference: str) -> _Found:
    from udt_cluster.evaluation import load_model

    if "://" in reference or Path(reference).is_dir():
        return _Found(load_model(reference), reference)
    from udt_cluster.tracking import Tracker, download, resolve

    place = local.ensure(target, need_ray=False) if target.is_local else target
    assert place.tracking is not None
    tracker = Tracker(place.tracking)
    version = resolve(reference, tracker=tracker)
    name = f"{version.name}/{version.version}"
    with tempfile.TemporaryDirectory(prefix="udt-model-") as scratch:
        model = load_model(download(name, Path(scratch), tracker=tracker))
    return _Found(model, name, tracker, version.run_id)


def _as_file_name(name: str) -> str:
    return "-".join(name.rstrip("/").replace("://", "/").split("/")[-2:])


def _data_of(target: Target, found: _Found, uri: str | None) -> Location:
    """The store that was asked for, or the one that the model was trained on."""
    if uri is not None:
        return find_data(target, uri)
    lineage = found.lineages[0]
    if not lineage.get("dataset") or not lineage.get("data_version"):
        raise UsageError(f"{found.name} does not say which data it was trained on; give --data STORE")
    name = f"{lineage['dataset']}/{lineage['data_version']}"
    location = storage_of(target) / "data" / name
    if read_commit(location) is None:
        raise DataError(
            f"{found.name} was trained on {name}, which is not at {location}; prepare it again by the same job, or "
            "give --data STORE (udt-cluster data ls shows them)"
        )
    return location


def _cases(store: "DataStore", found: _Found, request: ExplainRequest) -> _Chosen:
    """Cases that a member of the model was not trained on."""
    kind = TEST if request.test else VALIDATION
    known = [_held_out(store, lineage, kind) for lineage in found.lineages]
    notes = []
    if any(cases is None for cases in known):
        known, words = [_of_other_data(store, found, kind)] * len(known), f"{kind} cases"
        if kind == VALIDATION:
            words = "all cases but the test cases"
    else:
        folds = sorted({lineage["fold"] for lineage in found.lineages})
        of = f"fold {folds[0]}" if len(folds) == 1 else f"folds {', '.join(map(str, folds))}"
        words = "test cases" if kind == TEST else f"validation cases of {of}"
    cases = [sorted(own or ()) for own in known]
    if not all(cases):
        raise DataError(f"{store.location} has no {kind} cases for {found.name}; nothing to explain it on")
    if request.cases is not None and any(len(own) > request.cases for own in cases):
        cases = [_some(own, request.cases) for own in cases]
        notes.append(f"{request.cases} of the {words} were drawn at random")
    return _Chosen(cases, words, kind, notes)


def _some(cases: Sequence[int], number: int) -> list[int]:
    return sorted(random.Random(_SEED).sample(cases, min(number, len(cases))))


def _held_out(store: "DataStore", lineage: Lineage, kind: str) -> tuple[int, ...] | None:
    """The cases of a member's own splits; None where the store is of another data set.

    Raises:
        DataError: the store is of the model's data set, and its splits are not there.
    """
    from udt_cluster.data import load_splits
    from udt_cluster.data.splits import splits_location

    if lineage.get("dataset") != store.info.dataset or "splits" not in lineage:
        return None
    hashed = str(lineage["splits"]).removesuffix(".json").rpartition("-")[2]
    location = splits_location(store.location, hashed)
    if not location.exists():
        raise DataError(
            f"{store.location} is of the data set that the model was trained on, but without its splits {hashed}: "
            "which cases it was trained on cannot be told. Use the version of its training, or prepare this one with "
            "the same data.splits"
        )
    splits = load_splits(location, store.cases)
    return splits.test if kind == TEST else splits.folds[int(lineage["fold"])].validation


def _of_other_data(store: "DataStore", found: _Found, kind: str) -> tuple[int, ...]:
    """Of a data set that the model was not trained on, its test cases or all others."""
    if any(lineage.get("dataset") is None for lineage in found.lineages) and kind == VALIDATION:
        raise UsageError(
            f"{found.name} does not say what it was trained on: that may be all cases of {store.info.dataset} but its "
            "test cases. Explain it on those, with --test"
        )
    return tuple(case for case, split in enumerate(store.cases.splits) if (split == TEST) == (kind == TEST))


def _log(found: _Found, folder: Path, kind: str, report: Mapping[str, Any]) -> str | None:
    """The folder, and the mean drops as metrics, to the run that made the model."""
    if found.tracker is None or found.run_id is None:
        return None
    found.tracker.log_folder(found.run_id, folder, f"explain/{kind}")
    metrics = {
        f"explain_{kind}_{row['kind']}_{row['level']}": row["drop"]
        for row in report["effects"]
        if row["class"] == "mean" and row["cases"]
    }
    found.tracker.log_metrics(found.run_id, metrics)
    return found.tracker.run_url(found.run_id)
