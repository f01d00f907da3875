"""What must hold on the target's nodes before anything is started there; every problem at once.

The checks run as one task on each living node, because what this machine sees is not what they see.
"""

import difflib
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from udt_cluster.config.job import Job
from udt_cluster.errors import UdtError
from udt_cluster.storage import Location, finish_within, probe

PACKAGES = ("torch", "ray", "deepspeed", "zarr", "mlflow")
_SECONDS = 90.0
_PAUSE_SECONDS = 2.0
_STORAGE_SECONDS = 45.0
log = logging.getLogger("udt_cluster")


def versions() -> dict[str, str]:
    """Versions, of the packages that must be equal everywhere, in this process."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@dataclass(frozen=True)
class NodeReport:
    """What one node found; without versions nothing could be asked of it."""

    node: str
    versions: dict[str, str]
    problems: tuple[str, ...]
    source_readable: bool

    @classmethod
    def silent(cls, node: str, seconds: float, error: Exception) -> Self:
        """Of a node that is there and runs nothing."""
        words = " ".join(str(error).split())
        problem = f"runs no task, for {seconds:.0f} s now ({words}); look at Ray's logs there, or start Ray there again"
        return cls(node, {}, (problem,), source_readable=True)


def inspect_node(source: str, storage: str, tracking: str) -> NodeReport:
    """Look at the world from this node: source readable, storage writable, MLflow reachable, versions."""
    from udt_cluster.tracking import Tracker

    problems = []
    try:
        with finish_within(_STORAGE_SECONDS):
            probe(Location.parse(storage) / "probes")
    except UdtError as error:
        problems.append(f"storage {storage}: {error.message}")
    try:
        Tracker(tracking).ping()
    except UdtError as error:
        problems.append(f"MLflow {tracking}: {error.message}")
    return NodeReport(socket.gethostname(), versions(), tuple(problems), _readable(source))


def _readable(source: str) -> bool:
    location = Location.parse(source)
    if location.is_local:
        return location.local_path.is_dir() and os.access(location.local_path, os.R_OK)
    return bool(location.entries())


def judge(
    reports: list[NodeReport],
    job: Job,
    *,
    expected: dict[str, str],
    resources: dict[str, float],
    data_version_there: bool,
) -> list[str]:
    """Every reason not to start, in words. A pure function of what the nodes reported.

    Args:
        reports: One a node.
        job: The job.
        expected: Versions of the submitter.
        resources: The cluster's totals, as Ray counts them (`CPU`, `GPU`).
        data_version_there: The data set is committed in the target's storage, so its source is not needed.
    """
    problems = [f"node {report.node}: {problem}" for report in reports for problem in report.problems]
    for report in reports:
        problems += [
            f"node {report.node}: {package} {report.versions[package]} where the submitter has {wanted}; "
            f"install {package}=={wanted} there"
            for package, wanted in expected.items()
            if report.versions and report.versions.get(package) != wanted
        ]
    if not data_version_there:
        problems += [_unreadable(job, report.node) for report in reports if not report.source_readable]
    return problems + _too_small(job, resources)


def _unreadable(job: Job, node: str) -> str:
    source = job.data.source
    return (
        f"data.source {source} cannot be read on node {node}; mount it there, or bring the prepared data set to the "
        "target's storage: udt-cluster data prepare JOB.yaml --to s3://BUCKET/PREFIX"
    )


def _too_small(job: Job, resources: dict[str, float]) -> list[str]:
    workers, cores = job.resources.workers.min, job.resources.cpus_per_worker
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    problems = []
    if workers * cores > cpus:
        problems.append(
            f"resources: {workers} workers of {cores} CPU cores need {workers * cores}, the cluster has {cpus}; "
            f"--set resources.workers={max(1, cpus // cores)}"
        )
    if job.resources.gpus_per_worker == 1 and workers > gpus:
        problems.append(
            f"resources: {workers} workers with a GPU each, the cluster has {gpus}; "
            f"--set resources.workers={max(1, gpus)}"
            " or --set resources.gpus_per_worker=auto"
        )
    return problems


def gpus_per_worker(job: Job, resources: dict[str, float]) -> int:
    """What `auto` comes to on this cluster."""
    if job.resources.gpus_per_worker == "auto":
        return int(resources.get("GPU", 0) >= job.resources.workers.min)
    return int(job.resources.gpus_per_worker)


def inspect_cluster(job: Job, *, storage: str, tracking: str) -> list[NodeReport]:
    """Run :func:`inspect_node` on every living node of the cluster that this process is connected to."""
    import ray

    task: Any = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    return ask_nodes(
        names,
        ask=lambda node: task.options(scheduling_strategy=_only_on(node)).remote(job.data.source, storage, tracking),
        answer=lambda call, seconds: ray.get(call, timeout=seconds),
        alive=lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]},
    )


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def ask_nodes(
    names: Mapping[str, str],
    *,
    ask: Callable[[str], Any],
    answer: Callable[[Any, float], NodeReport],
    alive: Callable[[], Collection[str]],
    seconds: float = _SECONDS,
    pause: float = _PAUSE_SECONDS,
) -> list[NodeReport]:
    """The reports of all nodes. One that cannot answer yet (it came a moment ago) is asked again, one that left is not.

    Args:
        names: What people call each node, by its id.
        ask: Begins to ask a node.
        answer: Waits so many seconds for what `ask` began.
        alive: The nodes that are there now.
        seconds: For all of them together; who is silent then has a problem.
        pause: Seconds before a node is asked again.
    """
    from ray.exceptions import RayError, RayTaskError

    end = time.monotonic() + seconds
    reports, asked = [], {node: ask(node) for node in names}
    while asked:
        node, call = next(iter(asked.items()))
        del asked[node]
        try:
            reports.append(answer(call, max(1.0, end - time.monotonic())))
        except RayTaskError:
            raise  # it ran, and failed by itself
        except RayError as error:
            if node not in alive():
                log.info("node %s left the cluster while it was asked", names[node])
            elif time.monotonic() + pause < end:
                time.sleep(pause)
                asked[node] = ask(node)
            else:
                reports.append(NodeReport.silent(names[node], seconds, error))
    return reports


def local_source_problem(source: str) -> str | None:
    """Why a local source cannot be read here, or None. Used where the client and the node are one machine."""
    location = Location.parse(source)
    if not location.is_local or _readable(source):
        return None
    path = location.local_path
    near = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    names = sorted(entry.name for entry in near.iterdir() if entry.is_dir())
    missing = path.relative_to(near).parts[0]
    meant = difflib.get_close_matches(missing.lower(), [name.lower() for name in names], n=1, cutoff=0.7)
    hint = next((f"; did you mean {near / name}?" for name in names if [name.lower()] == meant), "")
    listed = ", ".join(names[:8]) or "nothing"
    return f"data.source {path} is not a readable folder{hint or f'; {near} has: {listed}'}"
