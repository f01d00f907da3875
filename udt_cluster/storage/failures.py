"""The one place where errors of disks and S3 clients become errors of this package."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from udt_cluster.errors import AuthError, CorruptError, StorageUnreachableError

_REFUSED = frozenset(
    {
        "401",
        "403",
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidPayer",
        "InvalidSecurity",
        "InvalidToken",
        "MissingSecurityHeader",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnauthorizedAccess",
    }
)
_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchVersion"})
_CHANGED = frozenset({"412", "BadDigest", "InvalidDigest", "PreconditionFailed", "XAmzContentSHA256Mismatch"})
_TRANSIENT = frozenset(
    {
        "408",
        "429",
        "500",
        "502",
        "503",
        "504",
        "BadDigest",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "NoAuthTokenError",
        "RefreshWithMFAUnsupportedError",
        "LoginRefreshRequired",
        "LoginTokenLoadError",
        "LoginError",
    }
)
_CONNECT = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"})


class MissingObjectError(FileNotFoundError):
    """There is no such object; already says where."""


@contextmanager
def storage_errors(location: object) -> Iterator[None]:
    """Turn every error of a storage client inside the block into one of ours; ours pass unchanged.

    Args:
        location: What was worked on; its text starts the message.

    Raises:
        FileNotFoundError: the object is not there.
        AuthError: credentials are missing or refused, or the object may not be read or written.
        CorruptError: the object changed while it was read or on its way.
        StorageUnreachableError: all else (nobody answers, time is up, the disk is full).
    """
    try:
        yield
    except MissingObjectError:
        raise
    except foreign_errors() as error:
        raise translated(error, str(location)) from error


def foreign_errors() -> tuple[type[Exception], ...]:
    """Classes that storage clients raise; those of S3 only once it is in use (importing them is slow)."""
    if "botocore" not in sys.modules:
        return (OSError,)
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    return (OSError, BotoCoreError, ClientError, ResponseParserError, HttpError, HTTPError)


def translated(error: Exception, where: str) -> Exception:
    """The error of ours that says the same as a foreign one."""
    codes, name = error_codes(error), type(error).__name__
    if "NoSuchUpload" in codes:
        return CorruptError(f"{where}: somebody else ended this upload. Nothing was put; try again.")
    if "NoSuchBucket" in codes:
        return StorageUnreachableError(f"{where}: there is no such bucket at {endpoint()}. Create it or mend the URI.")
    if name in _NO_CREDENTIALS:
        return AuthError(f"{where}: no usable S3 credentials ({name}). {_CREDENTIALS_ADVICE}")
    if codes & _REFUSED or isinstance(error, PermissionError):
        return AuthError(_refused(where, error, codes))
    if codes & _ABSENT or isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return MissingObjectError(errno.ENOENT, "there is no such object", where)
    if codes & _CHANGED or name in {"FlexibleChecksumError", "ChecksumMismatch"}:
        return CorruptError(f"{where} changed while it was transferred ({_reason(error, codes)}). Try again.")
    return StorageUnreachableError(_unreachable(where, error, codes))


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    codes, name = error_codes(error), type(error).__name__
    if codes:
        return bool(codes & _TRANSIENT)
    if name in _NO_CREDENTIALS or isinstance(error, FileNotFoundError | PermissionError | FileExistsError):
        return False
    return name not in {"SSLError", "ParamValidationError", "InvalidEndpointConfigurationError"}


def is_connect_failure(error: Exception) -> bool:
    """Whether nobody took the connection: waiting the whole deadline for that helps nobody."""
    return type(error).__name__ in _CONNECT


def endpoint() -> str:
    """The S3 endpoint of this process for messages, without user information."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return re.sub(r"//[^/@]*@", "//", url) if url else "the default S3 endpoint"


_CREDENTIALS_ADVICE = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where the command (and the cluster's node) runs."
)


def error_codes(error: Exception) -> frozenset[str]:
    """Error code and HTTP status of an S3 answer; s3fs keeps it as the cause of its own error."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
            return frozenset({str(response.get("Error", {}).get("Code", "")), str(status)} - {""})
    return frozenset()


def _reason(error: Exception, codes: frozenset[str]) -> str:
    if codes:
        return "S3 answered " + " ".join(sorted(codes))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _refused(where: str, error: Exception, codes: frozenset[str]) -> str:
    if not where.startswith("s3://"):
        path = getattr(error, "filename", None) or where
        return f"{where}: the file system refused access to {path}. Check its owner and mode."
    return (
        f"{where}: {endpoint()} refused the request ({_reason(error, codes)}). The key is wrong, expired or not "
        f"allowed here (without the right to list, a missing object looks the same). {_CREDENTIALS_ADVICE}"
    )


def _unreachable(where: str, error: Exception, codes: frozenset[str]) -> str:
    if not where.startswith("s3://"):
        return f"{where}: the file system failed: {_reason(error, codes)}. Free space or mend the mount, and retry."
    return (
        f"{where}: no usable answer from {endpoint()} ({_reason(error, codes)}). Is the server up and reachable from "
        "here? Check AWS_ENDPOINT_URL_S3 and the network. Requests are repeated for UDT_STORAGE_DEADLINE seconds."
    )
