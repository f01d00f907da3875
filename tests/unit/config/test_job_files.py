"""The job files that come with the package, and the schema that editors read."""

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from udt_cluster.config.fields import all_fields
from udt_cluster.config.load import load_job
from udt_cluster.config.schema import json_schema, schema_text

JOBS = Path(__file__).parents[3] / "jobs"
FILES = sorted(JOBS.rglob("*.yaml"))
HEADINGS = ("What:", "Metric:", "Hardware:", "Time:", "Command:")


def test_there_are_job_files() -> None:
    assert {path.stem for path in FILES} >= {"acdc", "glas", "image_folder", "phantom", "glas_sweep"}
    studies = {path.stem for path in FILES if path.parent.name == "studies"}
    assert studies >= {"skip_connections", "heads_layers", "ablation", "dra", "architectures", "small_data"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_job_file_loads_and_an_editor_finds_no_fault(path: Path) -> None:
    load_job(path)
    jsonschema.validate(YAML(typ="safe", pure=True).load(path.read_text()), json_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_job_file_opens_with_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = [line for line in lines[: lines.index("version: 1")] if line.startswith("#")]
    schema = "../job.schema.json" if path.parent != JOBS else "job.schema.json"
    assert header[0] == f"# yaml-language-server: $schema={schema}"
    found = [heading for line in header for heading in HEADINGS if line.startswith(f"# {heading} ")]
    assert tuple(found) == HEADINGS
    assert f"udt-cluster submit jobs/{path.relative_to(JOBS)}" in "\n".join(header)


def test_the_schema_beside_the_job_files_is_current() -> None:
    message = "run: udt-cluster schema > jobs/job.schema.json"
    assert (JOBS / "job.schema.json").read_text() == schema_text(), message


def test_the_schema_is_one_and_refuses_what_the_reader_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"name": "heart", "data": {"source": "x", "adapter": "acdc"}, "register": {"alias": "candidate"}}
    jsonschema.validate(good, schema)
    for bad in ({"nam": "x"}, {"train": {"epoch": 3}}, {"name": "../x"}, {"train": {"checkpoint_every": 10}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **bad}, schema)


def test_every_field_is_described() -> None:
    assert [field.path for field in all_fields().values() if not field.description] == []
    assert len(json.dumps(json_schema())) > 1000
