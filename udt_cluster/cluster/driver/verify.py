"""Proof that a job's training survives: train a little, kill a worker, go on, compare. What `verify-resume` runs.

Of the job's own data so many cases are taken that an epoch has a few steps. One run is left alone; in each of the
others the last worker is killed near the end of the second epoch, and the run goes on with the same or with another
number of workers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from udt_cluster.cluster.driver.attempts import train_run
from udt_cluster.cluster.driver.stages import PreparedData, Scope
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.worker.trace import Batches, differing_steps, global_batches
from udt_cluster.config.job import Job
from udt_cluster.errors import JobFailedError, RefusedError, UdtError

Say = Callable[[str], None]

EPOCHS = 2
STEPS = 6
"""Optimizer steps of an epoch, at least."""
VALIDATION_CASES = 4
_COMPARED = ("model.safetensors", "optimizer.safetensors")


@dataclass(frozen=True)
class Ended:
    """What a run has left: enough to tell two runs apart.

    Attributes:
        digests: SHA-256 of the files of its last checkpoint, by name; weights, and at ZeRO stage 0 the optimizer.
        metrics: Metrics of each epoch.
        batches: Its global batches, step by step.
        resumed_step: Step of the checkpoint that it went on from; 0 where it was never killed.
    """

    digests: dict[str, str]
    metrics: tuple[dict[str, float], ...]
    batches: Batches
    resumed_step: int = 0


@dataclass(frozen=True)
class Check:
    """One sentence of the verdict."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """Every check; the job's training survives when all have passed."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all have."""
        return all(check.passed for check in self.checks)

    def insist(self) -> None:
        """Raise where one has not.

        Raises:
            JobFailedError: the checks that failed are listed.
        """
        failed = [f"{check.name}: {check.detail}" for check in self.checks if not check.passed]
        if failed:
            raise JobFailedError("a resumed training is not what an undisturbed one is", failed)

    def facts(self) -> dict[str, Any]:
        """For the record."""
        checks = [{"check": check.name, "passed": check.passed, "detail": check.detail} for check in self.checks]
        return {"passed": self.passed, "checks": checks}


def verify(scope: Scope, prepared: PreparedData, say: Say) -> Verdict:
    """Train, kill, go on, compare; see the module.

    Raises:
        JobFailedError: a run failed where it should have gone on.
    """
    first, *others = scope.meta.verifies
    trial = _Trial(scope, prepared, first, say)
    say(f"training {EPOCHS} epochs with {_workers(first)}, undisturbed")
    whole = trial.undisturbed()
    checks: list[Check] = []
    for workers in others:
        say(f"the same, killed near the end of epoch 2, then with {_workers(workers)}")
        checks += trial.killed(workers, whole)
    for check in checks:
        say(f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.detail}")
    return Verdict(tuple(checks))


class _Trial:
    """The runs of a verification: the job's own model and recipe on a few of its cases, unknown to MLflow."""

    def __init__(self, scope: Scope, prepared: PreparedData, workers: int, say: Say) -> None:
        self._scope, self._prepared, self._workers, self._say = scope, prepared, workers, say
        self._cases = _enough_cases(prepared, scope.job)

    def undisturbed(self) -> Ended:
        """Trained from beginning to end."""
        plan = self._plan("whole")
        self._train(plan, self._workers)
        return self._ended(plan)

    def killed(self, workers: int, whole: Ended) -> list[Check]:
        """Killed near the end of the second epoch, and gone on from there with this number of workers."""
        plan = self._plan(f"killed-{workers}")
        label = f"{self._workers} -> {workers} workers"
        faults = f"kill:step={len(whole.batches) - 1},rank={self._workers - 1},attempt=0"
        if workers == self._workers:
            self._train(replace(plan, faults=faults), workers, retries=1)
            return same_bits(label, whole, self._ended(plan))
        self._die(replace(plan, faults=faults))
        if self._scope.job.train.zero_stage:
            return [self._refused(plan, workers, label)]
        self._train(plan, workers)
        return same_batches(label, whole, self._ended(plan))

    def _die(self, plan: RunPlan) -> None:
        try:
            self._train(plan, self._workers)
        except JobFailedError:
            return
        raise JobFailedError(f"run {plan.run} was to be killed, and ended well")

    def _refused(self, plan: RunPlan, workers: int, label: str) -> Check:
        """From ZeRO stage 1 on another number of workers must be refused, with the remedy."""
        name = f"{label}: refused at zero_stage {self._scope.job.train.zero_stage}"
        try:
            self._train(plan, workers)
        except UdtError as error:
            return Check(name, "resources.workers" in error.message, error.message)
        return Check(name, False, "it was trained; its optimizer state cannot be right")

    def _train(self, plan: RunPlan, workers: int, *, retries: int = 0) -> None:
        job = short_job(self._scope.job, workers=workers, retries=retries)
        train_run(replace(plan, job_json=job.to_json()), job, gpus=self._scope.gpus, say=self._say)

    def _plan(self, label: str) -> RunPlan:
        record, job = self._scope.record, self._scope.job
        run = f"{record.id}-{label}"
        return RunPlan(
            storage=self._scope.storage.uri,
            job_id=record.id,
            run=run,
            fold=job.repeat.folds[0],
            seed=job.repeat.seeds[0],
            number=1,
            total=1,
            store=self._prepared.store.uri,
            splits=self._prepared.splits.uri,
            tracking="",
            run_id=run,
            trace=(record.runs / run / "trace").uri,
            train_cases=self._cases,
            validation_cases=VALIDATION_CASES,
        )

    def _ended(self, plan: RunPlan) -> Ended:
        from udt_cluster.training import CheckpointCatalog

        newest = CheckpointCatalog(plan.folder / "checkpoints", plan.run).latest()
        if newest is None:
            raise JobFailedError(f"run {plan.run} has ended without a checkpoint")
        return Ended(
            digests={item.key: item.sha256 for item in newest.commit.objects if item.key in _COMPARED},
            metrics=tuple(record.metrics for record in newest.state().history),
            batches=global_batches(plan.folder / "trace"),
            resumed_step=max(attempt.resumed_step for attempt in plan.record.attempts(plan.run)),
        )


