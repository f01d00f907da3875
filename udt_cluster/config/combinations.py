"""Settings that are right one by one and cannot be meant together: refused before a cluster is asked for anything."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from udt_cluster.config.adapters import PATIENTS_UNKNOWN, class_count
from udt_cluster.config.data import DataConfig
from udt_cluster.config.problems import flow
from udt_cluster.config.sections import ModelConfig, RegisterConfig, RepeatConfig, ResourcesConfig, TrainConfig

_TRANSFORMER_SETTINGS = ("scales", "attention", "num_heads", "num_layers", "embed_dim", "mlp_ratio", "head_merge")


class Sections(Protocol):
    """The sections of a job that depend on one another."""

    @property
    def data(self) -> DataConfig:
        """The data set."""

    @property
    def model(self) -> ModelConfig:
        """The network."""

    @property
    def train(self) -> TrainConfig:
        """The recipe."""

    @property
    def repeat(self) -> RepeatConfig:
        """Folds and seeds."""

    @property
    def resources(self) -> ResourcesConfig:
        """Workers."""

    @property
    def register_(self) -> RegisterConfig:
        """The registry."""


def contradictions(job: Sections) -> list[str]:
    """Every contradiction between settings of different sections; each sentence begins with the field to change."""
    return [sentence for check in _CHECKS for sentence in check(job)]


def _folds_that_are_not_there(job: Sections) -> Iterator[str]:
    splits = job.data.splits
    count = splits.num_folds
    outside = [fold for fold in job.repeat.folds if count is not None and fold >= count]
    if count is None or not outside:
        return
    missing = f"fold{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}"
    verb = "do" if len(outside) > 1 else "does"
    there = f"k={count} folds are counted 0..{count - 1} (data.splits.k)"
    if count == 1:
        there = f"data.splits.scheme={splits.scheme} has one fold, 0"
    yield f"repeat.folds: {missing} {verb} not exist: {there}"


def _unknown_patients(job: Sections) -> Iterator[str]:
    if job.data.adapter in PATIENTS_UNKNOWN and job.data.group_by is None:
        yield f"data.group_by: {job.data.adapter} does not know the patients; write group_by: case"


def _classes_of_the_adapter(job: Sections) -> Iterator[str]:
    data = job.data
    count = class_count(data.adapter, data.labels)
    if count is None or data.classes is None or len(data.classes) == count:
        return
    noun = "class" if count == 1 else "classes"
    named = f"{len(data.classes)} {'is' if len(data.classes) == 1 else 'are'} named: {flow(data.classes)}"
    yield f"data.classes: data.adapter: {data.adapter} has {count} {noun}, {named}; name {count}, or remove it"


def _loss_of_the_classes(job: Sections) -> Iterator[str]:
    count = job.data.foreground_count
    if job.train.loss == "dice_bce" and count is not None and count > 1:
        who = "data.classes" if job.data.classes is not None else f"data.adapter: {job.data.adapter}"
        yield f"train.loss: dice_bce is for one foreground class, {who} has {count}; write dice_ce, or remove it"


def _masks_among_images(job: Sections) -> Iterator[str]:
    pairs = job.data.pairs
    same = pairs.images.strip("./") == pairs.masks.strip("./")
    if job.data.adapter == "image_folder" and same and not pairs.mask_suffix:
        yield "data.pairs.masks: the folder of the images; masks in it need a mask_suffix, for example _mask"


def _compiled_without_gpu(job: Sections) -> Iterator[str]:
    if job.train.compile and job.resources.gpus_per_worker == 0:
        yield "train.compile: needs a GPU, and resources.gpus_per_worker is 0; write compile: false"


def _transformer_that_is_not_there(job: Sections) -> Iterator[str]:
    model = job.model
    if model.architecture == "udtransnet":
        return
    for name in _TRANSFORMER_SETTINGS:
        default = type(model).model_fields[name].default
        if (value := getattr(model, name)) != default:
            remedy = f"remove it, or write {flow(default)}"
            yield f"model.{name}: {model.architecture} has no transformer to take {flow(value)}; {remedy}"


def _fraction_that_is_not_asked(job: Sections) -> Iterator[str]:
    splits = job.data.splits
    default = type(splits).model_fields["validation_fraction"].default
    if splits.validation_fraction != default and splits.scheme not in ("holdout", "official"):
        yield (
            f"data.splits.validation_fraction: for scheme: holdout or official; {splits.scheme} does not look at it: "
            "write scheme: holdout, or remove it"
        )


def worker_counts(job: Sections) -> tuple[int, ...]:
    """Numbers of workers within resources.workers that can share the global batch equally, ascending."""
    workers = job.resources.workers
    return sharing(job.train, range(workers.min, workers.max + 1))


def sharing(train: TrainConfig, counts: Iterable[int]) -> tuple[int, ...]:
    """Those numbers of workers that can share the global batch equally, with two samples or more for each."""
    batch, micro = train.global_batch_size, train.micro_batch_size
    return tuple(n for n in counts if not batch % (n * (micro or 1)) and batch >= n * (micro or 2))


def _batch_that_cannot_be_shared(job: Sections) -> Iterator[str]:
    if worker_counts(job):
        return
    batch, micro, workers = job.train.global_batch_size, job.train.micro_batch_size, job.resources.workers
    share, least = workers.min * (micro or 1), workers.min * (micro or 2)
    below, above = max(least, batch // share * share), max(least, -(-batch // share) * share)
    parts = f" in parts of train.micro_batch_size={micro}" if micro else ""
    allowed = f"{below} or {above}" if below < above else f"{above}"
    yield (
        f"{batch} samples (train.global_batch_size) cannot be shared by {workers} workers (resources.workers)"
        f"{parts}, 2 or more to each for batch normalisation; the nearest that can: {allowed}"
    )


def _elastic_zero(job: Sections) -> Iterator[str]:
    workers, stage = job.resources.workers, job.train.zero_stage
    if workers.is_range and stage:
        yield (
            f"resources.workers: {workers} needs train.zero_stage: 0, it is {stage}: checkpoints of stages 1..3 fit "
            f"one number of workers; write zero_stage: 0, or workers: {workers.max}"
        )


def _ensemble_of_one(job: Sections) -> Iterator[str]:
    runs = len(job.repeat.folds) * len(job.repeat.seeds)
    if job.register_.what == "ensemble" and runs == 1:
        yield (
            "register.what: an ensemble of one run; write single, or several repeat.seeds (or repeat.folds, where the "
            "splits have them)"
        )


_CHECKS: tuple[Callable[[Sections], Iterator[str]], ...] = (
    _folds_that_are_not_there,
    _unknown_patients,
    _classes_of_the_adapter,
    _loss_of_the_classes,
    _masks_among_images,
    _compiled_without_gpu,
    _transformer_that_is_not_there,
    _fraction_that_is_not_asked,
    _batch_that_cannot_be_shared,
    _elastic_zero,
    _ensemble_of_one,
)
