"""The sections of a job beside `data`: the network, the recipe, and what is run, scored and registered."""

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from udt_cluster.config.data import Seed
from udt_cluster.config.paths import path_fault
from udt_cluster.config.problems import flow
from udt_cluster.config.section import Name, Section
from udt_cluster.config.units import Duration

SkipKind = Literal["none", "identity", "zero", "dat", "dra_channel", "dra_spatial"]
Scale = Literal[1, 2, 3, 4]
Attention = Literal["cfa", "ssa"]
Metric = Literal["dice", "iou", "hd95"]

Count = Annotated[int, Field(ge=0, le=1_000_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=1_000_000)]
MOST_WORKERS = 1024
WorkerCount = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
_WEIGHTS_FILE = re.compile(r"/|\.\w+$")
_REGISTERED = re.compile(r"(models:/)?[^/@:\s]+(@[^/@:\s]+|/\d+)")
RESERVED_ALIAS = re.compile(r"latest|v\d+")
_OF_TOKENS = {"dat", "dra_channel", "dra_spatial"}
_NO_WEIGHTS, _SOME_WEIGHTS = {"none", "null", "false", "no", "off", ""}, {"imagenet", "true", "yes", "on", "resnet34"}


class ModelConfig(Section):
    """The network."""

    architecture: Literal["udtransnet", "unet", "r34_unet"] = "udtransnet"
    """`udtransnet` (arXiv 2312.15182), or one of its baselines."""
    skips: Annotated[tuple[SkipKind, ...], Field(min_length=4, max_length=4)] | None = None
    """One kind per level, level 1 (full resolution) first. `none`: no skip, a narrower decoder. `identity`: the
    encoder's feature. `zero` (baselines): zeros in its place, all parameters kept. The transformer's tokens: `dat` (as
    they are), `dra_channel`, `dra_spatial` (recalibrated by the decoder, between channels or between places).
    Default: `identity` for the baselines; for udtransnet `dra_channel` at each of `scales`, `none` elsewhere."""
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1, 2, 3, 4)
    """Levels whose features are tokens of the Dual Attention Transformer, read by a skip or not."""
    attention: Annotated[tuple[Attention, ...], Field(json_schema_extra={"minItems": 1})] = ("cfa", "ssa")
    """Attentions of each layer, in the order in which they run: `[cfa]` (channels, of all scales), `[ssa]` (places),
    `[cfa, ssa]`, as published, or `[ssa, cfa]`. The second takes its keys and values from the first."""
    num_heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Heads of `ssa`; must divide `embed_dim`."""
    num_layers: Annotated[int, Field(ge=1, le=48)] = 4
    """Layers of the Dual Attention Transformer."""
    embed_dim: Annotated[int, Field(ge=8, le=2048)] = 128
    """Token width of each scale."""
    mlp_ratio: Annotated[int, Field(ge=1, le=16)] = 2
    """Hidden width of the transformer's MLPs, in `embed_dim`."""
    head_merge: Literal["standard", "released"] = "standard"
    """How scales 2..4 put attention heads together; `released` is what the authors' weights were trained with."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of attention and MLP."""
    pretrained: str = "none"
    """`none`, `imagenet` (ResNet34 weights from torch's hub), or the path of a file with torchvision's names."""

    @field_validator("pretrained", mode="before")
    @classmethod
    def _weights_named(cls, value: object) -> object:
        if isinstance(value, str) and (value in ("none", "imagenet") or _WEIGHTS_FILE.search(value)):
            if fault := path_fault(value):
                raise ValueError(fault)
            return value
        word = str(value).strip().lower()
        likely = "none" if word in _NO_WEIGHTS else "imagenet" if word in _SOME_WEIGHTS else None
        hint = f"; did you mean {likely}?" if likely else ""
        raise ValueError(f"must be none, imagenet or the path of a file (with a / or an extension such as .pth){hint}")

    @field_validator("scales")
    @classmethod
    def _scales_once(cls, scales: tuple[Scale, ...]) -> tuple[Scale, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError("the same scale twice")
        return tuple(sorted(scales))

    @field_validator("attention")
    @classmethod
    def _attentions_once(cls, attention: tuple[Attention, ...]) -> tuple[Attention, ...]:
        if not attention:
            raise ValueError(
                "a transformer needs cfa or ssa: nothing else exchanges information between tokens; "
                "for no transformer at all set skips, of identity and none"
            )
        if len(set(attention)) < len(attention):
            raise ValueError("the same attention twice; for more of both set num_layers")
        return attention

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.embed_dim % self.num_heads:
            divisors = [n for n in range(1, min(self.embed_dim, 64) + 1) if self.embed_dim % n == 0]
            raise ValueError(
                f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}; allowed heads: {divisors}"
            )
        if self.architecture == "unet" and self.pretrained != "none":
            raise ValueError(
                f"pretrained: unet has no ResNet34 encoder to load {self.pretrained!r} into; "
                "use none, or another architecture (udtransnet, r34_unet)"
            )
        return self

    @model_validator(mode="after")
    def _skips_that_can_be(self) -> Self:
        kinds = set(self.skip_kinds)
        if self.architecture != "udtransnet" and kinds & _OF_TOKENS:
            raise ValueError(f"skips: {self.architecture} has no transformer; allowed kinds: identity, none, zero")
        if self.architecture == "udtransnet" and "zero" in kinds:
            raise ValueError("skips: zero is a control for unet and r34_unet; write none, which udtransnet has, too")
        for level, kind in enumerate(self.skip_kinds, start=1):
            if kind in _OF_TOKENS and level not in self.scales:
                raise ValueError(
                    f"skips: {kind} of level {level} reads the tokens of scale {level}, which is not one of "
                    f"scales={flow(self.scales)}; write identity or none there, or add {level} to scales"
                )
        return self

    @property
    def skip_kinds(self) -> tuple[SkipKind, ...]:
        """The kind of each of the four levels, the default filled in."""
        if self.skips is not None:
            return self.skips
        if self.architecture != "udtransnet":
            return ("identity",) * 4
        return tuple("dra_channel" if level in self.scales else "none" for level in (1, 2, 3, 4))

    @property
    def has_transformer(self) -> bool:
        """Whether a skip reads tokens; else the settings of the transformer do nothing."""
        return bool(set(self.skip_kinds) & _OF_TOKENS)

    @property
    def summary(self) -> str:
        """The network in one line: its skips, and its transformer where it has one."""
        skips = f"{self.architecture}, skips {', '.join(self.skip_kinds)}"
        if not self.has_transformer:
            return skips
        sizes = f"{self.num_heads} heads, {self.num_layers} layers, width {self.embed_dim}"
        return f"{skips}; {' then '.join(self.attention)} of scales {flow(self.scales)}, {sizes}"


