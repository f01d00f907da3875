"""One training run on Ray Train: the worker that every rank runs, and the trainer around it.

Ray places the workers, restarts them after a failure and shows them in its dashboard. Checkpoints are our own
(:mod:`udt_cluster.training.checkpoint`): Ray resumes by name, and loses what `report` had accepted a moment before.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.record import JobRecord, now
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, RefusedError
from udt_cluster.storage import Location

if TYPE_CHECKING:
    import torch
    from torch import nn

    from udt_cluster.data import DataStore, EvalLoader, Normalization, TrainLoader
    from udt_cluster.tracking import MetricLog
    from udt_cluster.training import DeepSpeedEngine, StorageCheckpoints

PATIENCE_SECONDS = 600.0
"""How long a job that has hours of training behind it waits for an MLflow server that is away."""

log = logging.getLogger("udt_cluster")


@dataclass(frozen=True)
class RunPlan:
    """Everything that the worker of one run needs, as plain values that any process can read."""

    storage: str
    job_id: str
    run: str
    fold: int
    seed: int
    number: int
    """Which of the job's runs this is, counted from 1."""
    total: int
    store: str
    splits: str
    tracking: str
    run_id: str

    @property
    def record(self) -> JobRecord:
        """The job's record."""
        return JobRecord(Location.parse(self.storage), self.job_id)

    @property
    def folder(self) -> Location:
        """Checkpoints, scores and model of the run."""
        return self.record.runs / self.run


def fit_on_ray(plan: RunPlan, job: Job, *, gpus_per_worker: int) -> dict[str, Any]:
    """Train one run to its end.

    Returns:
        `epochs` done, `best_epoch`, `best_val_dice`.

    Raises:
        JobFailedError: the run failed for good; the message is the worker's own error.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    resources = {"CPU": job.resources.cpus_per_worker, **({"GPU": 1} if gpus_per_worker else {})}
    scratch = scratch_folder()
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=asdict(plan),
        scaling_config=ScalingConfig(
            num_workers=job.resources.workers.max, use_gpu=bool(gpus_per_worker), resources_per_worker=resources
        ),
        run_config=RunConfig(
            # A name that was never used: Ray would resume whatever lies there.
            name=f"{plan.run}-{time.time_ns()}",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=job.retry.max),
        ),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus_per_worker else "gloo"),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise JobFailedError(f"run {plan.run} failed: {_cause(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _outcome(plan)


def _outcome(plan: RunPlan) -> dict[str, Any]:
    """Epochs and the best of them, from the checkpoint that is kept as the best."""
    from udt_cluster.training import StorageCheckpoints

    root = plan.folder / "checkpoints"
    kept = StorageCheckpoints(root, run_id=plan.run, attempt=0, rank=0, world_size=1, keep=0)
    newest, best = kept.latest(), kept.best().info
    epochs = newest.info.epoch if newest else best.epoch
    val_dice = None if best.val_dice != best.val_dice else best.val_dice
    return {"epochs": epochs, "best_epoch": best.epoch, "best_val_dice": val_dice}


def _cause(error: Exception) -> str:
    """The last line of the first worker's traceback: what a person would look for."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", None) or {}
    first = next(iter(failures.values()), error)
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return lines[-1] if lines else repr(first)


def train_worker(settings: dict[str, Any]) -> None:
    """What each rank runs: build everything from the plan, and fit."""
    import ray.train
    import ray.train.torch

    from udt_cluster.training import DeepSpeedEngine, fit

    plan = RunPlan(**settings)
    job = plan.record.job()
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    _log_to_stdout(rank)
    device = ray.train.torch.get_device()
    log.info("rank %d of %d on %s, run %s", rank, world_size, device, plan.run)
    reporter = RayReporter(plan, job, _metric_log(plan) if rank == 0 else None)
    data = _open_data(plan, job)
    checkpoints = _checkpoints(plan, job, rank=rank, world_size=world_size)
    checkpoints.check_resumable(zero_stage=job.train.zero_stage)
    engine = DeepSpeedEngine(_build(plan, job, data.store), job.train, device=device, seed=plan.seed)
    train, validation = _loaders(data, plan, job, engine)
    try:
        fit(
            engine=engine,
            train=train,
            validation=validation,
            reporter=reporter,
            checkpoints=checkpoints,
            config=job.train,
            num_classes=data.store.info.num_classes,
            class_names=data.store.info.class_names,
        )
    finally:
        train.close()
        reporter.close()


@dataclass(frozen=True)
class RunData:
    """The store and what of it this run trains and validates on."""

    store: "DataStore"
    normalization: "Normalization"
    train: tuple[int, ...]
    validation: tuple[int, ...]


def _open_data(plan: RunPlan, job: Job) -> RunData:
    from udt_cluster.data import DataStore, load_splits, normalization_for

    store = DataStore.open(Location.parse(plan.store))
    fold = load_splits(Location.parse(plan.splits), store.cases).folds[plan.fold]
    return RunData(store, normalization_for(job.data, store.info), fold.train, fold.validation)


def _build(plan: RunPlan, job: Job, store: "DataStore") -> "nn.Module":
    import torch

    from udt_cluster.models import build_model, output_channels

    torch.manual_seed(plan.seed)
    model: nn.Module = build_model(
        job.model,
        in_channels=store.info.channels * job.data.channels_per_image,
        num_classes=output_channels(store.info.num_classes),
    )
    if job.train.init_from:
        _initialize(model, job.train.init_from)
    return model


