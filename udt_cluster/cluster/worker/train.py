"""What every rank of a training run does: build all that it needs from the plan, and fit, under watch.

The driver's side is :mod:`udt_cluster.cluster.driver.attempts`.
"""

import hashlib
import logging
import math
import random
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster import failures
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.signs import Sign, SignWriter, signs_folder
from udt_cluster.cluster.worker.failpoints import Failpoints
from udt_cluster.cluster.worker.signals import ControlReader, Interruption, announced_preemption
from udt_cluster.cluster.worker.watchdog import Watchdog
from udt_cluster.config.job import Job
from udt_cluster.errors import RefusedError
from udt_cluster.storage import Location

if TYPE_CHECKING:
    import torch
    from torch import nn

    from udt_cluster.cluster.worker.reporter import Tell
    from udt_cluster.cluster.worker.trace import TracedLoader
    from udt_cluster.data import DataStore, EvalLoader, Normalization, TrainLoader
    from udt_cluster.training import DeepSpeedEngine, StorageCheckpoints
    from udt_cluster.training.protocols import Batch

log = logging.getLogger("udt_cluster")


@dataclass(frozen=True)
class Place:
    """Which rank of how many this process is, and where."""

    rank: int
    world_size: int
    device: "torch.device"


def train_worker(settings: dict[str, Any]) -> None:
    """What each rank runs; its output and its signs of life go to the job's record from the first second."""
    import ray.train

    from udt_cluster.cluster.logship import ship_own_output

    plan = RunPlan(**settings)
    rank = ray.train.get_context().get_world_rank()
    logs = plan.record.logs / plan.run / f"a{plan.attempt}-r{rank}"
    with closing(ship_own_output(logs)), closing(SignWriter(_signs(plan), _first_sign(rank))) as signs:
        log_to_stdout(rank)
        _train(plan, signs)


def _signs(plan: RunPlan) -> Location:
    return signs_folder(plan.record.folder, plan.run, plan.attempt)


def _first_sign(rank: int) -> Sign:
    import ray

    return Sign(rank, node=ray.util.get_node_ip_address(), node_id=ray.get_runtime_context().get_node_id())