class TrainConfig(Section):
    """The recipe. Defaults are the released code's, minus its faults."""

    epochs: AtLeastOne = 100
    """At most so many passes over the training cases."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training patients that is used, at least one; a smaller share is part of a larger one."""
    global_batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 4
    """Samples per optimizer step over all workers; it stays when the number of workers changes."""
    micro_batch_size: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Samples per forward pass of one worker, 2 at least; the rest is gradient accumulation. Default: none of it."""
    lr: Annotated[float, Field(gt=0, le=10)] = 1e-3
    """Learning rate at the start of a cycle."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """`adam` without weight decay, or `adamw`."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of `adamw`."""
    loss: Literal["dice_bce", "dice_ce", "ce"] | None = None
    """Default: `dice_bce` for one foreground class, `dice_ce` for several."""
    schedule: Literal["warm_restarts", "cosine", "constant"] = "warm_restarts"
    """`warm_restarts`: cosine, T_0 = 2 epochs, T_mult = 2, as released. `cosine`: once over all epochs."""
    early_stopping: AtLeastOne | None = 40
    """Stop after so many epochs without a better validation Dice; null: never."""
    gradient_clipping: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of the gradient; 0: off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on a GPU, fp32 on a CPU."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 0
    """DeepSpeed ZeRO stage. 0 is plain data parallelism, and the fastest for models of this size."""
    compile: bool = False
    """Compile the network with torch.compile (GPU only)."""
    augment: Literal["released", "strong", "none"] = "released"
    """`released`: half of the samples rot90 + flip, a quarter rotated by -20..19 degrees. `strong`: also elastic
    deformation, intensity, gamma, blur, noise, and stain for colour pictures."""
    checkpoint_every: Duration | Literal["epoch"] = "epoch"
    """`epoch`, or by time (`10m`), in the middle of an epoch too; the best and the last epoch are always saved."""
    keep: Count = 0
    """Checkpoints kept beside the last and the best."""
    init_from: str | None = None
    """Fine-tune a registered model: `name@alias`, `models:/name/3`, or the URI of a model folder."""
    picture_every: Count = 5
    """Log a picture of validation predictions every so many epochs; 0: never."""

    @field_validator("init_from")
    @classmethod
    def _model_named(cls, source: str | None) -> str | None:
        if source is None or _REGISTERED.fullmatch(source):
            return source
        if fault := path_fault(source):
            raise ValueError(fault)
        if not source.startswith(("/", "./", "../", "~/", "s3://", "file://")):
            raise ValueError(
                "must be name@alias, models:/name/3, or a model folder: ./folder, /folder, s3://bucket/folder"
            )
        return source

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.micro_batch_size is not None and self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size={self.micro_batch_size} does not divide global_batch_size={self.global_batch_size}"
            )
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError(
                f"weight_decay={self.weight_decay} with adam, which takes none; use optimizer: adamw or weight_decay: 0"
            )
        return self


