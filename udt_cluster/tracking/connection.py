"""One place that talks to an MLflow server's address, and one that turns its errors into ours."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from udt_cluster.errors import AuthError, RefusedError, TrackingUnreachableError, UdtError, UsageError
from udt_cluster.tracking.address import shown

_NAME_SECONDS = 2.5
_ANSWER_SECONDS = (2.5, 6.0)  # to connect, and to answer on a machine that is busy training
_PING = "/api/2.0/mlflow/experiments/search"
_REFUSED_STATUS = range(400, 500)
_BUSY_STATUS = {408, 429}  # the server's way of saying "later"


def ping(uri: str) -> None:
    """Ask the server for one experiment; the answer comes, or an error, in less than 10 s whatever is listening.

    Raises:
        TrackingUnreachableError: nothing listens there, or it does not answer.
        AuthError: it wants other credentials.
    """
    _resolve_name(uri)
    with tracking_errors(uri):
        response = http_request(
            get_default_host_creds(uri),
            _PING,
            "GET",
            params={"max_results": 1},
            max_retries=0,
            timeout=_ANSWER_SECONDS,
            raise_on_status=False,
        )
        verify_rest_response(response, _PING)


def _resolve_name(uri: str) -> None:
    """Look the host up in a thread: a name server that does not answer would hold us for half a minute."""
    host = urlsplit(uri).hostname

    def look_up() -> None:
        with suppress(OSError):  # an unknown name is reported by the request itself, which may go through a proxy
            socket.getaddrinfo(host, None)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_NAME_SECONDS)
    if thread.is_alive():
        raise TrackingUnreachableError(f"no name server told in {_NAME_SECONDS} s where {host} is. {_remedy(uri)}")


def within(seconds: float, work: Callable[[], None], uri: str) -> None:
    """Do something in a thread; what it raises is raised here.

    Raises:
        TrackingUnreachableError: it has not ended in time; it goes on by itself.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
            done.set_result(None)
        except UdtError as error:
            done.set_exception(error)

    threading.Thread(target=run, name="mlflow-call", daemon=True).start()
    try:
        done.result(seconds)
    except FutureTimeout as error:
        raise TrackingUnreachableError(
            f"MLflow at {shown(uri)} has not answered in {seconds:.0f} s. {_remedy(uri)}"
        ) from error


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow, requests and urllib3 raise into the errors of :mod:`udt_cluster.errors`.

    Raises:
        TrackingUnreachableError: no answer, or the server is in trouble (5xx).
        AuthError: 401 or 403.
        UsageError: what was asked for does not exist.
        RefusedError: the server refused the request for another reason.
    """
    try:
        yield
    except UdtError:
        raise
    except MlflowException as error:
        raise _translated(uri, error.get_http_status_code(), error.message) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 500
        raise _translated(uri, status, str(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        raise _translated(uri, 503, str(error)) from error


def _translated(uri: str, status: int, message: str) -> UdtError:
    said = f"{shown(uri)} says: {_first_line(message)}"
    if status in {401, 403}:
        return AuthError(f"MLflow refused the request ({status}). {said}. {_credentials_remedy(message)}")
    if status == 404:
        return UsageError(f"MLflow does not have it. {said}")
    if status in _REFUSED_STATUS and status not in _BUSY_STATUS:
        return RefusedError(f"MLflow refused the request ({status}). {said}")
    return TrackingUnreachableError(f"MLflow at {shown(uri)} does not answer: {_first_line(message)}. {_remedy(uri)}")


def _remedy(uri: str) -> str:
    return f"See whether {shown(uri)}/health opens from here; the address is MLFLOW_TRACKING_URI's or the target's"


def _credentials_remedy(message: str) -> str:
    if "Host header" in message:
        return "Start the server with --allowed-hosts naming the host and port that you call it by"
    return "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def _first_line(message: str) -> str:
    line = message.strip().splitlines()[0] if message.strip() else "nothing"
    return line[:400].rstrip(".")
