"""Texts that can be no path: told when the job is read, and not by a node that finds no such folder."""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

_Words = Callable[[str], str]
_ON_THE_NODES = "nodes find their own (AWS variables and files): write s3://BUCKET/PREFIX"
WRITE_IT = "write the path itself"
_FAULTS: tuple[tuple[re.Pattern[str], _Words], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"^\s*$", lambda text: "a path is missing"),
        (
            r"[\x00-\x1f\x7f]",
            lambda text: "a control character; in \"...\" a backslash begins an escape: use '/' or single quotes",
        ),
        (r"^[a-z][a-z0-9+.-]+://[^/]*@", lambda text: f"credentials in an address; {_ON_THE_NODES}"),
        (r"^[a-z]:([\\/]|$)", lambda text: f"a Windows path; write it as the nodes see it{_with_slashes(text)}"),
        (r"\\", lambda text: f"a backslash; folders are divided by '/': {text.replace(chr(92), '/')}"),
        (r"\$\{|\$\(|(^|/)\$\w|%\w+%", lambda text: f"variables are not expanded; {WRITE_IT}"),
        (r"\{\{|\{%", lambda text: f"templates are not expanded; {WRITE_IT}"),
        (r"<[^<>/]*>", lambda text: f"a placeholder; {WRITE_IT}"),
        (r"^['\"“”„‘’«»]", lambda text: f"a quotation mark in the path; {WRITE_IT} without it"),
        (r"^\s|\s$", lambda text: f"a space at the beginning or the end; write {text.strip()}"),
        (r"^~[^/]", lambda text: f"only ~/ is expanded, not the home of another user; {WRITE_IT}"),
        (r"^[\w.-]+@[\w.-]+:", lambda text: "a path on another machine; write a folder that the nodes see, or s3://"),
        (r"^file://(?!/)", lambda text: "file:// and an absolute path: file:///data"),
        (r"^s3:/*$|^s3:///", lambda text: "no bucket; write s3://BUCKET/PREFIX"),
        (r"^s3:(?!//)", lambda text: f"s3: without //; did you mean s3://{text[3:].lstrip('/')}?"),
        (r"^(?-i:S3|sS)://", lambda text: f"write s3:// in lower case: s3://{text[5:]}"),
        (r"^(?!s3:|file:)[a-z][a-z0-9+.-]*://", lambda text: "must be a folder or an s3:// prefix"),
    )
)
_PLACEHOLDER = re.compile(r"(^|/)path/to(/|$)", re.IGNORECASE)
_SYSTEM = re.compile(r"^/{1,2}((?:proc|sys)(?=/|$)|dev(?=$))")
"""Below /dev is /dev/shm, where data may well lie."""
_ARCHIVE = re.compile(r"\.(zip|rar|7z|tar|tgz|tbz2|txz|tar\.\w+)/?$", re.IGNORECASE)
_PICTURE = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|nii|gz|mha|nrrd|npy|npz|h5|dcm)$", re.IGNORECASE)


def path_fault(text: str) -> str | None:
    """Why a text is no path and no `s3://` URI, with the remedy; None when it may be one. Nothing is looked up."""
    return next((words(text) for pattern, words in _FAULTS if pattern.search(text)), None)


def source_fault(text: str) -> str | None:
    """As :func:`path_fault`, for the folder of a data set."""
    if (fault := path_fault(text) or system_fault(text)) is None and _ARCHIVE.search(text):
        name = text.rstrip("/").rpartition("/")[2]
        return f"an archive; unpack it first: udt-cluster data unpack {name} FOLDER"
    return fault


def system_fault(text: str) -> str | None:
    """Why a folder cannot be a data set whatever is in it: a placeholder, or a place of the system; else None."""
    path = posixpath.normpath(text.removeprefix("file://"))
    if _PLACEHOLDER.search(path):
        return "a placeholder; replace it by your folder"
    if path in ("/", "//"):
        return "the whole file system of a node, not a data set; name the folder that the images are in"
    if found := _SYSTEM.match(path):
        return f"/{found[1]} belongs to the operating system and has no images; name the folder that the images are in"
    return None


def inner_fault(text: str) -> str | None:
    """As :func:`path_fault`, for a folder within the source."""
    if (fault := path_fault(text)) is not None:
        return fault
    if text.startswith(("/", "~")) or ":" in text or ".." in text.split("/"):
        return "must be a folder in the source, without a '/' in front and without '..'"
    return None


def suffix_fault(text: str) -> str | None:
    """Why a text cannot stand between a mask's name and its extension; None when it can."""
    if "/" in text:
        return "a folder; name it as pairs.masks"
    found = _PICTURE.search(text)
    return f"without the extension: write {text[: found.start()] or '_mask'}" if found else None


def absolute(text: str, folder: Path) -> str:
    """A path as every node sees it: relative to `folder`, `~/` expanded; a URI and what is no path stay."""
    if path_fault(text) is not None or text.startswith(("s3://", "file://")):
        return text
    home = Path.home() if text == "~" or text.startswith("~/") else None
    return str((folder / (home / text[2:] if home else text)).resolve())


def _with_slashes(text: str) -> str:
    """An example with '/': the path behind the drive, as it might be mounted."""
    rest = text[2:].replace("\\", "/").strip("/")
    return f", with '/': for example /mnt/{rest}" if rest else ", with '/'"
