"""The MLflow server of the local target: one process, SQLite, loopback only. `python -m udt_cluster.tracking.server`.

`mlflow server` keeps a parent process that has imported everything beside the one that serves, and, unless told not to,
eight more for jobs that nobody here submits (1.3 GB in all). This module runs the same application in one process
(0.2 GB, up in a third of the time), with the same checks of host and origin.
"""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

HOST = "127.0.0.1"


def server_command(home: Path, port: int, *, artifacts: str | None = None) -> tuple[list[str], dict[str, str]]:
    """How the server is started.

    Args:
        home: Folder of its database (`mlflow/mlflow.db`) and its artifacts; made by the server.
        port: Free loopback port.
        artifacts: Where artifacts are kept instead: a folder, or `s3://bucket/prefix`, for which the server needs the
            usual AWS variables; its clients need none, since they talk to the server alone.

    Returns:
        The command, and what must be added to its environment.
    """
    folder = home.absolute() / "mlflow"
    destination = artifacts or str(folder / "artifacts")
    program = [sys.executable, "-m", "udt_cluster.tracking.server"]
    options = ["--folder", str(folder), "--port", str(port), "--artifacts", destination]
    return program + options, _environment(destination)


def _environment(destination: str) -> dict[str, str]:
    names = (f"{host}{suffix}" for host in (HOST, "localhost") for suffix in ("", ":*"))
    environment = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(names),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if urlsplit(destination).scheme == "s3" and endpoint:
        environment["MLFLOW_S3_ENDPOINT_URL"] = endpoint
    return environment


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="MLflow for the local target, on loopback.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifacts", required=True)
    options = parser.parse_args(arguments)
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(_environment(options.artifacts))
    database = f"sqlite:///{options.folder.absolute() / 'mlflow.db'}"
    _prepare(database, options.artifacts)
    _serve(options.port)


def _prepare(database: str, destination: str) -> None:
    """Hand the settings over by the names that MLflow itself exports, and make the database before anyone asks."""
    from mlflow.server import constants

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", None)
    os.environ.update(
        {
            constants.BACKEND_STORE_URI_ENV_VAR: database,
            constants.REGISTRY_STORE_URI_ENV_VAR: database,
            constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
            constants.ARTIFACTS_DESTINATION_ENV_VAR: destination,
            constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        }
    )
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, database, "mlflow-artifacts:/")


def _serve(port: int) -> None:
    import uvicorn

    uvicorn.run("mlflow.server.fastapi_app:app", host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
