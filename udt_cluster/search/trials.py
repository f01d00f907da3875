"""What is known of each trial of a sweep: plain values that are kept in storage, and the order of merit among them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

TrialState = Literal["running", "finished", "pruned", "diverged", "failed"]
ENDED: frozenset[TrialState] = frozenset({"finished", "pruned", "diverged", "failed"})


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A point at which trials are compared.

    Attributes:
        index: Which one, from 0.
        epochs: Epochs that the trial had done by then, over all its folds.
        value: What it is compared by.
    """

    index: int
    epochs: int
    value: float


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One fold and seed of a trial.

    Attributes:
        run: Name, which leads to its checkpoints.
        run_id: In MLflow; empty where it was not reached.
        fold: From 0.
        seed: Of weights, order and augmentation.
        epochs: Done.
        best_epoch: The one of `value`, from 1.
        value: The metric at its best.
        parameters: Trainable numbers of the network.
        memory_gb: Peak, in 1e9 bytes: on the GPU, or resident on a CPU.
    """

    run: str
    run_id: str = ""
    fold: int
    seed: int
    epochs: int
    best_epoch: int
    value: float
    parameters: int = 0
    memory_gb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration that is tried.

    Attributes:
        number: From 0, in the order in which they were proposed.
        settings: What differs from the job, by field: `{"model.num_heads": 8}`.
        point: The values that were chosen, by dimension; see :mod:`udt_cluster.config.spaces`.
        state: `pruned`: it was stopped, others were better at the same rung. `diverged`: its loss or weights were not
            finite. `failed`: it ended with an error.
        rungs: Where it was compared, in order.
        runs: Its folds and seeds that are done.
        seconds: Of a worker, over all attempts.
        gpu_hours: The same of its share of a GPU; 0 on CPUs.
        parameters: Trainable numbers of its network.
        gmac: 1e9 multiply-adds of a forward pass of one image.
        began_at: When, ISO 8601 with time zone.
        ended_at: When; empty while it runs.
        message: Why it did not finish, in plain words.
        run_id: Its run in MLflow, the parent of those of its folds; empty where MLflow was not reached.
    """

    number: int
    settings: Mapping[str, Any]
    point: Mapping[str, Any] = field(default_factory=dict)
    state: TrialState = "running"
    rungs: tuple[Rung, ...] = ()
    runs: tuple[TrialRun, ...] = ()
    seconds: float = 0.0
    gpu_hours: float = 0.0
    parameters: int = 0
    gmac: float = 0.0
    began_at: str = ""
    ended_at: str = ""
    message: str = ""
    run_id: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it will not be trained any more."""
        return self.state in ENDED

    @property
    def score(self) -> float | None:
        """Mean over its folds and seeds, of a trial that finished; the last rung's value of one that was pruned."""
        if self.state == "finished" and self.runs:
            return sum(run.value for run in self.runs) / len(self.runs)
        return self.rungs[-1].value if self.rungs and self.state in ("running", "pruned") else None

    @property
    def epochs(self) -> int:
        """Epochs that were spent on it."""
        return max([sum(run.epochs for run in self.runs), *(rung.epochs for rung in self.rungs)])

    @property
    def memory_gb(self) -> float | None:
        """Peak of its runs, in 1e9 bytes; None before the first has ended."""
        return max((run.memory_gb for run in self.runs if run.memory_gb is not None), default=None)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is no such record.
        """
        try:
            values = json.loads(text)
            rungs = tuple(Rung(**rung) for rung in values.pop("rungs"))
            runs = tuple(TrialRun(**run) for run in values.pop("runs"))
            return cls(**values, rungs=rungs, runs=runs)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a trial: {text[:80]!r}") from error

    def with_rung(self, rung: Rung) -> Self:
        """The same, compared once more; a rung that comes again after a resume is kept once."""
        return self if rung.index < len(self.rungs) else replace(self, rungs=(*self.rungs, rung))


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The best first: finished trials by score, then those that have not finished, by how far they came.

    Equal scores are ordered by the cheaper network, then by number. Trials without a score come last.
    """
    return sorted(trials, key=_merit)


def best(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest score; one whose score is no number is none."""
    return next((trial for trial in ranked(trials) if trial.state == "finished" and _is_number(trial.score)), None)


def _is_number(score: float | None) -> bool:
    return score is not None and score == score


def _merit(trial: Trial) -> tuple[bool, int, float, float, int]:
    finished = trial.state == "finished"
    score = trial.score
    reached = 0 if finished else -len(trial.rungs)
    value = score if score is not None and score == score else float("-inf")
    return not finished, reached, -value, trial.gmac, trial.number
