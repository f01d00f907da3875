"""The stages of a job as the driver runs them: prepare, train, evaluate, register.

Each takes what the one before found and returns what it found; `facts()` is what of it goes into the job's record.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from udt_cluster.cluster.driver.preflight import gpus_per_worker
from udt_cluster.cluster.plan import RunPlan
from udt_cluster.cluster.record import JobRecord, Life, Record, data_folder
from udt_cluster.cluster.worker.failpoints import VARIABLE, parse_faults
from udt_cluster.config.job import Job
from udt_cluster.errors import DataError, JobFailedError, TrackingUnreachableError
from udt_cluster.storage import Location, read_commit

if TYPE_CHECKING:
    from data_prep import Prepared
    from udt_cluster.tracking import Tracker

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """What every stage needs: the job, where its things lie, and what the cluster has."""

    record: JobRecord
    job: Job
    meta: Record
    tracker: "Tracker"
    resources: dict[str, float]
    life: Life | None = None
    """What this life of the job goes on with; None in the first."""
    is_tuned: bool = False
    """Whether the job is the one that a sweep has found, and not the record's."""

    @classmethod
    def open(cls, record: JobRecord, tracker: "Tracker") -> "Scope":
        """Connect to the cluster that this process was started on."""
        import ray

        # The workers' output goes to storage from the workers themselves.
        ray.init(address="auto", logging_level="warning", log_to_driver=False)
        life = record.life(record.state().life)
        return cls(record, record.job(), record.record(), tracker, dict(ray.cluster_resources()), life)

    def tuned(self, job: Job) -> "Scope":
        """The same for the job that a sweep has found."""
        return replace(self, job=job, is_tuned=True)

    @property
    def storage(self) -> Location:
        """The target's storage."""
        return self.record.storage

    @property
    def gpus(self) -> int:
        """GPUs of each worker."""
        return gpus_per_worker(self.job, self.resources)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of packages that every node must have: those of whoever submitted or resumed the job."""
        return self.life.versions if self.life else self.meta.versions

    @property
    def data_version(self) -> str:
        """The data set's version that is wanted; empty where nobody knows it yet."""
        return (self.life and self.life.data_version) or self.meta.data_version

    @property
    def group_by(self) -> str:
        """What the folds of that version keep together."""
        return (self.life and self.life.group_by) or self.meta.group_by or "case"

    def prepared_before(self) -> bool:
        """Whether the version that is wanted is committed in this storage."""
        version = self.data_version
        return bool(version) and read_commit(data_folder(self.storage, self.job) / version) is not None


@dataclass(frozen=True)
class PreparedData:
    """The store, its splits, and what people should know of them."""

    store: Location
    splits: Location
    facts_: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Version, split hash, counts and warnings."""
        return self.facts_


def prepare(scope: Scope, say: Say) -> PreparedData:
    """Bring the data set's version into storage unless it is there, and write the splits beside it."""
    from udt_cluster.data import DataStore, make_splits, save_splits

    found = _bring_in(scope, say)
    _refuse_other_data(scope, found.version)
    store = DataStore.open(found.location)
    info = store.info
    splits = make_splits(
        store.cases,
        scope.job.data.splits,
        group_by=found.group_by,
        data_version=info.version,
        store=store,
        accept_leaks=scope.job.data.accept_leaks,
    )
    _refuse_absent_folds(scope.job, len(splits.folds))
    if scope.job.evaluate.test and not splits.test:
        raise DataError(
            f"evaluate.test: {info.dataset} has no test cases of its own; leave it out to score validation cases only"
        )
    saved = save_splits(found.location, splits)
    warnings = list(dict.fromkeys([*found.warnings, *info.warnings, *splits.warnings, *splits.notes]))
    facts = {
        "dataset": info.dataset,
        "version": info.version,
        "uri": found.location.uri,
        "split_hash": splits.hash,
        "group_by": found.group_by,
        "cases": len(store.cases.ids),
        "samples": int(store.cases.num_samples.sum()),
        "test_cases": len(splits.test),
        "class_names": list(info.class_names),
        "already_there": found.already_there,
        "seconds": round(found.seconds, 2),
        "warnings": warnings,
    }
    say(
        f"data {info.dataset}/{info.version}: {facts['cases']} cases, {facts['samples']} samples"
        + (", already there" if found.already_there else "")
    )
    for warning in warnings:
        say(f"warning: {warning}")
    scope.tracker.log_dataset(
        scope.meta.run_id, name=info.dataset, version=info.version, uri=found.location.uri, digest=store.commit.digest
    )
    scope.tracker.set_tags(scope.meta.run_id, {"data_version": info.version, "split_hash": splits.hash})
    return PreparedData(found.location, saved, facts)