class RepeatConfig(Section):
    """Which folds and seeds are trained; every pair is a run of its own under one parent run."""

    folds: Annotated[tuple[Count, ...], Field(min_length=1)] = (0,)
    """Folds, counted from 0. `[0, 1, 2, 3, 4]` is a 5-fold cross-validation."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    """Seeds of weights, order and augmentation."""

    @field_validator("folds", "seeds")
    @classmethod
    def _unique(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) != len(values):
            raise ValueError("the same number twice")
        return values


class WorkersConfig(Section):
    """How many workers: one number, or as many as fit between two."""

    min: WorkerCount
    """Fewer are not started; a run that lost nodes waits until there are so many again."""
    max: WorkerCount
    """More are not used."""

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: object) -> object:
        if isinstance(value, dict | cls):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS:
            return {"min": value, "max": value}
        raise ValueError(f"must be a number of workers from 1 to {MOST_WORKERS}, or {{min: 1, max: 8}}")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min={self.min} is more than max={self.max}")
        return self

    @model_serializer
    def _short(self) -> int | dict[str, int]:
        return self.max if self.min == self.max else {"min": self.min, "max": self.max}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A number in the schema for editors, too."""
        number = {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}
        ends = {"min": number, "max": number}
        span = {"type": "object", "properties": ends, "required": [*ends], "additionalProperties": False}
        return {"anyOf": [number, span]}

    @property
    def is_range(self) -> bool:
        """Whether the number may change while the job runs."""
        return self.min < self.max

    def __str__(self) -> str:
        return f"{self.min} to {self.max}" if self.is_range else str(self.max)


class ResourcesConfig(Section):
    """What one training run takes of the cluster."""

    workers: WorkersConfig = WorkersConfig(min=1, max=1)
    """Data-parallel workers: a number, or {min, max} to go on with fewer when nodes are lost and with more when they
    come (train.zero_stage 0 only)."""
    gpus_per_worker: Literal["auto", 0, 1] = "auto"
    """`auto`: 1 where the cluster has a GPU for each worker, else 0."""
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU cores (threads) of each worker."""


class RetryConfig(Section):
    """What happens when something dies under a run. Lost and preempted nodes are always retried."""

    max: Count = 3
    """How often a run goes on from its last checkpoint after a worker crashed, hung or ran out of memory; the count
    starts anew with every checkpoint."""
    hang: Duration = timedelta(minutes=10)
    """A run that makes no step for so long is ended and retried."""


class EvaluateConfig(Section):
    """How a trained model is scored: at native resolution, per case, on the cases that its fold held out."""

    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = ("dice", "iou", "hd95")
    """What is computed per case and class."""
    worst: Annotated[int, Field(ge=0, le=100)] = 5
    """Overlays of so many worst, and as many best, cases."""
    test: bool = False
    """Also score the data set's own test cases. Say it once, at the end of a study."""
    batch_size: AtLeastOne = 8
    """Samples per forward pass."""


class RegisterConfig(Section):
    """What goes into the model registry."""

    model: Name | None = None
    """Name of the registered model. Default: the job's name."""
    what: Literal["single", "ensemble"] = "single"
    """`single`: the run with the best validation Dice. `ensemble`: the mean of the probabilities of all runs."""
    alias: Name = "candidate"
    """Alias that is moved to the new version."""

    @field_validator("alias")
    @classmethod
    def _alias_is_free(cls, alias: str) -> str:
        if RESERVED_ALIAS.fullmatch(alias):
            raise ValueError("the registry keeps latest, v1, v2, ... for itself; for example candidate or champion")
        return alias
