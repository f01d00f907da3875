"""Where the MLflow server is. No MLflow here."""

import os
from urllib.parse import urlsplit, urlunsplit

from udt_cluster.config.home import read_state
from udt_cluster.errors import TrackingUnreachableError, UsageError


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the server of the local target.

    Raises:
        TrackingUnreachableError: neither is there.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if uri := read_state("local.json").get("tracking"):
        return str(uri)
    raise TrackingUnreachableError(
        "no MLflow server is known: MLFLOW_TRACKING_URI is not set, and no local target is running; set it to a "
        "server's URL (export MLFLOW_TRACKING_URI=http://HOST:5000), or start the local one with `udt-cluster submit`"
    )


def checked_uri(uri: str) -> str:
    """The URI without a slash at its end.

    Raises:
        UsageError: it is not the URL of a server. A database or a folder cannot be reached by the workers of a cluster.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"the MLflow URI {shown(uri)!r} is not the URL of a server; allowed: http://HOST:PORT, https://HOST"
        )
    return uri.rstrip("/")


def shown(uri: str) -> str:
    """The URI as it may be printed: without user and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=f"...@{parts.netloc.rpartition('@')[2]}"))
