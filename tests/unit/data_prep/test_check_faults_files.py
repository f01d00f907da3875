"""One source with one thing wrong, and what the check says of it: names, archives, bombs (rows D7, S7, S8)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.archive import unpack
from tests.checked_sources import CASES, check, mask, of, only, picture, save
from udt_cluster.errors import AuthError
from udt_cluster.storage import Location


def test_fault_D7_names(pairs: Path) -> None:
    for name, number in (("Größe 1", 11), ("C1", 12), ("odd\nname", 13)):
        save(pairs / f"images/{name}.png", picture(number))
        save(pairs / f"masks/{name}.png", mask(1))
    report = check(pairs)
    assert not report.blocks
    collision, unprintable = sorted(of(report, "D7", "warning"), key=lambda finding: finding.message)
    assert {collision.case, *collision.cases} == {"C1", "c1"}
    assert unprintable.case == "odd\nname"
    assert "Größe 1" in only(report, "D7", "note").case
    assert not any("\n" in line for line in report.to_lines()), "a name cannot forge a line"


def test_fault_D7_names_that_are_no_text_are_refused(pairs: Path) -> None:
    for folder in ("images", "masks"):
        (pairs / folder / "c0.png").rename(pairs / folder / b"c\xff.png".decode("utf-8", "surrogateescape"))
    report = check(pairs)
    findings = of(report, "D7")
    assert findings
    assert {finding.severity for finding in findings} == {"refused"}
    assert all("c\\udcff.png" in f"{finding.file}{finding.message}" for finding in findings), findings
    assert report.blocks
    report.to_html().encode()
    "\n".join(report.to_lines()).encode()


def test_fault_D7_missing_partners_are_named_and_the_rest_is_looked_at(pairs: Path) -> None:
    (pairs / "masks/c0.png").unlink()
    (pairs / "images/c1.png").unlink()
    (pairs / "images/c2.png").write_bytes(b"")
    report = check(pairs)
    assert {finding.file for finding in of(report, "D7")} == {"images/c0.png", "masks/c1.png"}
    assert all("quarantine" in finding.remedy for finding in of(report, "D7"))
    assert only(report, "D1").case == "c2"
    assert report.counts["good_cases"] == CASES - 3
    lenient = check(pairs, on_bad_case="quarantine")
    assert {finding.file for finding in of(lenient, "D7", "warning")} == {"images/c0.png", "masks/c1.png"}
    assert all("left out" in finding.remedy for finding in of(lenient, "D7", "warning"))
    assert not lenient.blocks


def test_fault_D7_symlink_loops_end_the_check_and_are_said(pairs: Path) -> None:
    (pairs / "images/again").symlink_to(pairs)
    report = check(pairs)
    assert "leads back" in only(report, "D7").message
    assert report.counts["cases"] == 0


def test_fault_D7_unreadable_files(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file of mode 000 gives to all but root."""
    read_bytes = Location.read_bytes

    def refused(self: Location, **part: int | None) -> bytes:
        if self.name == "c4.png":
            raise AuthError(f"{self}: the file system refused access")
        return read_bytes(self, **part)

    monkeypatch.setattr(Location, "read_bytes", refused)
    report = check(pairs)
    assert {finding.file for finding in of(report, "D7")} == {"images/c4.png", "masks/c4.png"}
    assert report.counts["good_cases"] == CASES - 1


def test_fault_D7_nothing_there(tmp_path: Path) -> None:
    assert "nothing is there" in only(check(tmp_path / "nowhere"), "D7").message


def test_fault_S7_an_archive_is_no_source(pairs: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", pairs)).rename(tmp_path / "no suffix")
    finding = only(check(archive), "S7")
    assert "data unpack" in finding.remedy
    unpack(archive, tmp_path / "unpacked")
    assert check(tmp_path / "unpacked").counts["good_cases"] == CASES


@pytest.mark.parametrize("kind", ["bomb", "PDF", "FITS", "EPS"])
def test_fault_S8_bombs_and_foreign_formats(pairs: Path, kind: str) -> None:
    foreign = {
        "PDF": b"%PDF-1.7\n" + bytes(500),
        "FITS": b"SIMPLE  =                    T" + bytes(3000),
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    if kind == "bomb":
        save(pairs / "images/c0.png", np.zeros((9600, 9600), bool))
    else:
        (pairs / "images/c0.png").write_bytes(foreign[kind])
    finding = only(check(pairs), "S8")
    assert (finding.case, finding.file, finding.severity) == ("c0", "images/c0.png", "refused")
