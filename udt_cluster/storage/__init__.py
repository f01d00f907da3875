"""The only door to stored objects, on a disk or in S3: locations, listings, Zarr stores, commits."""

from udt_cluster.storage.commit import (
    COMMIT_NAME,
    JSON,
    Commit,
    describe,
    download_committed,
    in_threads,
    probe,
    read_commit,
    upload_folder,
    verify,
    write_commit,
)
from udt_cluster.storage.failures import storage_errors
from udt_cluster.storage.location import Location
from udt_cluster.storage.objects import Entry, ObjectRecord
from udt_cluster.storage.patience import finish_within, patient_environment, retry_count

__all__ = [
    "COMMIT_NAME",
    "JSON",
    "Commit",
    "Entry",
    "Location",
    "ObjectRecord",
    "describe",
    "download_committed",
    "finish_within",
    "in_threads",
    "patient_environment",
    "probe",
    "read_commit",
    "retry_count",
    "storage_errors",
    "upload_folder",
    "verify",
    "write_commit",
]
