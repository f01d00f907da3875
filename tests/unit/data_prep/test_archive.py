"""Archives that somebody sent: what is unpacked, what is refused, and that nothing half-written is ever left."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.archive import Limits, unpack
from udt_cluster.errors import DataError, UsageError

FILES = {"images/a.png": b"first", "images/sub/Ünï 1.png": b"", "masks/a.png": b"m" * 3_000_000}
FORMATS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            archive.addfile(member(name, size=len(data)), io.BytesIO(data))
    return path


def member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def refused(archive: Path, folder: Path, **limits: int) -> DataError:
    """The error; and nothing of the archive is anywhere."""
    before = set(folder.parent.parent.rglob("*"))
    with pytest.raises(DataError) as error:
        unpack(archive, folder, limits=Limits(**limits))
    assert error.value.exit_code == 3
    assert set(folder.parent.parent.rglob("*")) == before, "nothing half-written, nothing outside"
    return error.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    return tmp_path / "deep" / "out"


@pytest.mark.parametrize("suffix", FORMATS)
def test_everything_arrives(tmp_path: Path, folder: Path, suffix: str) -> None:
    found = unpack(packed(tmp_path / f"a.{suffix}", FILES), folder)
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert (found.files, found.size) == (3, sum(map(len, FILES.values())))
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_what_it_is_called_does_not_matter_and_an_empty_folder_is_filled(tmp_path: Path, folder: Path) -> None:
    folder.mkdir()
    unpack(packed(tmp_path / "a.tar.gz", FILES).rename(tmp_path / "data.bin"), folder)
    assert (folder / "masks/a.png").stat().st_size == 3_000_000


def test_a_folder_with_content_is_not_touched(tmp_path: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        unpack(packed(tmp_path / "a.zip", FILES), folder)
    with pytest.raises(UsageError, match="no such archive"):
        unpack(tmp_path / "b.zip", folder)


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../evil", "leads out"),
        ("images/../../evil", "leads out"),
        ("/tmp/udt-evil", "absolute"),
        ("C:/evil", "absolute"),
        ("..\\evil", "backslash"),
        ("a/" * 70 + "b", "too long"),
        ("é" * 130, "too long"),
        ("line\nbreak", "cannot be printed"),
    ],
)
def test_fault_S7_names_that_lead_elsewhere(tmp_path: Path, folder: Path, suffix: str, name: str, says: str) -> None:
    error = refused(packed(tmp_path / f"a.{suffix}", {"good": b"1", name: b"evil"}), folder)
    assert says in error.problems[0]
    assert not Path("/tmp/udt-evil").exists()


@pytest.mark.parametrize("suffix", ["zip", "tar"])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a.png", "A.png"), "one name"),
        (("Case/a.png", "case/b.png"), "one name"),
        (("\u00e9.png", "e\u0301.png"), "one name"),
        (("a", "a/b"), "a file and a folder"),
        (("a/b", "a"), "a file and a folder"),
        (("a", "./a"), "there twice"),
    ],
)
def test_fault_S7_two_names_for_one_file(
    tmp_path: Path, folder: Path, suffix: str, names: tuple[str, str], says: str
) -> None:
    error = refused(packed(tmp_path / f"a.{suffix}", dict.fromkeys(names, b"1")), folder)
    assert says in error.problems[0]


@pytest.mark.parametrize(
    "info",
    [
        member("link", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("link", kind=tarfile.SYMTYPE, target="../../out"),
        member("link", kind=tarfile.LNKTYPE, target="/etc/passwd"),
        member("zero", kind=tarfile.CHRTYPE),
        member("disk", kind=tarfile.BLKTYPE),
        member("pipe", kind=tarfile.FIFOTYPE),
    ],
    ids=["symlink absolute", "symlink up", "hard link", "character device", "block device", "pipe"],
)
def test_fault_S7_links_and_devices_in_a_tar(tmp_path: Path, folder: Path, info: tarfile.TarInfo) -> None:
    error = refused(tar_of(tmp_path / "a.tar", member("good", size=4), info), folder)
    assert "is a link, a device" in error.problems[0]


def test_fault_S7_a_file_through_a_link_lands_nowhere(tmp_path: Path, folder: Path) -> None:
    """The old trick: a link to a folder outside, then a file inside the link."""
    (tmp_path / "outside").mkdir()
    link = member("way", kind=tarfile.SYMTYPE, target=str(tmp_path / "outside"))
    refused(tar_of(tmp_path / "a.tar", link, member("way/evil", size=4)), folder)
    assert not list((tmp_path / "outside").iterdir())


def test_fault_S7_links_in_a_zip(tmp_path: Path, folder: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "is a link" in refused(tmp_path / "a.zip", folder).problems[0]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_fault_S7_bombs(tmp_path: Path, folder: Path, suffix: str) -> None:
    """8 MB of zeros; the real limits let 1 GB pass before they look at the ratio."""
    archive = packed(tmp_path / f"a.{suffix}", {"good": b"1", "zeros": bytes(8 * 10**6)})
    assert "attack" in str(refused(archive, folder, free_bytes=10**6))
    assert "attack" in str(refused(archive, folder, total_bytes=10**6, ratio=10**6))
    assert unpack(archive, folder).size == 8 * 10**6 + 1


def test_fault_S7_10_gb_of_zeros_are_refused_before_anything_is_written(tmp_path: Path, folder: Path) -> None:
    """A zip that says so itself (its list of content is enough), and a tar whose header says so."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(member("zeros", size=10 * 10**9).tobuf() + bytes(1024))
    assert "attack" in str(refused(tar, folder))
    data = packed(tmp_path / "a.zip", {"zeros": bytes(1000)}).read_bytes()
    directory = data.index(b"PK\x01\x02")
    size = (4 * 10**9).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data[: directory + 24] + size + data[directory + 28 :])
    assert "attack" in str(refused(tmp_path / "a.zip", folder))