def _refuse_other_data(scope: Scope, version: str) -> None:
    """A job that goes on does so with the data that it began with."""
    if scope.life and scope.life.data_version not in ("", version):
        raise DataError(
            f"{scope.record.id} began with version {scope.life.data_version} of {scope.job.data.dataset}; that is not "
            f"in storage any more, and {scope.job.data.source} gives version {version} now. Bring the source back as "
            "it was, or submit a new job"
        )


def _refuse_absent_folds(job: Job, folds: int) -> None:
    """Of schemes whose number of folds only the data knows."""
    if absent := [fold for fold in job.repeat.folds if fold >= folds]:
        raise DataError(
            f"repeat.folds: {absent}, but data.splits.scheme={job.data.splits.scheme} has {folds} folds here; allowed: "
            f"0..{folds - 1}"
        )


def _bring_in(scope: Scope, say: Say) -> "Prepared":
    from data_prep import Prepared
    from udt_cluster.cluster.driver.prep import prepare_on_ray

    if not scope.prepared_before():
        return prepare_on_ray(scope.job.data, scope.storage, say)
    return Prepared(
        location=data_folder(scope.storage, scope.job) / scope.data_version,
        version=scope.data_version,
        already_there=True,
        group_by=cast(Any, scope.group_by),
        warnings=tuple(scope.meta.warnings),
        seconds=0.0,
    )


@dataclass(frozen=True)
class TrainedRuns:
    """The job's runs, each trained to its end."""

    plans: tuple[RunPlan, ...]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """The best epoch of each run."""
        return self.results


def plan_runs(scope: Scope, prepared: PreparedData) -> tuple[RunPlan, ...]:
    """One plan for each fold and seed; the names follow from the job, so that a second attempt finds the first."""
    owner = scope.meta.evaluates or scope.record.id
    pairs = [(fold, seed) for fold in scope.job.repeat.folds for seed in scope.job.repeat.seeds]
    parent = JobRecord(scope.storage, owner).record().run_id
    plans = [
        RunPlan(
            storage=scope.storage.uri,
            job_id=owner,
            run=f"{owner}-f{fold}-s{seed}",
            fold=fold,
            seed=seed,
            number=number,
            total=len(pairs),
            store=prepared.store.uri,
            splits=prepared.splits.uri,
            tracking=scope.tracker.uri,
            run_id="",
            parent_id=parent,
            job_json=scope.job.to_json() if scope.is_tuned else "",
        )
        for number, (fold, seed) in enumerate(pairs, 1)
    ]
    return tuple(replace(plan, run_id=_child_run(plan)) for plan in plans)


def _child_run(plan: RunPlan) -> str:
    """The run's id in MLflow; empty where MLflow is away: training does not wait for it, its workers make the run."""
    from udt_cluster.tracking import Tracker

    try:
        return str(Tracker(plan.tracking).start(plan.child()))
    except TrackingUnreachableError:
        return ""


def train(scope: Scope, prepared: PreparedData, say: Say) -> TrainedRuns:
    """Train every fold and seed, one after the other; a job that only scores takes the runs as they are."""
    from udt_cluster.cluster.driver.attempts import train_run

    plans = plan_runs(scope, prepared)
    if scope.meta.evaluates:
        return TrainedRuns(tuple(_found(scope, plan) for plan in plans))
    faults = os.environ.get(VARIABLE, "")
    parse_faults(faults)
    results, trained = {}, []
    for plan in plans:
        say(f"run {plan.number} of {plan.total}: fold {plan.fold}, seed {plan.seed}")
        results[plan.run] = train_run(replace(plan, faults=faults), scope.job, gpus=scope.gpus, say=say)
        trained.append(_found(scope, plan))
        scope.tracker.finish(trained[-1].run_id, "FINISHED")
    return TrainedRuns(tuple(trained), results)


def _found(scope: Scope, plan: RunPlan) -> RunPlan:
    """The run with its id in MLflow, which is waited for now."""
    return plan if plan.run_id else replace(plan, run_id=scope.tracker.start(plan.child()))


