"""What the training loop asks of its collaborators, and nothing more of them."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from udt_cluster.errors import JobFailedError
from udt_cluster.training.state import TrainingState

LossFunction = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(logits, labels) -> ``{"loss": total, "loss_dice": part, ...}``, scalars."""
Kind = Literal["epoch", "time", "stop"]
"""Why a checkpoint is saved: an epoch has ended, the time has come, or the process has to stop."""
Interrupt = Callable[[], str | None]
"""Why this process should stop soon, in plain words, or None. Asked at every step: it must be cheap, and a reason stays
once it is there."""
Beat = Callable[[], None]
"""Called after each sign of life: a training step, a validation batch, a look at an upload that is waited for."""


class Batch(Protocol):
    """Training samples on the device: images float32 (B,C,H,W), labels int64 (B,H,W), sample indices (B,)."""

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102
    @property
    def samples(self) -> Tensor | np.ndarray: ...  # noqa: D102


class EvalBatch(Protocol):
    """Validation samples: as :class:`Batch`, with the case index and the slice number of each, int arrays (B,).

    ``shown`` is what a person is to see of ``images``: without channels that stand beside it as context.
    """

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def shown(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102
    @property
    def case(self) -> np.ndarray: ...  # noqa: D102
    @property
    def slice(self) -> np.ndarray: ...  # noqa: D102


class TrainLoader(Protocol):
    """This rank's share of each global batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the same number on every rank."""

    @property
    def wait_seconds(self) -> float:
        """Seconds that the consumer has waited for data since the epoch began."""

    def epoch(self, epoch: int, *, start_step: int = 0) -> Generator[Sequence[Batch], None, None]:
        """One sequence of micro-batches per optimizer step, from ``start_step`` on (of all: none); epochs count from 0.

        The global batches follow from the epoch alone: whoever starts later, or shares them otherwise, gets the same.
        """


class EvalLoader(Protocol):
    """This rank's validation cases, each whole."""

    @property
    def num_batches_max(self) -> int:
        """Batches of the rank that has most."""

    def __iter__(self) -> Generator[EvalBatch, None, None]: ...


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one optimizer step came to, the same on every rank.

    Attributes:
        losses: By name, each the mean over the micro-batches of all ranks.
        flags: For each flag that was given whether some rank has raised it.
    """

    losses: dict[str, float]
    flags: tuple[bool, ...] = ()


class Engine(Protocol):
    """The network with its optimizer, spread over the ranks. Every method is called by all ranks together."""

    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def rank(self) -> int: ...  # noqa: D102
    @property
    def world_size(self) -> int: ...  # noqa: D102
    @property
    def zero_stage(self) -> int: ...  # noqa: D102
    @property
    def lr(self) -> float: ...  # noqa: D102

    def set_lr(self, lr: float) -> None:
        """Learning rate of the steps to come."""

    def step(
        self, micro_batches: Sequence[Batch], loss_function: LossFunction, flags: Sequence[bool] = ()
    ) -> StepResult:
        """Forward and backward for each micro-batch, then one optimizer step. Flags travel with the losses.

        Raises:
            NonFiniteLossError: on every rank, before the optimizer step, when the loss of any rank is NaN or infinite.
        """

    def predict(self, images: Tensor) -> Tensor:
        """Float32 logits (B,K,H,W) in evaluation mode, without gradients."""

    def pad_forwards(self, count: int) -> None:
        """Take part in ``count`` forwards of other ranks without samples of one's own (ZeRO-3; else nothing)."""

    def sync_buffers(self) -> None:
        """Make batch normalisation's statistics equal on all ranks (their mean)."""

    def memory_gb(self) -> float:
        """Peak memory of this rank in 1e9 bytes: allocated on the GPU, resident on a CPU."""

    def save(self, folder: Path) -> None:
        """Write this rank's part of everything that a resume needs; rank 0 always writes ``model.safetensors``.

        What differs between the ranks within an epoch (random states, statistics) is in each rank's part.
        """

    def load(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def all_gather_object(self, value: Any) -> list[Any]:
        """The picklable values of all ranks, by rank."""


class Reporter(Protocol):
    """Where metrics go. ``epoch`` is called on every rank with the same numbers; ``picture`` on rank 0 alone."""

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a finished epoch (from 1).

        After a resume the epochs of the checkpoint come again, first to last: drop those that have arrived already.
        """

    def picture(self, name: str, png: bytes, step: int) -> None:
        """A PNG of validation predictions."""


class CheckpointStore(Protocol):
    """Where checkpoints live. What was given to it is written in the background; all ranks call its methods together.

    A checkpoint exists wholly or not at all. One that cannot be written is told of and made good by the next; the
    second in a row is an error.
    """

    @property
    def busy(self) -> bool:
        """Whether this rank still writes, or waits for others that do."""

    @property
    def failed(self) -> bool:
        """Whether this rank could not write its part; `settle` tells the others."""

    def restore(self, engine: Engine) -> TrainingState | None:
        """Load the newest checkpoint that can be loaded; None where there is none."""

    def save(self, engine: Engine, state: TrainingState, *, kind: Kind, beat: Beat) -> None:
        """Take a snapshot and go on; what an earlier call has left to write is waited for first.

        Raises:
            CheckpointError: on every rank: no snapshot could be taken, or the last two could not be written.
            SupersededError: on every rank: a newer attempt of this run has begun.
        """

    def settle(self, engine: Engine, *, beat: Beat) -> None:
        """Wait until what is being written is complete or has failed.

        Raises:
            CheckpointError, SupersededError: as :meth:`save`.
        """

    def finish(self, engine: Engine, *, beat: Beat) -> None:
        """As :meth:`settle`, when nothing will be saved any more: one failure is an error then."""


class NonFiniteLossError(ArithmeticError):
    """The loss of some rank is NaN or infinite.

    Attributes:
        losses: The finite and other losses by name, summed up over the ranks.
        samples: Indices of the samples in the micro-batches that are not finite, over all ranks.
    """

    def __init__(self, losses: Mapping[str, float], samples: Sequence[int]) -> None:
        super().__init__(f"loss {dict(losses)} for samples {list(samples)}")
        self.losses = dict(losses)
        self.samples = tuple(samples)

    def __reduce__(self) -> tuple[type["NonFiniteLossError"], tuple[dict[str, float], tuple[int, ...]]]:
        return type(self), (self.losses, self.samples)


class NonFiniteError(JobFailedError):
    """The loss or the weights are NaN or infinite: the same run would come to the same again."""


class PreemptedError(JobFailedError):
    """The run was asked to stop, and did, on all ranks at the same step.

    Attributes:
        reason: Why, in plain words.
        step: Optimizer steps done.
        problem: Why the checkpoint of this moment could not be written; empty when it was.
    """

    def __init__(self, reason: str, step: int, problem: str = "") -> None:
        saved = f"; what came after the last checkpoint is lost: {problem}" if problem else "; nothing is lost"
        super().__init__(f"stopped at step {step}: {reason}{saved}")
        self.reason, self.step, self.problem = reason, step, problem

    def __reduce__(self) -> tuple[type["PreemptedError"], tuple[str, int, str]]:  # type: ignore[override]
        return type(self), (self.reason, self.step, self.problem)


class CheckpointError(JobFailedError):
    """Checkpoints cannot be written; what the run would do from here on could be lost."""


class SupersededError(JobFailedError):
    """A newer attempt of the same run has begun; this one must not write any more."""
