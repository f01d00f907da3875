"""Many jobs, runs and versions: none is lost or doubled, and what people ask for is not slower than a person waits."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.seeding import MODELS, job_id, record_job, run_id, seed_jobs, seed_mlflow
from tests.servers.mlflow import MlflowServer
from udt_cluster.cluster import job_index
from udt_cluster.cluster.client import catalog, jobs
from udt_cluster.cluster.client.targets import Target
from udt_cluster.config.load import load_job
from udt_cluster.errors import UsageError
from udt_cluster.storage import Location
from udt_cluster.tracking import Tracker, server_command

pytestmark = [pytest.mark.component, pytest.mark.mlflow]

COUNT = 2_000
AT_ONCE = 24
JOB = Path(__file__).parents[3] / "jobs" / "acdc.yaml"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A registry and a storage with thousands of everything; the jobs have ended, so no cluster is asked."""
    folder = tmp_path_factory.mktemp("many")
    server = MlflowServer(folder)
    server.command, server.environment = server_command(folder, server.port)
    server.start().stop()
    seed_mlflow(folder / "mlflow" / "mlflow.db", COUNT)
    seed_jobs(folder / "storage", COUNT)
    try:
        uri = server.start().uri
        yield Target("bench", jobs_api="http://127.0.0.1:9", tracking=uri, storage=str(folder / "storage"))
    finally:
        server.stop()


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.usefixtures("isolated_home")
def test_fault_L1_of_many_submissions_at_once_none_is_lost_or_doubled(target: Target) -> None:
    storage, job = Location.parse(str(target.storage)), load_job(JOB, [])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda _: record_job(job, storage, str(target.tracking)), range(AT_ONCE)))
    assert len(set(made)) == AT_ONCE

    client = MlflowClient(str(target.tracking))
    experiment = client.get_experiment_by_name(job.name)
    runs = Counter(run.data.tags["udt.run"] for run in client.search_runs([experiment.experiment_id], max_results=1000))
    assert runs == Counter(made)
    ids = job_index.newest(storage)
    assert Counter(ids) == Counter([*made, *map(job_id, range(COUNT))])
    assert set(ids[:AT_ONCE]) == set(made)
    for name in made:
        jobs._record(target, name).delete()
    assert len(job_index.newest(storage)) == COUNT


@pytest.mark.usefixtures("isolated_home")
def test_fault_L1_what_people_ask_for_is_there_and_soon(target: Target) -> None:
    newest = jobs.list_jobs(target, limit=50)
    assert [status.id for status in newest] == [job_id(number) for number in range(COUNT - 1, COUNT - 51, -1)]
    assert len(jobs.list_jobs(target)) == COUNT
    assert jobs.find_job(target, "last").id == job_id(COUNT - 1)
    assert jobs.find_job(target, f"{777:08x}").id == jobs.find_job(target, job_id(777)).id == job_id(777)
    with pytest.raises(UsageError, match="could be any of"):
        jobs.find_job(target, "job-7-")

    tracker = Tracker(str(target.tracking))
    versions = catalog.models(target, limit=50)
    assert [(found["name"], found["version"]) for found in versions[:2]] == [
        (f"job-{(COUNT - 1) % MODELS}", COUNT // MODELS),
        (f"job-{(COUNT - 2) % MODELS}", COUNT // MODELS),
    ]
    assert len(catalog.models(target)) == COUNT
    shown = catalog.show_model(target, "job-3@candidate")
    assert (shown["version"], shown["aliases"]) == (COUNT // MODELS // 2, ["candidate"])
    assert tracker.start_parent("job-1", "again", key=job_id(21)) == run_id(21)

    slow = {
        "ls": seconds(lambda: jobs.list_jobs(target, limit=50)),
        "status": seconds(lambda: jobs.find_job(target, job_id(99))),
        "models ls": seconds(lambda: catalog.models(target, limit=50)),
        "models show": seconds(lambda: catalog.show_model(target, "job-3@candidate")),
    }
    assert max(slow.values()) < 20, f"on a busy machine; a quiet one takes tenths: {slow}"


def test_fault_L1_the_newest_fifty_cost_the_same_however_many_there_are(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows with the number of jobs is the listing of names alone: no record is read that is not shown."""
    reads: list[str] = []
    read = Location.read_bytes

    def counted(location: Location, **span: int | None) -> bytes:
        reads.append(location.uri)
        return read(location, **span)

    monkeypatch.setattr(Location, "read_bytes", counted)
    monkeypatch.setattr(Location, "entries", None)  # a walk through everything
    for whole_model in ("get_registered_model", "search_registered_models"):  # MLflow reads all its versions for that
        monkeypatch.setattr(MlflowClient, whole_model, None)
    assert len(catalog.models(target, limit=50)) == 50
    assert catalog.show_model(target, "job-3@candidate")["aliases"] == ["candidate"]
    assert catalog.show_model(target, "job-3")["version"] == COUNT // MODELS
    assert len(jobs.list_jobs(target, limit=50)) == 50
    assert len(reads) <= 50 * 5
    reads.clear()
    monkeypatch.setattr(jobs.JobRecord, "attempts", lambda _: [])
    assert jobs.find_job(target, job_id(5)).id == job_id(5)
    assert len(reads) <= 8