@dataclass(frozen=True)
class Scores:
    """Summary of each run and split (`validation`, `test`), and over the runs."""

    by_run: dict[str, dict[str, Any]]

    def facts(self) -> dict[str, Any]:
        """Every summary, and the mean over the runs."""
        found = {"headline": self.headline(), "mean": self.means(), "warnings": self.warnings()}
        return {"runs": self.by_run, **found}

    def warnings(self) -> list[str]:
        """What people must know before they believe the scores."""
        return [
            f"{run} {kind}: {warning}"
            for run, summaries in self.by_run.items()
            for kind, summary in summaries.items()
            for warning in summary["warnings"]
        ]

    def means(self) -> dict[str, float]:
        """Mean over the runs of each validation score."""
        tables = [summaries["validation"]["mean"] for summaries in self.by_run.values()]
        names = sorted({name for table in tables for name in table})
        values = {name: [table[name] for table in tables if table.get(name) is not None] for name in names}
        return {name: sum(found) / len(found) for name, found in values.items() if found}

    def headline(self) -> str:
        """One line for people."""
        lines = [f"{kind}: {summary['headline']}" for run in self.by_run.values() for kind, summary in run.items()]
        return lines[0] if len(lines) == 1 else "; ".join(lines)

    def best(self) -> str:
        """The run with the highest validation Dice."""
        return max(self.by_run, key=lambda run: self.by_run[run]["validation"]["mean"].get("dice") or -1.0)


def evaluate(scope: Scope, prepared: PreparedData, runs: TrainedRuns, say: Say) -> Scores:
    """Score every run on the cases that its fold held out, and on the test cases if the job says so."""
    import ray

    from udt_cluster.cluster.worker.score import score_run

    cores = min(scope.job.resources.workers.max * scope.job.resources.cpus_per_worker, _cores_of_largest_node())
    task: Any = ray.remote(num_cpus=cores, num_gpus=scope.gpus, max_retries=1)(score_run)
    by_run: dict[str, dict[str, Any]] = {}
    for plan in runs.plans:
        say(f"scoring run {plan.number} of {plan.total}")
        by_run[plan.run] = _get(task.remote(plan, scope.job.to_json()))
    scores = Scores(by_run)
    scope.tracker.log_metrics(scope.meta.run_id, {f"mean_{name}": value for name, value in scores.means().items()})
    say(scores.headline())
    for warning in scores.warnings():
        say(f"warning: {warning}")
    return scores


def _cores_of_largest_node() -> int:
    """A task runs on one node: what all workers have together may be more than any node has."""
    import ray

    return max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


@dataclass(frozen=True)
class Registered:
    """The model version that the job made."""

    facts_: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Name, version, alias and URI."""
        return self.facts_


def register(scope: Scope, prepared: PreparedData, runs: TrainedRuns, scores: Scores, say: Say) -> Registered:
    """Put the best run, or the ensemble of all, into the registry and move the alias to it."""
    import ray

    from udt_cluster.cluster.worker.score import register_runs

    wanted = scope.job.register_
    chosen = [plan for plan in runs.plans if wanted.what == "ensemble" or plan.run == scores.best()]
    tags = {
        "job": scope.record.id,
        "job_hash": scope.meta.job_hash,
        "data_version": prepared.facts_["version"],
        "dataset": prepared.facts_["dataset"],
        "split_hash": prepared.facts_["split_hash"],
        "git_sha": scope.meta.git_sha,
        "what": wanted.what,
        "members": ",".join(plan.run for plan in chosen),
    }
    task: Any = ray.remote(num_cpus=1, max_retries=1)(register_runs)
    facts = _get(task.remote(chosen, scope.job.to_json(), tags, scores.by_run, scope.meta.run_id))
    say(f"registered {facts['name']} version {facts['version']} as {facts['name']}@{facts['alias']}")
    return Registered(facts)


def _get(reference: Any) -> dict[str, Any]:
    import ray
    from ray.exceptions import RayTaskError

    try:
        value: dict[str, Any] = ray.get(reference)
    except RayTaskError as error:
        cause = error.cause or error
        raise cause if hasattr(cause, "exit_code") else JobFailedError(f"{type(cause).__name__}: {cause}") from error
    return value