def _initialize(model: "nn.Module", source: str) -> None:
    """Start from a registered model's weights.

    Raises:
        RefusedError: the networks differ; the first differing names are listed.
    """
    from udt_cluster.evaluation import load_model

    weights = load_model(source).networks[0].state_dict()
    own = model.state_dict()
    shapes = {name: (_shape(weights.get(name)), _shape(own.get(name))) for name in sorted(own.keys() | weights.keys())}
    wrong = [f"{name}: {there} there, {here} here" for name, (there, here) in shapes.items() if there != here]
    if wrong:
        raise RefusedError(f"train.init_from {source} is another network than model: ({len(wrong)} differ)", wrong[:8])
    model.load_state_dict(weights)


def _shape(tensor: "torch.Tensor | None") -> tuple[int, ...] | str:
    return "absent" if tensor is None else tuple(tensor.shape)


def _loaders(data: RunData, plan: RunPlan, job: Job, engine: "DeepSpeedEngine") -> tuple["TrainLoader", "EvalLoader"]:
    from udt_cluster.data import EvalLoader, TrainLoader

    ranks: dict[str, Any] = {"rank": engine.rank, "world_size": engine.world_size, "device": engine.device}
    train = TrainLoader(
        data.store,
        data.train,
        normalization=data.normalization,
        global_batch_size=job.train.global_batch_size,
        micro_batch_size=engine.plan.micro_size,
        seed=plan.seed,
        augment=job.train.augment,
        empty_slices=job.data.empty_slices,
        context_slices=job.data.context_slices,
        cache_bytes=job.data.cache,
        threads=max(2, job.resources.cpus_per_worker),
        **ranks,
    )
    validation = EvalLoader(
        data.store,
        data.validation,
        normalization=data.normalization,
        batch_size=job.evaluate.batch_size,
        context_slices=job.data.context_slices,
        cache=train.cache,
        **ranks,
    )
    return train, validation


def _checkpoints(plan: RunPlan, job: Job, *, rank: int, world_size: int) -> "StorageCheckpoints":
    """The run's checkpoints; rank 0 says which attempt this is."""
    from ray.train.collective import broadcast_from_rank_zero

    from udt_cluster.training import StorageCheckpoints

    root = plan.folder / "checkpoints"
    attempt = broadcast_from_rank_zero(StorageCheckpoints.next_attempt(root) if rank == 0 else 0)
    return StorageCheckpoints(
        root, run_id=plan.run, attempt=attempt, rank=rank, world_size=world_size, keep=job.train.keep
    )


def _metric_log(plan: RunPlan) -> "MetricLog":
    from udt_cluster.config.home import udt_home
    from udt_cluster.tracking import MetricLog

    return MetricLog(plan.tracking, plan.run_id, udt_home() / "spool" / plan.run)


def _log_to_stdout(rank: int) -> None:
    """Rank 0's lines, and the others' warnings, into the job's log."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    log.propagate = False


class RayReporter:
    """Sends metrics to Ray (every rank), and from rank 0 to MLflow and the job's record."""

    def __init__(self, plan: RunPlan, job: Job, metric_log: "MetricLog | None") -> None:
        self._plan = plan
        self._epochs = job.train.epochs
        self._log = metric_log
        self._started = time.time()
        told = plan.record.progress() if metric_log is not None else {}
        self._told = int(told["epoch"]) if told.get("run") == plan.run else 0

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a finished epoch; epochs that come again after a resume reach MLflow once."""
        import ray.train

        if self._log is not None:
            self._log.log(epoch, dict(metrics))
            if epoch > self._told:
                self._tell(epoch, step, metrics)
        ray.train.report({**metrics, "epoch": epoch, "step": step})

    def _tell(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        val_dice, seconds = metrics.get("val_dice", float("nan")), metrics.get("epoch_seconds", 0.0)
        log.info(
            "epoch %d/%d step %d train_loss %.4f val_dice %.4f %.1f s",
            *(epoch, self._epochs, step, metrics.get("train_loss", float("nan")), val_dice, seconds),
        )
        progress = {
            "run": self._plan.run,
            "run_number": self._plan.number,
            "runs": self._plan.total,
            "fold": self._plan.fold,
            "seed": self._plan.seed,
            "epoch": epoch,
            "epochs": self._epochs,
            "step": step,
            "val_dice": None if val_dice != val_dice else val_dice,
            "eta_seconds": (self._epochs - epoch) * seconds
            + (self._plan.total - self._plan.number) * self._epochs * seconds,
            "epoch_seconds": seconds,
            "started": self._started,
            "at": now(),
        }
        self._plan.record.write_progress(progress)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """A picture of validation predictions."""
        if self._log is not None:
            self._log.picture(name, png, step)

    def close(self) -> None:
        """Give the spool a moment to empty."""
        if self._log is not None:
            left = self._log.close(60.0)
            if left:
                log.warning("%d metrics could not be sent to MLflow; they are kept in %s", left, self._plan.run)


def scratch_folder() -> Path:
    """A folder of this process for files on their way to storage."""
    return Path(tempfile.mkdtemp(prefix=f"udt-{os.getpid()}-"))
