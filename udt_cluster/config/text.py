"""A job as the text of a job file."""

import io
import json

from ruamel.yaml import YAML

from udt_cluster.config.job import Job

_WIDTH = 100


def job_text(job: Job, *, comment: str = "") -> str:
    """YAML that loads as this job again: what is not a default, in the order in which a job file is written.

    Args:
        job: The job.
        comment: First line.
    """
    values = json.loads(job.model_dump_json(by_alias=True, exclude_defaults=True))
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.default_flow_style = None
    text = io.StringIO()
    yaml.dump(values, text)
    return (f"# {comment}\n" if comment else "") + text.getvalue()
