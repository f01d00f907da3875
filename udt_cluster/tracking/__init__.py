"""The only door to MLflow: runs, metrics through a spool on disk, and the model registry.

MLflow is imported when one of the names below is first used, so that a command which only needs
:func:`~udt_cluster.tracking.server.server_command` or :func:`default_uri` does not wait for it.

MLflow retries a refused connection for four minutes, reports its use to its makers, and draws progress bars. The
defaults that are set here say otherwise; whatever the user has set in the environment is left as it is.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udt_cluster.tracking.address import default_uri as default_uri
    from udt_cluster.tracking.connection import tracking_errors as tracking_errors
    from udt_cluster.tracking.metric_log import MetricLog as MetricLog
    from udt_cluster.tracking.registry import discard_unfinished as discard_unfinished
    from udt_cluster.tracking.registry import register_model as register_model
    from udt_cluster.tracking.run_calls import flatten as flatten
    from udt_cluster.tracking.runs import ChildRun as ChildRun
    from udt_cluster.tracking.runs import EndedRuns as EndedRuns
    from udt_cluster.tracking.runs import Run as Run
    from udt_cluster.tracking.runs import Tracker as Tracker
    from udt_cluster.tracking.server import server_command as server_command
    from udt_cluster.tracking.versions import ModelVersion as ModelVersion
    from udt_cluster.tracking.versions import delete_version as delete_version
    from udt_cluster.tracking.versions import download as download
    from udt_cluster.tracking.versions import list_models as list_models
    from udt_cluster.tracking.versions import resolve as resolve
    from udt_cluster.tracking.versions import show as show

__all__ = [
    "ChildRun",
    "EndedRuns",
    "MetricLog",
    "ModelVersion",
    "Run",
    "Tracker",
    "default_uri",
    "delete_version",
    "discard_unfinished",
    "download",
    "flatten",
    "list_models",
    "register_model",
    "resolve",
    "server_command",
    "show",
    "tracking_errors",
]

CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

for _variable, _value in CLIENT_DEFAULTS.items():
    os.environ.setdefault(_variable, _value)

_MODULES = {
    "address": ("default_uri",),
    "connection": ("tracking_errors",),
    "metric_log": ("MetricLog",),
    "registry": ("discard_unfinished", "register_model"),
    "run_calls": ("flatten",),
    "runs": ("ChildRun", "EndedRuns", "Run", "Tracker"),
    "server": ("server_command",),
    "versions": ("ModelVersion", "delete_version", "download", "list_models", "resolve", "show"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
