"""Which jobs a storage has, the newest first, found with one request however many there are.

::

    <storage>/job-index/0                        there from the first job on: what is not listed here is nowhere
    <storage>/job-index/<time left>.<job id>     empty; seconds from the submission to a far day: the newest is first

An entry is put before the job's record and removed after it, so a record always has one; an entry without a record is
what an interrupted submission or removal left behind, and stands for no job.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime

from udt_cluster.storage import Location, in_threads

_WHOLE = "0"
_FAR_DAY = datetime(2286, 11, 20, tzinfo=UTC).timestamp()  # ten digits until then


def add(storage: Location, job_id: str, submitted_at: str) -> None:
    """Make a job known; to be called before its record is written. Doing it again changes nothing.

    Args:
        storage: The target's.
        job_id: The job.
        submitted_at: ISO 8601, as the record has it.
    """
    if not (_folder(storage) / _WHOLE).exists():
        _take_in(storage)
    (_folder(storage) / _name(job_id, submitted_at)).write_bytes(b"")


def discard(storage: Location, job_id: str, submitted_at: str) -> None:
    """Forget a job; to be called when its record has gone."""
    (_folder(storage) / _name(job_id, submitted_at)).delete()


def newest(storage: Location, limit: int | None = None) -> list[str]:
    """Ids of the jobs, the newest first; one without a record is none. Writes nothing.

    Args:
        storage: The target's.
        limit: Only so many.
    """
    names = _folder(storage).children(limit=None if limit is None else limit + 1)
    if names[:1] == [_WHOLE]:
        return [_job_id(name) for name in names[1:]]
    return [job_id for _, job_id in sorted(_unlisted(storage), reverse=True)][:limit]


def matching(storage: Location, wanted: str) -> list[str]:
    """Ids, the newest first, that are or start with `wanted`, or whose last part (after the last "-") does."""
    found = newest(storage)
    if wanted in found:
        return [wanted]
    return [job_id for job_id in found if job_id.startswith(wanted) or job_id.rpartition("-")[2].startswith(wanted)]


def _folder(storage: Location) -> Location:
    return storage / "job-index"


def _name(job_id: str, submitted_at: str) -> str:
    return f"{_FAR_DAY - datetime.fromisoformat(submitted_at).timestamp():014.3f}.{job_id}"


def _job_id(name: str) -> str:
    return name.split(".", 2)[2]


def _take_in(storage: Location) -> None:
    """List the jobs of a storage from before there was an index."""
    for submitted_at, job_id in _unlisted(storage):
        (_folder(storage) / _name(job_id, submitted_at)).write_bytes(b"")
    (_folder(storage) / _WHOLE).write_bytes(b"")


def _unlisted(storage: Location) -> list[tuple[str, str]]:
    """Time and id of every job that has a record, by reading it."""
    jobs = storage / "jobs"
    names = [name.removesuffix("/") for name in jobs.children() if name.endswith("/")]
    found = in_threads(lambda name: _submitted_at(jobs / name), names)
    return [(at, name) for at, name in zip(found, names, strict=True) if at is not None]


def _submitted_at(folder: Location) -> str | None:
    with suppress(FileNotFoundError):
        at: str = json.loads((folder / "record.json").read_bytes())["submitted_at"]
        return at
    return None
