"""The JSON Schema of a job file, for editors: completion, and a red line under a wrong key."""

import json
from typing import Any

from udt_cluster.config.job import Job


def json_schema() -> dict[str, Any]:
    """The schema of a job file, draft 2020-12."""
    schema = Job.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "UDT-Cluster job"}


def schema_text() -> str:
    """The schema as it is written to `jobs/job.schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"
