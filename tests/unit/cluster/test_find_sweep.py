"""A sweep is found in the record of its job, and says whether it still searches."""

from dataclasses import replace
from pathlib import Path

import pytest

from udt_cluster.cluster.client.sweeps import find_sweep
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import FAILED, STOPPED, SUCCEEDED, JobRecord, Record, State
from udt_cluster.config.job import Job
from udt_cluster.errors import UsageError
from udt_cluster.search.trials import Trial
from udt_cluster.storage import Location

PLAIN = {"name": "heart", "data": {"source": "/nfs/a", "adapter": "acdc"}}
TUNE = {"search": {"model.num_heads": {"choice": [1, 2]}, "model.skips": {"subsets": True}}, "budget": {"trials": 4}}


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("UDT_HOME", str(tmp_path / "home"))
    return Location.parse(str(tmp_path / "store"))


def recorded(storage: Location, **sections: object) -> JobRecord:
    job = Job.model_validate({**PLAIN, **sections})
    record = JobRecord(storage, "heart-1a2b3c4d")
    facts = Record(
        id=record.id, name="heart", job_hash=job.hash, submitted_at="2026-01-01T00:00:00+00:00", user="u",
        target="local", run_id="r", versions={},
    )  # fmt: skip
    record.create(facts, job, "name: heart\n")
    return record


def test_the_trials_of_the_record_are_those_of_the_sweep(storage: Location) -> None:
    record = recorded(storage, tune=TUNE)
    trials = [Trial(number=at, settings={"model.num_heads": at}, began_at="2026-01-01T00:00:00+00:00") for at in (1, 0)]
    for trial in trials:
        record.write_trial(trial)
    record.write_sweep_seconds(90.5)
    found = find_sweep(Target("local", storage=storage.uri), "last")
    assert found.trials == (trials[1], trials[0])
    assert (found.name, found.job) == ("heart", "heart-1a2b3c4d")
    assert (found.budget.trials.used, found.budget.trials.limit, found.budget.seconds.used) == (2, 4, 90.5)
    assert [space.values for space in found.spaces] == [(1, 2), ("none", "dra_channel")]


@pytest.mark.parametrize(
    ("state", "results", "wanted"),
    [
        (SUCCEEDED, {}, "finished"),
        (FAILED, {}, "failed"),
        (STOPPED, {}, "stopped"),
        (FAILED, {"tune": {"trials": 4}}, "finished"),
    ],
)
def test_the_search_ends_with_its_stage_or_with_its_job(
    state: str, results: dict[str, object], wanted: str, storage: Location
) -> None:
    record = recorded(storage, tune=TUNE)
    record.write_state(replace(State(), state=state, results=results, finished_at="2026-01-01T01:00:00+00:00"))
    assert find_sweep(Target("local", storage=storage.uri), "1a2b3c4d").state == wanted


def test_a_job_that_searches_nothing_is_told_what_to_add(storage: Location) -> None:
    recorded(storage)
    with pytest.raises(UsageError, match="its file has no section tune") as refused:
        find_sweep(Target("local", storage=storage.uri), "last")
    assert refused.value.exit_code == 2
    example = next(line for line in str(refused.value).splitlines() if line.startswith("  tune:"))
    from ruamel.yaml import YAML

    Job.model_validate({**PLAIN, **YAML(typ="safe").load(example)})
