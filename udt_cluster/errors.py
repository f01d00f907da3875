"""Every error that a user can meet, and the exit code that each one ends a command with.

::

    UdtError                      1  something failed
    |-- JobFailedError            1  the job ran and failed
    |-- UsageError                2  the command line is wrong (an unknown job id, a bad argument)
    |   `-- JobFileError          2  the job file is wrong
    |-- RefusedError              3  the request was understood and refused
    |   |-- DataError             3  data that must not be trained on
    |   |-- CorruptError          3  a stored object is missing or is not what was committed
    |   |-- AuthError             3  no credentials, or the wrong ones
    |   `-- VersionError          3  client and target, or code and stored format, do not match
    `-- UnreachableError          4  target, tracking or storage did not answer
        |-- StorageUnreachableError
        |-- TrackingUnreachableError
        `-- TargetUnreachableError

A message says where, what was found, what is allowed and what to do next. ``problems`` lists every finding when there
is more than one, because nobody wants to learn of them one at a time.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

INTERRUPTED_EXIT_CODE = 130
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


def without_credentials(text: str) -> str:
    """The text without what stands between `://` and `@`: what is printed, logged or stored may not repeat it."""
    return _CREDENTIALS.sub("***@", text)


class UdtError(Exception):
    """Base of all errors meant for a user.

    Args:
        message: One or more lines; the first names what is wrong.
        problems: Every single finding, each a line of its own.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.message = without_credentials(message)
        self.problems = tuple(without_credentials(problem) for problem in problems)
        super().__init__(self.message)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - {problem}" for problem in self.problems)])

    def __reduce__(self) -> tuple[type["UdtError"], tuple[str, tuple[str, ...]]]:
        return type(self), (self.message, self.problems)


class JobFailedError(UdtError):
    """The job was accepted, ran, and failed."""


class UsageError(UdtError):
    """The command line is wrong."""

    exit_code = 2


class JobFileError(UsageError):
    """The job file is wrong; ``problems`` has one entry per field."""


class RefusedError(UdtError):
    """The request was understood and refused."""

    exit_code = 3


class DataError(RefusedError):
    """Data that must not be trained on; ``problems`` names every case."""


class CorruptError(RefusedError):
    """A stored object is missing, truncated or changed since it was committed."""


class AuthError(RefusedError):
    """Credentials are missing or were refused."""


class VersionError(RefusedError):
    """Versions that must be equal, or known, are not."""


class UnreachableError(UdtError):
    """Something that the command needs did not answer in time."""

    exit_code = 4


class StorageUnreachableError(UnreachableError):
    """Object storage did not answer in time."""


class TrackingUnreachableError(UnreachableError):
    """The MLflow server did not answer in time."""


class TargetUnreachableError(UnreachableError):
    """The Ray cluster did not answer in time."""
