"""Where a run stands: what a checkpoint must remember beside the tensors."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from udt_cluster.errors import VersionError

STATE_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """The metrics of one epoch. ``epoch`` counts from 1, ``step`` is the optimizer steps done by its end."""

    epoch: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far and its ``val_dice`` (0..1; NaN when no case has a defined Dice)."""

    epoch: int
    val_dice: float


@dataclass(frozen=True, kw_only=True)
class PartialEpoch:
    """What an epoch has come to by the step at which it was cut.

    Attributes:
        sums: Each training loss, summed over the epoch's steps so far.
        seconds: Time that these steps took.
    """

    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Position of a run: at the end of an epoch, or at a step within one.

    Attributes:
        epoch: Finished epochs.
        step: Optimizer steps done.
        partial: Of the epoch that is not finished; None between two epochs. When all steps of the epoch are done and
            it is still there, the validation is what is left to do.
        best: The epoch that is selected so far.
        epochs_without_improvement: Epochs since then.
        history: One record per finished epoch, so that a resumed run can report again what was lost on the way.
    """

    epoch: int = 0
    step: int = 0
    best: Best | None = None
    epochs_without_improvement: int = 0
    history: tuple[EpochRecord, ...] = field(default=())
    partial: PartialEpoch | None = None

    @property
    def is_best(self) -> bool:
        """Whether an epoch has just ended, and is the best one."""
        return self.partial is None and self.best is not None and self.best.epoch == self.epoch

    def within_epoch(self, *, step: int, sums: Mapping[str, float], seconds: float) -> Self:
        """The state at a step of the epoch that is not finished."""
        return replace(self, step=step, partial=PartialEpoch(sums=dict(sums), seconds=seconds))

    def after_epoch(self, *, step: int, metrics: Mapping[str, float]) -> Self:
        """The state one epoch later; ``metrics`` must hold ``val_dice``."""
        epoch, val_dice = self.epoch + 1, metrics["val_dice"]
        better = _is_better(val_dice, self.best)
        return type(self)(
            epoch=epoch,
            step=step,
            best=Best(epoch=epoch, val_dice=val_dice) if better else self.best,
            epochs_without_improvement=0 if better else self.epochs_without_improvement + 1,
            history=(*self.history, EpochRecord(epoch=epoch, step=step, metrics=dict(metrics))),
        )

    def to_json(self) -> str:
        """Strict JSON: NaN is written as null, infinities never occur (the loop stops before)."""
        return json.dumps({"version": STATE_VERSION, **_nan_to_none(asdict(self))}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            VersionError: the state was written by another version of this package.
        """
        raw: dict[str, Any] = json.loads(text)
        if (version := raw.get("version")) != STATE_VERSION:
            raise VersionError(
                f"training state: version {version}, this udt-cluster reads {STATE_VERSION}; "
                "resume with the version that wrote it"
            )
        best, partial = raw["best"], raw["partial"]
        return cls(
            epoch=raw["epoch"],
            step=raw["step"],
            best=None if best is None else Best(epoch=best["epoch"], val_dice=_none_to_nan(best["val_dice"])),
            epochs_without_improvement=raw["epochs_without_improvement"],
            history=tuple(_read_record(record) for record in raw["history"]),
            partial=None if partial is None else PartialEpoch(sums=partial["sums"], seconds=partial["seconds"]),
        )


def _is_better(val_dice: float, best: Best | None) -> bool:
    """Strictly better: of two equal epochs the earlier one stays. A first epoch is the best of one."""
    if best is None:
        return True
    return not math.isnan(val_dice) and (math.isnan(best.val_dice) or val_dice > best.val_dice)


def _read_record(raw: dict[str, Any]) -> EpochRecord:
    metrics = {name: _none_to_nan(value) for name, value in raw["metrics"].items()}
    return EpochRecord(epoch=raw["epoch"], step=raw["step"], metrics=metrics)


def _none_to_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
