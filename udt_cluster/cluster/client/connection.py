"""The Jobs API of a target, with errors that say what to do."""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.client.targets import Target
from udt_cluster.errors import AuthError, TargetUnreachableError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_TIMEOUT = 4.0
_REQUEST_SECONDS = (4.0, 20.0)  # to connect, and to answer


def connect(target: Target) -> "JobSubmissionClient":
    """A client of the target's Jobs API.

    Raises:
        TargetUnreachableError: nothing answers at the address.
        AuthError: the token is missing or wrong, or the cluster asks for none although others reach it.
    """
    assert target.jobs_api
    check(target)
    _set_token(target)
    # Ray prefers these to the address that it is given.
    for variable in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        os.environ.pop(variable, None)
    with api_errors(target):
        return _bounded_client(target.jobs_api)


def _bounded_client(address: str) -> "JobSubmissionClient":
    """Ray's client waits for ever for a server that has stopped; this one does not."""
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(name).setLevel(logging.WARNING)

    class BoundedClient(JobSubmissionClient):  # type: ignore[misc]  # ray has no types
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": _REQUEST_SECONDS, **options})

    return BoundedClient(address)


def check(target: Target) -> None:
    """Refuse a cluster that cannot be reached, or that lets everybody in (fault S1).

    Raises:
        TargetUnreachableError, AuthError: see :func:`connect`.
    """
    status = _status(target, {})
    if status == 200 and not target.is_loopback and not target.insecure:
        raise AuthError(
            f"{target.jobs_api} answers without a token: whoever reaches this port runs code as the cluster's user. "
            "Start Ray with RAY_AUTH_MODE=token on every node; or, on a network that you trust, say so once: "
            f"udt-cluster target add {target.name} ... --insecure"
        )
    if status in {401, 403}:
        status = _status(target, _authorization(target))
    if status in {401, 403}:
        raise AuthError(
            f"{target.jobs_api} refused the token; put the cluster's token into a file and name it: "
            f"udt-cluster target add {target.name} ... --token-path FILE (or RAY_AUTH_TOKEN_PATH)"
        )
    if status != 200:
        raise TargetUnreachableError(f"{target.jobs_api} answered {status}; is it the address of Ray's dashboard?")


def _status(target: Target, headers: dict[str, str]) -> int:
    request = urllib.request.Request(f"{target.jobs_api}/api/version", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError) as error:
        raise TargetUnreachableError(
            f"no answer from {target.jobs_api} (target {target.name!r}) in {_TIMEOUT:.0f} s: {error}. "
            "Is the cluster up, and its port open to this machine? udt-cluster target ls shows the addresses"
        ) from error


def _authorization(target: Target) -> dict[str, str]:
    _set_token(target)
    token = os.environ.get("RAY_AUTH_TOKEN") or ""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not token and path.is_file():
        token = path.read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _set_token(target: Target) -> None:
    if target.token_path:
        os.environ["RAY_AUTH_TOKEN_PATH"] = target.token_path
        os.environ.pop("RAY_AUTH_TOKEN", None)
    if target.token_path or os.environ.get("RAY_AUTH_TOKEN_PATH") or os.environ.get("RAY_AUTH_TOKEN"):
        os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def api_errors(target: Target) -> Iterator[None]:
    """Map what Ray's client raises when the cluster is gone or refuses."""
    import requests

    try:
        yield
    except (ConnectionError, requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise TargetUnreachableError(f"the Jobs API at {target.jobs_api} stopped answering: {error}") from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in ("401", "403", "Unauthorized", "Forbidden")):
            raise AuthError(f"{target.jobs_api} refused the token: {error}") from error
        raise
