"""Tasks of the last two stages, run on a node of the cluster: score a run's best checkpoint, register models."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.plan import PATIENCE_SECONDS, RunPlan, scratch_folder
from udt_cluster.config.job import Job
from udt_cluster.storage import Location, upload_folder

if TYPE_CHECKING:
    from udt_cluster.data import DataStore
    from udt_cluster.evaluation import SegmentationModel


def score_run(plan: RunPlan, job_json: str) -> dict[str, Any]:
    """Score the best checkpoint; tables and overlays go to storage and to the run in MLflow.

    Returns:
        The summary of each split that was scored, by `validation` and `test`.
    """
    from udt_cluster.data import DataStore, load_splits
    from udt_cluster.evaluation import score
    from udt_cluster.tracking import Tracker

    job = Job.from_json(job_json)
    store = DataStore.open(Location.parse(plan.store))
    splits = load_splits(Location.parse(plan.splits), store.cases)
    work, tracker = scratch_folder(), Tracker(plan.tracking, patience=PATIENCE_SECONDS)
    model = _model(plan, job, store, work / "model")
    kinds = {"validation": splits.folds[plan.fold].validation, **({"test": splits.test} if job.evaluate.test else {})}
    summaries = {}
    for kind, cases in kinds.items():
        summary = score(model, store, cases, config=job.evaluate, output=work / kind)
        summaries[kind] = summary.to_dict()
        upload_folder(work / kind, plan.folder / "scores" / kind)
        tracker.log_folder(plan.run_id, work / kind, f"scores/{kind}")
        metrics = {name: value for name, value in summaries[kind]["mean"].items() if value is not None}
        tracker.log_metrics(plan.run_id, {f"{kind}_{name}": value for name, value in metrics.items()})
    shutil.rmtree(work)
    return summaries


def _model(plan: RunPlan, job: Job, store: "DataStore", folder: Path) -> "SegmentationModel":
    """The run's best checkpoint as a model folder, in storage too."""
    from udt_cluster.data import normalization_for
    from udt_cluster.evaluation import ModelSpec, SegmentationModel
    from udt_cluster.training import CheckpointCatalog

    info = store.info
    spec = ModelSpec.for_store(
        job.model,
        info,
        normalization=normalization_for(job.data, info),
        lineage={
            **{"job": plan.job_id, "run": plan.run, "fold": plan.fold, "seed": plan.seed, "mlflow_run": plan.run_id},
            **{"dataset": info.dataset, "data_version": info.version, "splits": Location.parse(plan.splits).name},
        },
    )
    weights = folder.with_name("weights.safetensors")
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(CheckpointCatalog(plan.folder / "checkpoints", plan.run).best().weights())
    model = SegmentationModel.from_weights(spec, [weights])
    model.save_folder(folder)
    upload_folder(folder, plan.folder / "model")
    return model


def register_runs(
    plans: list[RunPlan], job_json: str, tags: dict[str, str], scores: dict[str, dict[str, Any]], run_id: str
) -> dict[str, Any]:
    """Make one model version of one run, or of several as an ensemble.

    Returns:
        `name`, `version`, `alias`, `uri`.
    """
    import numpy as np

    from udt_cluster.evaluation import SegmentationModel, exported_program
    from udt_cluster.tracking import Tracker, register_model

    job, work = Job.from_json(job_json), scratch_folder()
    for plan in plans:
        _download(plan.folder / "model", work / plan.run)
    model = SegmentationModel.from_folders([work / plan.run for plan in plans])
    model.save_folder(work / "udt")
    summaries = [scores[plan.run]["validation"] for plan in plans]
    metrics = _mean_metrics(summaries)
    baseline = [summary["baseline"] for summary in summaries]
    version = register_model(
        Tracker(plans[0].tracking, patience=PATIENCE_SECONDS),
        name=job.model_name,
        run_id=plans[0].run_id if len(plans) == 1 else run_id,
        folder=work / "udt",
        program=exported_program(model),
        example=np.zeros((2, *model.spec.size, model.spec.image_channels), np.float32),
        tags={**tags, "baseline": json.dumps(baseline, sort_keys=True)},
        metrics=metrics,
        alias=job.register_.alias,
    )
    shutil.rmtree(work)
    alias = job.register_.alias
    uri = f"models:/{version.name}@{alias}"
    return {"name": version.name, "version": version.version, "alias": alias, "uri": uri, "metrics": metrics}


def _mean_metrics(summaries: list[dict[str, Any]]) -> dict[str, float]:
    names = sorted({name for summary in summaries for name in summary["mean"]})
    found = {name: [s["mean"][name] for s in summaries if s["mean"].get(name) is not None] for name in names}
    return {f"val_{name}": sum(values) / len(values) for name, values in found.items() if values}


def _download(source: Location, folder: Path) -> None:
    for entry in source.entries():
        path = folder / entry.key
        path.parent.mkdir(parents=True, exist_ok=True)
        (source / entry.key).download(path)