def short_job(job: Job, *, workers: int, retries: int) -> Job:
    """The job with its own network and recipe for two epochs, a checkpoint every second, and this many workers."""
    train = {"epochs": EPOCHS, "early_stopping": None, "checkpoint_every": "1s", "keep": 0, "picture_every": 0}
    return job.changed(train=train, resources={"workers": workers}, retry={"max": retries})


def _enough_cases(prepared: PreparedData, job: Job) -> int:
    """Cases of the fold, from the first on, whose samples fill the steps of an epoch.

    Raises:
        RefusedError: there are not so many.
    """
    from udt_cluster.data import DataStore, load_splits

    store = DataStore.open(prepared.store)
    cases = load_splits(prepared.splits, store.cases).folds[job.repeat.folds[0]].train
    return enough_cases([int(store.cases.num_samples[case]) for case in cases], batch=job.train.global_batch_size)


def enough_cases(samples: Sequence[int], *, batch: int) -> int:
    """How many of the cases, from the first on, have samples for all steps.

    Args:
        samples: Samples of each training case.
        batch: Samples of a step.

    Raises:
        RefusedError: all of them have not.
    """
    total = 0
    for count, number in enumerate(samples, 1):
        total += number
        if total >= batch * STEPS:
            return count
    raise RefusedError(
        f"verify-resume needs {STEPS} steps of train.global_batch_size={batch}, that is {batch * STEPS} samples; the "
        f"fold has {total}. Set a smaller one: --set train.global_batch_size={max(2, total // STEPS)}"
    )


def same_bits(label: str, whole: Ended, ended: Ended) -> list[Check]:
    """With the same number of workers everything is the same, bit for bit."""
    files = [name for name, digest in whole.digests.items() if ended.digests.get(name) != digest]
    differing = f"{', '.join(files)} differ" if files else ""
    shown = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(whole.digests.items()))
    metrics = _differing_metrics(whole, ended)
    return [
        _batches(label, whole, ended),
        Check(f"{label}: weights, bit for bit", not files, differing or f"{shown}; resumed from {_from(ended)}"),
        Check(f"{label}: metrics of every epoch", not metrics, ", ".join(metrics) or f"{len(whole.metrics)} epochs"),
    ]


def same_batches(label: str, whole: Ended, ended: Ended) -> list[Check]:
    """With another number of workers the global batches are the same; how far the loss went apart is said."""
    gaps = [
        abs(theirs["train_loss"] - ours["train_loss"])
        for ours, theirs in zip(whole.metrics, ended.metrics, strict=False)
    ]
    complete = len(ended.metrics) == len(whole.metrics) and all(math.isfinite(gap) for gap in gaps)
    largest = max(gaps, default=math.nan)
    why = "batch normalisation sees each worker's part of a batch"
    detail = f"train_loss of an epoch differs by {largest:.2g} at most ({why})"
    return [_batches(label, whole, ended), Check(f"{label}: trained to its end", complete, detail)]


def _batches(label: str, whole: Ended, ended: Ended) -> Check:
    wrong = differing_steps(whole.batches, ended.batches)
    again = sum(len(attempts) > 1 for attempts in ended.batches.values())
    detail = (
        f"steps {', '.join(map(str, wrong))} differ"
        if wrong
        else f"{len(whole.batches)} steps, {again} of them trained again after the kill"
    )
    return Check(f"{label}: global batches", not wrong, detail)


def _differing_metrics(whole: Ended, ended: Ended) -> list[str]:
    if len(whole.metrics) != len(ended.metrics):
        return [f"{len(ended.metrics)} epochs of {len(whole.metrics)}"]
    return [
        f"{name} of epoch {epoch}: {ours[name]!r} and {theirs.get(name)!r}"
        for epoch, (ours, theirs) in enumerate(zip(whole.metrics, ended.metrics, strict=True), 1)
        for name in sorted(ours)
        if _is_of_training(name) and repr(ours[name]) != repr(theirs.get(name))
    ]


def _is_of_training(name: str) -> bool:
    """Whether a metric follows from the weights; the others are times and memory."""
    return name.startswith(("train_", "val_")) or name in {"lr", "epoch", "step"}


def _from(ended: Ended) -> str:
    return f"step {ended.resumed_step}"


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"
