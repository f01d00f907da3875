"""Unpacking an archive that somebody sent: whole and inside its folder, or not at all.

zip, tar, tar.gz, tar.bz2 and tar.xz, by content and not by name. Every name is checked before its file is written, and
bytes are counted while they are unpacked, since what an archive says of itself may be a lie.
"""

import bz2
import errno
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from data_prep.archive_names import NameBook, parts_of
from udt_cluster.errors import DataError, UsageError
from udt_cluster.storage import storage_errors

_PIECE = 2**20
_HEADER_BYTES = 2**14
"""Of one entry of a tar: its headers with a name of 4 KiB, and the block that tarfile reads ahead."""
_TRAILER_BYTES = 2**20
_SLACK = 2**16
_SHOWN = 20
_ENCRYPTED = 0x1
_COMPRESSIONS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    RuntimeError,  # a compression that zipfile does not know
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may become.

    Attributes:
        entries: Most files and folders.
        total_bytes: Most bytes of all files together.
        ratio: Most bytes unpacked for each byte of the archive, once `free_bytes` are reached.
        free_bytes: Up to here no ratio is looked at: masks of one value are tiny when they are packed.
    """

    entries: int = 2_000_000
    total_bytes: int = 500 * 10**9
    ratio: int = 200
    free_bytes: int = 2**30

    def most_bytes(self, archive_bytes: int) -> int:
        """How much an archive of this size may become."""
        return min(self.total_bytes, max(self.free_bytes, self.ratio * archive_bytes))


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive: how many files, and how many bytes they have."""

    folder: Path
    files: int
    size: int


def unpack(archive: Path, folder: Path, *, limits: Limits = Limits()) -> Unpacked:
    """Unpack an archive into a new folder.

    Files are written to a hidden folder beside it, which is renamed when all of them are there; whatever goes wrong,
    nothing half-written is left. Modes, owners and times of the archive are not taken over.

    Args:
        archive: zip or tar, plain or compressed by gzip, bzip2 or xz.
        folder: Where its content goes; must not exist, or be empty.
        limits: Of what it may become.

    Raises:
        UsageError: the archive is not there, or the folder is not empty.
        DataError: a name that leads elsewhere, a link, a device, two names that some systems take for one, more files
            or bytes than the limits allow, encryption, or a broken archive; ``problems`` names the entries.
    """
    if not archive.is_file():
        raise UsageError(f"{archive}: there is no such archive")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} is already there and not empty; name a new folder")
    with _beside(folder) as scratch:
        unpacking = _Unpacking(archive, scratch, limits)
        with storage_errors(folder), _own_errors(archive):
            unpacking.run()
            scratch.replace(folder)
    return Unpacked(folder=folder, files=unpacking.files, size=unpacking.written)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A hidden folder that is gone at the end unless it was renamed."""
    scratch = folder.absolute().parent / f".{uuid.uuid4().hex}.unpacking"
    with storage_errors(folder):
        scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _own_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{archive}: broken, truncated or no archive ({error}). Fetch it again.") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"{archive}: a name in it is too long for this folder. Name a folder nearer to /.") from error


class _Unpacking:
    """One archive on its way into one folder."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._most_bytes = limits.most_bytes(archive.stat().st_size)
        self._names = NameBook()
        self.files = 0
        self.written = 0

    def run(self) -> None:
        """Unpack all of it."""
        if zipfile.is_zipfile(self._archive):
            with zipfile.ZipFile(self._archive) as opened:
                self._unzip(opened)
            return
        with self._archive.open("rb") as packed, _decompressed(packed) as plain:
            self._untar(_Metered(plain))

    def _unzip(self, opened: zipfile.ZipFile) -> None:
        """A zip lists its content, so most of what is wrong with it is known before anything is written."""
        members = opened.infolist()
        self._refuse_excess(entries=len(members), size=sum(member.file_size for member in members))
        problems: list[str] = []
        for member in members:
            problems += self._zip_problems(member)
            self._refuse_excess(entries=self._names.entries, size=0)
        self._refuse(problems)
        for member in members:
            if not member.filename.endswith("/"):
                with opened.open(member) as content:
                    self._write(member.filename, content)

    def _zip_problems(self, member: zipfile.ZipInfo) -> list[str]:
        kind = stat.S_IFMT(member.external_attr >> 16)
        problems = self._names.problems(member.filename, is_folder=member.filename.endswith("/"))
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problems.append(f"{member.filename!r} is a link, a device or a pipe")
        if member.flag_bits & _ENCRYPTED:
            problems.append(f"{member.filename!r} is encrypted")
        return problems

    def _untar(self, plain: "_Metered") -> None:
        """A tar is a stream: what is wrong with a file is known when its turn comes."""
        plain.allow(_HEADER_BYTES)
        count = 0
        with tarfile.open(fileobj=plain, mode="r|") as opened:
            for member in opened:
                count += 1
                self._refuse_excess(entries=count, size=self.written + member.size)
                self._refuse(self._tar_problems(member))
                self._refuse_excess(entries=self._names.entries, size=self.written)
                plain.allow(member.size + _HEADER_BYTES)
                content = opened.extractfile(member)
                if content is not None:
                    self._write(member.name, content)
        plain.allow(_TRAILER_BYTES)
        while plain.read(_SLACK):  # the checksum of gzip and xz comes last
            pass

    def _tar_problems(self, member: tarfile.TarInfo) -> list[str]:
        problems = self._names.problems(member.name, is_folder=member.isdir())
        if not (member.isreg() or member.isdir()) or member.issparse():
            problems.append(f"{member.name!r} is a link, a device, a pipe or a sparse file")
        return problems

    def _write(self, name: str, content: IO[bytes]) -> None:
        target = self._folder.joinpath(*parts_of(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while piece := content.read(_PIECE):
                self.written += len(piece)
                self._refuse_excess(entries=self.files, size=self.written)
                file.write(piece)
        self.files += 1

    def _refuse_excess(self, *, entries: int, size: int) -> None:
        if entries > self._limits.entries:
            raise DataError(f"{self._archive}: more than {self._limits.entries:,} entries. It may be an attack.")
        if size > self._most_bytes:
            packed = self._archive.stat().st_size
            raise DataError(
                f"{self._archive}: {packed:,} bytes would become more than {self._most_bytes:,}. It may be an attack; "
                "if you trust it, unpack it with another program and check the folder."
            )

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
            raise DataError(
                f"{self._archive}: entries that are not unpacked, so nothing is; ask for an archive of plain files",
                [*problems[:_SHOWN], *more],
            )


@contextmanager
def _decompressed(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    start = packed.read(8)
    packed.seek(0)
    for magic, opener in _COMPRESSIONS.items():
        if start.startswith(magic):
            with opener(packed) as plain:
                yield plain
            return
    yield packed


class _Metered(io.RawIOBase):
    """A stream that may be read only as far as it was last allowed: a header cannot fill the memory."""

    def __init__(self, plain: IO[bytes]) -> None:
        self._plain = plain
        self._left = 0

    def allow(self, size: int) -> None:
        """So many bytes from here."""
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._plain.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError("too many bytes of it belong to no file")
        return data
