"""Which names of an archive may become files: those that stay inside the folder and are one file on every system."""

import re
import unicodedata

_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_PART = 255
_LONGEST_NAME = 4096
_MOST_PARTS = 64


def parts_of(name: str) -> list[str]:
    """The folders of a name and the file; `./a//b/` is a, b."""
    return [part for part in name.split("/") if part not in ("", ".")]


class NameBook:
    """The names that were seen so far, as a system that knows neither case nor Unicode forms would see them."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._spelling: dict[str, str] = {}

    @property
    def entries(self) -> int:
        """How many files and folders the names make, also the folders that are only part of another name."""
        return len(self._files) + len(self._folders)

    def problems(self, name: str, *, is_folder: bool) -> list[str]:
        """What is wrong with the next name of an archive; an empty list where nothing is."""
        complaint = _complaint(name, is_folder=is_folder) or self._collision(parts_of(name), is_folder=is_folder)
        return [f"{name[:200]!r} {complaint}"] if complaint else []

    def _collision(self, parts: list[str], *, is_folder: bool) -> str | None:
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", path).casefold()
            is_file = depth == len(parts) and not is_folder
            known = self._spelling.setdefault(folded, path)
            if known != path:
                return f"and {known!r} are one name where case and Unicode forms do not count"
            if is_file and folded in self._files:
                return "is there twice"
            if folded in (self._folders if is_file else self._files):
                return "is a file and a folder"
            (self._files if is_file else self._folders).add(folded)
        return None


def _complaint(name: str, *, is_folder: bool) -> str | None:
    if len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
        return f"is too long: at most {_LONGEST_NAME} bytes"
    parts = parts_of(name)
    if not name or not (parts or is_folder or name.startswith("/")):
        return "is an empty name"
    if name.startswith("/") or _DRIVE.match(name):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of the folder"
    if "\\" in name:
        return "has a backslash, which some systems take for a folder"
    if not name.isprintable():  # lone surrogates too: bytes that are not UTF-8
        return "has characters that cannot be printed, or is not UTF-8"
    if any(len(part.encode()) > _LONGEST_PART for part in parts) or len(parts) > _MOST_PARTS:
        return f"is too long: at most {_LONGEST_PART} bytes a part and {_MOST_PARTS} parts"
    return None