def _train(plan: RunPlan, signs: SignWriter) -> None:
    """One rank of several, of Ray Train's worker group."""
    import ray.train
    import ray.train.torch

    context, job = ray.train.get_context(), plan.job()
    here = Place(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    with closing(Watch(plan, job, signs, here, preemption=announced_preemption())) as watch:
        train_rank(plan, job, here, watch, to_ray_train(watch.has_begun))


def to_ray_train(has_begun: Callable[[], bool]) -> "Tell":
    """Tells Ray Train of the epochs of this attempt, once a step has been done.

    Each is a meeting of all ranks, of which Ray takes one a second, and those that come again at a resume are many.
    """
    import ray.train

    def tell(metrics: dict[str, float]) -> None:
        if has_begun():
            ray.train.report(metrics)

    return tell


def train_rank(plan: RunPlan, job: Job, here: Place, watch: "Watch", tell: "Tell", *, is_shown: bool = True) -> int:
    """Build everything that one rank of a run needs, and fit; the number of its trainable parameters.

    Args:
        plan: The run.
        job: What to train.
        here: This rank.
        watch: Over it.
        tell: Told of each epoch.
        is_shown: Whether this run's progress is the job's.
    """
    from udt_cluster.cluster.worker.reporter import JobReporter
    from udt_cluster.training import DeepSpeedEngine, fit

    log.info("rank %d of %d on %s, run %s, attempt %d", here.rank, here.world_size, here.device, plan.run, plan.attempt)
    with ExitStack() as stack:
        reporter = JobReporter(plan, job, leads=here.rank == 0, tell=tell, is_shown=is_shown)
        stack.enter_context(closing(reporter))
        data = _open_data(plan, job)
        checkpoints = stack.enter_context(closing(_checkpoints(plan, job, data, here)))
        checkpoints.check_resumable(zero_stage=job.train.zero_stage)
        engine = DeepSpeedEngine(_build(plan, job, data.store), job.train, device=here.device, seed=plan.seed)
        stack.enter_context(closing(engine))
        train, validation = _loaders(data, plan, job, engine)
        stack.enter_context(closing(train))
        fit(
            engine=engine,
            train=WatchedLoader(_traced(train, plan, here), watch.before_step),
            validation=validation,
            reporter=reporter,
            checkpoints=checkpoints,
            config=job.train,
            num_classes=data.store.info.num_classes,
            class_names=data.store.info.class_names,
            interrupt=watch.interrupt,
            beat=watch.beat,
        )
        watch.close()  # what follows is no step any more
        return sum(parameter.numel() for parameter in engine.module.parameters() if parameter.requires_grad)


def _traced(loader: "TrainLoader", plan: RunPlan, here: Place) -> "TrainLoader | TracedLoader":
    from udt_cluster.cluster.worker.trace import TracedLoader

    if not plan.trace:
        return loader
    folder = Location.parse(plan.trace)
    return TracedLoader(loader, folder, attempt=plan.attempt, rank=here.rank, world_size=here.world_size)


class Watch:
    """Signs of life, watchdog, reasons to stop and failpoints of one rank."""

    def __init__(
        self, plan: RunPlan, job: Job, signs: SignWriter, here: Place, *, preemption: Callable[[], Any]
    ) -> None:
        self._signs, self._begun = signs, False
        self._failpoints = Failpoints(plan.faults, rank=here.rank, attempt=plan.attempt)
        self._watchdog = Watchdog(job.retry.hang.total_seconds(), on_hang=self._tell_hang)
        follows = here.rank == 0 and job.resources.workers.is_range
        self._control = ControlReader(plan.record.folder, plan.run, plan.attempt) if follows else None
        self.interrupt = Interruption(preemption, self._control or str)

    def before_step(self, step: int, batches: "Sequence[Batch]") -> None:
        """Optimizer step number `step` (from 1) is about to be done."""
        self._begun = True
        self._signs.before_step(step)
        if self._failpoints:
            self._failpoints.before_step(step, batches)

    def has_begun(self) -> bool:
        """Whether a step was begun."""
        return self._begun

    def beat(self) -> None:
        """Something was done."""
        self._signs.beat()
        self._watchdog.beat()

    def close(self) -> None:
        """Let the rest take its time."""
        self._watchdog.close()
        if self._control is not None:
            self._control.close()

    def _tell_hang(self, seconds: float) -> None:
        words = f"made no step for {seconds:.0f} s and was ended; where it stood is in its log"
        self._signs.last_words(failures.HANG, words)


class WatchedLoader:
    """The training loader, and a call before each optimizer step."""

    def __init__(
        self, loader: "TrainLoader | TracedLoader", before_step: "Callable[[int, Sequence[Batch]], None]"
    ) -> None:
        self._loader, self._before_step = loader, before_step

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self._loader.steps_per_epoch

    @property
    def wait_seconds(self) -> float:
        """Seconds waited for data since the epoch began."""
        return self._loader.wait_seconds

    def epoch(self, epoch: int, *, start_step: int = 0) -> "Generator[Sequence[Batch], None, None]":
        """The loader's own batches."""
        first = epoch * self.steps_per_epoch + start_step + 1
        generator: Any = self._loader.epoch(epoch, start_step=start_step)
        with closing(generator) as steps:
            for step, batches in enumerate(steps, first):
                self._before_step(step, batches)
                yield batches


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
    train = share_of(fold.train, store.cases.groups, job.train.share, seed=job.data.splits.seed)
    train = train[: plan.train_cases or None]
    validation = fold.validation[: plan.validation_cases or None]
    return RunData(store, normalization_for(job.data, store.info), train, validation)


def share_of(cases: tuple[int, ...], groups: Sequence[str], share: float, *, seed: int) -> tuple[int, ...]:
    """The cases of a share of their groups, in their order.

    Args:
        cases: Rows of the case table.
        groups: Of every row.
        share: Above 0, up to 1: rounded up to whole groups. A smaller share is part of a larger one.
        seed: Of the order in which groups are taken.
    """
    if share == 1:
        return cases
    names = sorted({groups[case] for case in cases})
    random.Random(seed).shuffle(names)
    taken = set(names[: math.ceil(share * len(names))])
    return tuple(case for case in cases if groups[case] in taken)


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


def _checkpoints(plan: RunPlan, job: Job, data: RunData, here: Place) -> "StorageCheckpoints":
    from udt_cluster.training import StorageCheckpoints

    return StorageCheckpoints(
        plan.folder / "checkpoints",
        run_id=plan.run,
        attempt=plan.attempt,
        rank=here.rank,
        world_size=here.world_size,
        keep=job.train.keep,
        identity=identity_of(plan, job, data_version=data.store.info.version),
    )


def identity_of(plan: RunPlan, job: Job, *, data_version: str) -> dict[str, str]:
    """What must not change under a run that is resumed; a setting that a later version adds does not change it."""
    model = hashlib.sha256(job.model.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:12]
    splits = Location.parse(plan.splits).name.removesuffix(".json")
    return {"model": model, "data": data_version, "splits": splits, "fold": str(plan.fold), "seed": str(plan.seed)}


def log_to_stdout(rank: int) -> None:
    """Rank 0's lines, and the others' warnings, into the job's log."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    log.propagate = False
