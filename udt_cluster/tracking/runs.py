"""Experiments and runs: one parent run per submission, one child per fold and seed, each made once."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.entities import Run as MlflowRun

from udt_cluster.errors import TrackingUnreachableError, UdtError, UsageError
from udt_cluster.tracking.address import checked_uri, shown
from udt_cluster.tracking.connection import ping, tracking_errors, within
from udt_cluster.tracking.run_calls import (
    PARENT,
    RUN_KEY,
    all_experiments,
    as_tags,
    experiment_of,
    log_in_batches,
    log_missing_params,
    run_of,
    search,
)

_LONGEST_DIGEST = 36
_FRESH_SECONDS = 5.0  # an answer this recent makes another ping needless
_PAUSE_SECONDS = 2.0
_STALE_SECONDS = 15.0

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Run:
    """What MLflow knows about a run. Times are milliseconds since 1970; `metrics` has the last value of each."""

    run_id: str
    name: str
    experiment: str
    status: str
    parent_id: str | None
    start_time: int
    end_time: int | None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ChildRun:
    """What a run under a parent is made, or found again, by: see :meth:`Tracker.start_child`."""

    parent_id: str
    name: str
    tags: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class EndedRuns:
    """What :meth:`Tracker.end_stale` did.

    Attributes:
        ended: Ids of the runs that were RUNNING and are no more.
        problem: Why not all of them could be ended, in a sentence; empty when all were.
    """

    ended: tuple[str, ...] = ()
    problem: str = ""


class Tracker:
    """The runs of one MLflow server.

    Args:
        uri: URL of the server.
        patience: Seconds for which a server that does not answer is asked again before an error is raised. A driver
            that has hours of training behind it has patience; a command has none.

    Every method raises TrackingUnreachableError, AuthError, RefusedError, or UsageError for what does not exist.
    """

    def __init__(self, uri: str, *, patience: float = 0.0) -> None:
        self.uri = checked_uri(uri)
        self.patience = patience
        self._client: MlflowClient | None = None
        self._answered = float("-inf")
        self._experiment_names: dict[str, str] = {}

    def __reduce__(self) -> tuple[Callable[[], "Tracker"], tuple[()]]:
        return partial(Tracker, self.uri, patience=self.patience), ()

    def ping(self) -> None:
        """Return when the server answers; raise in less than 10 s (after `patience`) when it does not."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                ping(self.uri)
            except TrackingUnreachableError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
            else:
                self._answered = time.monotonic()
                return

    @contextmanager
    def calls(self) -> Iterator[MlflowClient]:
        """MLflow's client, for calls whose errors become ours; a server that is silent is found out first."""
        if time.monotonic() - self._answered > _FRESH_SECONDS:
            self.ping()
        if self._client is None:
            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        try:
            with tracking_errors(self.uri):
                yield self._client
        except TrackingUnreachableError:
            self._answered = float("-inf")
            raise
        self._answered = time.monotonic()

    def start_parent(
        self,
        experiment: str,
        name: str,
        *,
        tags: Mapping[str, object] | None = None,
        params: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> str:
        """Make the run of a submission.

        Args:
            experiment: The job's name; made when it is not there, restored when it was deleted.
            name: Shown in MLflow; need not be unique.
            tags: Job hash, data version, split hash, git sha, user, and what else is looked for later.
            params: The resolved job; nested keys are joined with dots.
            key: What identifies the submission (the job id). The same key returns the same run; without one every call
                makes a new run.

        Returns:
            The run's id.
        """
        with self.calls() as client:
            experiment_id = experiment_of(client, experiment)
            return run_of(client, experiment_id, name, {RUN_KEY: key or uuid.uuid4().hex}, tags or {}, params or {})

    def start_child(
        self,
        parent_id: str,
        name: str,
        *,
        tags: Mapping[str, object] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> str:
        """Make, or find again, a run under a parent; `name` identifies it there (`<job id>-f0-s1`).

        A run that is found is set to RUNNING again; params that it has are left as they are.
        """
        with self.calls() as client:
            experiment_id = client.get_run(parent_id).info.experiment_id
            return run_of(client, experiment_id, name, {RUN_KEY: name, PARENT: parent_id}, tags or {}, params or {})

    def start(self, child: ChildRun) -> str:
        """The same as :meth:`start_child`, for what was written down earlier."""
        return self.start_child(child.parent_id, child.name, tags=child.tags, params=child.params)

    def finish(self, run_id: str, status: Status = "FINISHED") -> None:
        """Set the run's status, with the time of now as its end."""
        with self.calls() as client:
            if status == "RUNNING":
                client.update_run(run_id, status)
            else:
                client.set_terminated(run_id, status)

    def finish_tree(self, run_id: str, status: Status, *, again: bool = False) -> None:
        """End a run and those of its children that have not ended, each with this status.

        Args:
            run_id: The parent.
            status: How they ended.
            again: Also those that ended otherwise: as lost, when they have been taken up again since.
        """
        for child in self.list_runs(parent_id=run_id):
            if child.end_time is None or (again and child.status != status):
                self.finish(child.run_id, status)
        if not again or self.run(run_id).status != status:
            self.finish(run_id, status)

    def end_stale(self, run_id: str, status: Status, *, seconds: float = _STALE_SECONDS) -> EndedRuns:
        """End a run and its children as far as they are RUNNING: what ran them has gone.

        Args:
            run_id: The parent. One that is not there, or in the trash, has nothing to end.
            status: KILLED or FAILED.
            seconds: No longer than this, whatever the server does.

        Returns:
            What was ended. It never raises: a server that is away is said in `problem`.
        """
        ended: list[str] = []

        def work() -> None:
            with self.calls() as client:
                parent = client.get_run(run_id)
                children = search(client, [parent.info.experiment_id], {PARENT: run_id}, status="RUNNING")
                for run in [*children, parent]:
                    if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active":
                        client.set_terminated(run.info.run_id, status)
                        ended.append(run.info.run_id)

        try:
            within(seconds, work, self.uri)
        except UsageError:
            return EndedRuns(tuple(ended))
        except UdtError as error:
            return EndedRuns(tuple(ended), error.message)
        return EndedRuns(tuple(ended))

    def open_runs(self) -> list[Run]:
        """Every run of this package's making that is RUNNING, in any experiment, newest first."""
        with self.calls() as client:
            self._experiment_names.update(all_experiments(client))
            found = search(client, list(self._experiment_names), {}, status="RUNNING")
            return [self._as_run(client, run) for run in found if RUN_KEY in run.data.tags]

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that are measured once, at step 0; those of a training go through :class:`MetricLog`.

        What the run has already is not logged again; a number that has changed is added, and becomes the one shown.
        """
        at = int(time.time() * 1000)
        with self.calls() as client:
            known = client.get_run(run_id).data.metrics
            new = {key: value for key, value in metrics.items() if repr(known.get(key)) != repr(float(value))}
            if new:
                points = [Metric(key, float(value), at, 0) for key, value in new.items()]
                client.log_batch(run_id, metrics=points, synchronous=True)

    def set_tags(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags; None is left out, and what is longer than MLflow allows is cut."""
        with self.calls() as client:
            log_in_batches(client, run_id, tags=as_tags(tags))

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Set params that the run has not got yet; MLflow does not let one change."""
        with self.calls() as client:
            log_missing_params(client, client.get_run(run_id), params)

    def log_file(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload one file into the folder `artifact_path` of the run."""
        if not path.is_file():
            raise FileNotFoundError(path)
        with self.calls() as client:
            client.log_artifact(run_id, str(path), artifact_path)

    def log_folder(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload what is in a folder."""
        if not path.is_dir():
            raise NotADirectoryError(path)
        with self.calls() as client:
            client.log_artifacts(run_id, str(path), artifact_path)

    def log_text(self, run_id: str, text: str, file: str) -> None:
        """Upload a text as `file` (`job.yaml`)."""
        with self.calls() as client:
            client.log_text(run_id, text, file)

    def log_dataset(
        self, run_id: str, *, name: str, version: str, uri: str, digest: str, context: str = "training"
    ) -> None:
        """Say which data the run used (MLflow's `log_input`).

        The digest that MLflow shows is the data version; the source has the URI and the digest of what was committed.
        """
        source_type = "s3" if uri.startswith("s3://") else "local"
        source = json.dumps({"uri": uri, "version": version, "digest": digest}, sort_keys=True)
        dataset = Dataset(name=name, digest=version[:_LONGEST_DIGEST], source_type=source_type, source=source)
        marks = {"mlflow.data.context": context, "data_version": version}
        with self.calls() as client:
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(key, value) for key, value in marks.items()])])

    def run(self, run_id: str) -> Run:
        """Everything about one run."""
        with self.calls() as client:
            return self._as_run(client, client.get_run(run_id))

    def list_runs(
        self, experiment: str | None = None, *, parent_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Run]:
        """The runs of one experiment or of all, newest first, with these tags; children are in their parent's."""
        wanted = dict(tags or {}) | ({PARENT: parent_id} if parent_id else {})
        with self.calls() as client:
            if experiment is None and parent_id is not None:
                experiment_ids = [client.get_run(parent_id).info.experiment_id]
            elif experiment is None:
                experiment_ids = list(all_experiments(client))
            else:
                known = client.get_experiment_by_name(experiment)
                experiment_ids = [known.experiment_id] if known else []
            return [self._as_run(client, run) for run in search(client, experiment_ids, wanted)]

    def delete(self, run_id: str) -> None:
        """Move a run and its children to MLflow's trash (`mlflow gc` empties it)."""
        with self.calls() as client:
            experiment_id = client.get_run(run_id).info.experiment_id
            for child in search(client, [experiment_id], {PARENT: run_id}):
                client.delete_run(child.info.run_id)
            client.delete_run(run_id)

    def run_url(self, run_id: str) -> str:
        """The run's page, for a browser; user and password are left out."""
        with self.calls() as client:
            experiment_id = client.get_run(run_id).info.experiment_id
        return f"{shown(self.uri)}/#/experiments/{experiment_id}/runs/{run_id}"

    def _as_run(self, client: MlflowClient, run: MlflowRun) -> Run:
        names, experiment_id = self._experiment_names, run.info.experiment_id
        if experiment_id not in names:
            names[experiment_id] = client.get_experiment(experiment_id).name
        return Run(
            run_id=run.info.run_id,
            name=run.info.run_name,
            experiment=names[experiment_id],
            status=run.info.status,
            parent_id=run.data.tags.get(PARENT),
            start_time=run.info.start_time,
            end_time=run.info.end_time,
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
        )
