"""The section `tune`: what a sweep searches, how, and for how long."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from udt_cluster.config.data import Seed
from udt_cluster.config.problems import flow
from udt_cluster.config.section import Section
from udt_cluster.config.sections import AtLeastOne, Count, SkipKind
from udt_cluster.config.units import Duration

KINDS = ("choice", "grid", "int", "uniform", "log", "subsets", "each")
_KIND_FIELDS = {kind: f"{kind}_" if kind == "int" else kind for kind in KINDS}
METRIC = re.compile(r"val_dice(_class_([1-9]\d*))?")
"""What training reports of the validation cases and a sweep may look at."""


class Subsets(Section):
    """What a skip that is there is, and one that is not."""

    present: SkipKind | None = None
    """Default: `dra_channel` for udtransnet, `identity` for its baselines."""
    absent: SkipKind = "none"
    """`none`: a narrower decoder; `zero` (baselines): all parameters kept."""


class Space(Section):
    """Values of one field: exactly one of `choice`, `grid`, `int`, `uniform`, `log`, `subsets`, `each`."""

    choice: Annotated[tuple[JsonValue, ...], Field(min_length=1)] | None = None
    """One of these values (`[1, 2, 4, 8]`)."""
    grid: Annotated[tuple[JsonValue, ...], Field(min_length=1)] | None = None
    """As `choice`, and every combination of the fields that are given so is tried."""
    int_: Annotated[tuple[int, int] | None, Field(alias="int")] = None
    """A whole number from the first to the last, both included (`[1, 8]`)."""
    uniform: tuple[float, float] | None = None
    """Any number from the first to the last."""
    log: tuple[float, float] | None = None
    """The same, each power of ten as likely as the other (`[1e-4, 1e-2]`)."""
    subsets: Literal[True] | Subsets | None = None
    """`model.skips`: each of the four levels has its skip or has not (`true`)."""
    each: Annotated[tuple[SkipKind, ...], Field(min_length=1)] | None = None
    """`model.skips`: each of the four levels has one of these kinds (`[none, identity, dra_channel]`)."""
    when: dict[str, JsonValue] = Field(default_factory=dict)
    """Only in trials where other searched fields have these values (`{model.architecture: udtransnet}`), or one of a
    list of them; else the job's own value is kept."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        found = [kind for kind in KINDS if getattr(self, _KIND_FIELDS[kind]) is not None]
        if len(found) != 1:
            got = f"has {' and '.join(found)}" if found else "has none"
            raise ValueError(f"a space is exactly one of {', '.join(KINDS)}; this one {got}")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.is_range:
            low, high = self.bounds
            if not low < high:
                raise ValueError(f"{self.kind}: {flow([low, high])}: the lowest value comes first, and they differ")
            if self.log is not None and low <= 0:
                raise ValueError(f"log: {flow([low, high])}: both ends must be above 0; write uniform")
        for name in ("choice", "grid", "each"):
            values: tuple[Any, ...] = getattr(self, name) or ()
            if any(value in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"{name}: the same value twice")
        return self

    @property
    def kind(self) -> str:
        """Which one it is."""
        return next(kind for kind in KINDS if getattr(self, _KIND_FIELDS[kind]) is not None)

    @property
    def is_range(self) -> bool:
        """Whether it has a lowest and a highest value."""
        return self.kind in ("int", "uniform", "log")

    @property
    def is_continuous(self) -> bool:
        """Whether its values cannot be counted."""
        return self.kind in ("uniform", "log")

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        found = getattr(self, _KIND_FIELDS[self.kind])
        assert self.is_range, self.kind
        return found[0], found[1]

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of a list."""
        return self.choice or self.grid or ()


class BudgetConfig(Section):
    """What a sweep may spend; it ends with whatever is used up first."""

    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """So many configurations are tried."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of a whole GPU, over all trials."""
    time: Duration | None = None
    """From the start of the sweep (`8h`)."""

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self.trials is None and self.gpu_hours is None and self.time is None


class TuneConfig(Section):
    """A sweep: settings are tried on the validation cases of the folds; test cases are never looked at."""

    search: Annotated[dict[str, Space], Field(min_length=1)]
    """Fields and the values to try, `model.num_heads: {choice: [1, 2, 4, 8]}`."""
    constraints: tuple[str, ...] = ()
    """Comparisons that every trial must meet, of fields, `parameters` and `gmac` (`parameters <= 40e6`,
    `model.embed_dim >= 16 * model.num_heads`). What cannot be built is left out without being said."""
    searcher: Literal["tpe", "random", "grid"] = "tpe"
    """`tpe`: near what was good so far (Optuna). `random`. `grid`: every combination."""
    scheduler: Literal["asha", "median", "fifo"] = "asha"
    """`asha`: at every rung only the best third goes on. `median`: who is below the median of the others stops.
    `fifo`: every trial is trained to its end."""
    min_epochs: AtLeastOne | None = None
    """Epochs of the first rung; the next are `reduction` times as many. Default: a 27th of train.epochs, at least 1."""
    reduction: Annotated[int, Field(ge=2, le=16)] = 3
    """One in so many goes on from a rung of `asha`."""
    budget: BudgetConfig = BudgetConfig()
    """What it may spend."""
    metric: str = "val_dice"
    """What trials are compared by, larger is better: `val_dice`, or `val_dice_class_1` for one class."""
    folds: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Folds that each trial is trained on, one after the other; each is a rung. Default: repeat.folds."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    """Seeds of each trial. Default: the first of repeat.seeds."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Trials at a time. Default: as many as the cluster has room for; each has one worker."""
    seed: Seed = 1
    """Of the order in which configurations are proposed."""

    @field_validator("metric")
    @classmethod
    def _reported(cls, metric: str) -> str:
        if not METRIC.fullmatch(metric):
            raise ValueError(
                "is never reported by training; larger-is-better metrics of the validation cases are val_dice and "
                "val_dice_class_1, val_dice_class_2, ..."
            )
        return metric

    @field_validator("folds", "seeds")
    @classmethod
    def _unique(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError("the same number twice")
        return values
