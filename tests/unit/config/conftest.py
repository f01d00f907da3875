"""What a job file is told, without the file's name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from udt_cluster.config.load import check_job

Told = Callable[..., list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Write a job file and say what is wrong with it: `LINE: FIELD: MESSAGE`."""

    def say(text: str | bytes, name: str = "job.yaml") -> list[str]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = check_job(path)
        assert isinstance(found, tuple), "the file was accepted"
        return [str(problem).removeprefix(f"{path}:").strip() for problem in found]

    return say