def test_fault_S7_a_zip_that_lies_about_its_size_gives_no_more_than_it_said(tmp_path: Path, folder: Path) -> None:
    data = packed(tmp_path / "a.zip", {"zeros": bytes(9 * 10**6)}).read_bytes()
    directory = data.index(b"PK\x01\x02")
    (tmp_path / "a.zip").write_bytes(data[: directory + 24] + (100).to_bytes(4, "little") + data[directory + 28 :])
    refused(tmp_path / "a.zip", folder)


def test_fault_S7_a_tar_header_cannot_fill_the_memory(tmp_path: Path, folder: Path) -> None:
    """A pax header of 64 MB of zeros; the reader of the standard library would read it whole."""
    header = member("./PaxHeaders/x", size=64 * 10**6, kind=tarfile.XHDTYPE).tobuf()
    archive = tmp_path / "a.tar"
    archive.write_bytes(header + bytes(64 * 10**6 + 1024))
    assert "belong to no file" in str(refused(archive, folder))


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_fault_S7_too_many_entries(tmp_path: Path, folder: Path, suffix: str) -> None:
    archive = packed(tmp_path / f"a.{suffix}", {str(number): b"" for number in range(30)})
    assert "more than 29 entries" in str(refused(archive, folder, entries=29))
    assert unpack(archive, folder, limits=Limits(entries=30)).files == 30


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"%PDF-1.7 no archive at all" * 50,
        lambda data: data[:200] + bytes([data[200] ^ 0xFF]) + data[201:],
    ],
    ids=["half", "empty", "foreign", "flipped"],
)
@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_fault_S7_broken_archives_leave_nothing(
    tmp_path: Path, folder: Path, suffix: str, harm: Callable[[bytes], bytes]
) -> None:
    archive = packed(tmp_path / f"a.{suffix}", {"a": os.urandom(3000), "b": os.urandom(3000)})
    archive.write_bytes(harm(archive.read_bytes()))
    assert "Fetch it again" in str(refused(archive, folder))


def test_fault_S7_encrypted_files_are_named(tmp_path: Path, folder: Path) -> None:
    data = bytearray(packed(tmp_path / "a.zip", {"secret": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert "'secret' is encrypted" in refused(tmp_path / "a.zip", folder).problems[0]


def test_fault_S7_folders_that_are_only_part_of_a_name_are_counted(tmp_path: Path, folder: Path) -> None:
    files = {f"{n}/a/b/c/x": b"" for n in range(5)}
    for kind in ("zip", "tar"):
        archive = packed(tmp_path / f"deep.{kind}", files)
        assert "more than 24 entries" in str(refused(archive, folder, entries=24))
        assert unpack(archive, folder.parent / kind, limits=Limits(entries=25)).files == 5


@pytest.mark.parametrize("name", ["", ".", "a/" * 2050 + "x", "n" * 256, "n" * 70_000])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_fault_S7_empty_and_too_long_names_are_refused(tmp_path: Path, folder: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"names.{kind}"
    if kind == "tar":
        tar_of(archive, member(name))
    else:
        info = zipfile.ZipInfo(name[:65_000])  # writestr() itself fails for an empty name
        with zipfile.ZipFile(archive, "w") as opened, opened.open(info, "w") as content:
            content.write(b"")
    error = refused(archive, folder)
    assert any(word in f"{error} {error.problems}" for word in ("empty name", "too long", "too many bytes"))


def test_fault_S7_headers_of_a_tar_have_room_for_the_longest_name(tmp_path: Path, folder: Path) -> None:
    name = "/".join(["n" * 60] * 40)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        archive = tmp_path / f"{form}.tar"
        with tarfile.open(archive, "w", format=form) as opened:
            for n in range(5):
                opened.addfile(member(f"{n}/{name}", size=700), io.BytesIO(bytes(700)))
        assert unpack(archive, folder.parent / str(form)).files == 5
