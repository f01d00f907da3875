"""No error of a storage client gets past the one place that translates them."""

import errno
import inspect
import pickle
import ssl
from collections.abc import Iterator

import aiohttp
import botocore.exceptions
import pytest
import urllib3.exceptions
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from s3fs.errors import ERROR_CODE_TO_EXCEPTION, translate_boto_error

from udt_cluster.errors import AuthError, CorruptError, DataError, StorageUnreachableError
from udt_cluster.storage import storage_errors
from udt_cluster.storage.failures import is_transient

OURS = (FileNotFoundError, AuthError, CorruptError, StorageUnreachableError)
WHERE = "s3://bucket/key"


def answer(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def translated(error: Exception, where: str = WHERE) -> Exception:
    with pytest.raises(OURS) as caught, storage_errors(where):
        raise error
    assert where in str(caught.value)
    assert caught.value.__cause__ is error
    return caught.value


def instance(kind: type[Exception]) -> Exception:
    """An exception without calling its constructor, whose arguments differ from class to class."""
    made = kind.__new__(kind)
    Exception.__init__(made, "text")
    return made


def client_errors() -> Iterator[type[Exception]]:
    for module in (botocore.exceptions, aiohttp, urllib3.exceptions):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            foreign = (botocore.exceptions.BotoCoreError, aiohttp.ClientError, urllib3.exceptions.HTTPError, OSError)
            if issubclass(kind, foreign) and not issubclass(kind, Warning):
                yield kind


@pytest.mark.parametrize("kind", sorted(set(client_errors()), key=str), ids=lambda kind: kind.__name__)
def test_every_class_of_the_clients_is_translated(kind: type[Exception]) -> None:
    assert type(translated(instance(kind))).__module__.startswith("udt_cluster.")


@pytest.mark.parametrize("code", [*ERROR_CODE_TO_EXCEPTION, "SomethingNew"])
def test_every_code_that_s3_answers_is_translated(code: str) -> None:
    assert isinstance(translated(answer(code)), OURS)
    assert isinstance(translated(translate_boto_error(answer(code))), OURS)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_number_of_a_disk_is_translated(number: int) -> None:
    assert isinstance(translated(OSError(number, "text", "/folder/file"), "/folder/file"), OURS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("NoSuchKey", 404), FileNotFoundError),
        (answer("404", 404), FileNotFoundError),
        (answer("NoSuchBucket", 404), StorageUnreachableError),
        (answer("AccessDenied", 403), AuthError),
        (answer("403", 403), AuthError),
        (answer("SignatureDoesNotMatch", 403), AuthError),
        (answer("ExpiredToken"), AuthError),
        (answer("InvalidAccessKeyId", 403), AuthError),
        (answer("PreconditionFailed", 412), CorruptError),
        (answer("SlowDown", 503), StorageUnreachableError),
        (answer("InternalError", 500), StorageUnreachableError),
        (ResponseParserError("no XML"), StorageUnreachableError),
        (TimeoutError(), StorageUnreachableError),
        (ConnectionResetError(), StorageUnreachableError),
        (ssl.SSLError(1, "certificate verify failed"), StorageUnreachableError),
        (botocore.exceptions.NoCredentialsError(), AuthError),
        (FileNotFoundError(), FileNotFoundError),
        (PermissionError(), AuthError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageUnreachableError),
    ],
    ids=str,
)
def test_kinds(error: Exception, kind: type[Exception]) -> None:
    assert isinstance(translated(error), kind)


@pytest.mark.parametrize("error", [DataError("ours"), AuthError("ours"), ValueError("a bug"), KeyboardInterrupt()])
def test_what_is_ours_or_a_bug_passes_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, storage_errors(WHERE):
        raise error
    assert caught.value is error


def test_the_innermost_place_is_kept() -> None:
    with pytest.raises(FileNotFoundError, match="inner"), storage_errors("outer"), storage_errors("inner"):
        raise FileNotFoundError
    with pytest.raises(StorageUnreachableError, match=r"^inner"), storage_errors("outer"), storage_errors("inner"):
        raise OSError(errno.EIO, "Input/output error")


def test_a_missing_object_crosses_processes() -> None:
    copy = pickle.loads(pickle.dumps(translated(FileNotFoundError())))
    assert isinstance(copy, FileNotFoundError)
    assert copy.filename == WHERE


def test_a_full_disk_says_so() -> None:
    error = translated(OSError(errno.ENOSPC, "No space left on device", "/data/x"), "file:///data/x")
    assert "No space left on device" in str(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answer("SlowDown", 503), True),
        (answer("InternalError", 500), True),
        (answer("XAmzContentSHA256Mismatch", 400), True),
        (translate_boto_error(answer("503", 503)), True),
        (answer("NoSuchKey", 404), False),
        (answer("AccessDenied", 403), False),
        (answer("InvalidRange", 416), False),
        (botocore.exceptions.NoCredentialsError(), False),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), True),
        (botocore.exceptions.SSLError(endpoint_url="x", error="certificate"), False),
        (aiohttp.ClientPayloadError("incomplete"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
    ],
    ids=str,
)
def test_what_may_pass_by_itself(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected
