"""docs/faults.md and the tests agree: no row without its tests, no fault that is tested and not listed."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| ([A-Z]\d+) \| ", re.MULTILINE)
_ID = re.compile(r"([a-z]\d+)_(?:and_)?", re.IGNORECASE)


def injected() -> set[str]:
    """Names of all tests that name a fault."""
    files = (REPOSITORY / "tests").rglob("*.py")
    return {name for file in files for name in re.findall(r"def (test_fault_\w+)\(", file.read_text())}


def ids_of(name: str) -> set[str]:
    """The faults that a test's name begins with: `test_fault_z2_z4_...` is of two."""
    rest, found = name.removeprefix("test_fault_"), set()
    while match := _ID.match(rest):
        found.add(match[1].upper())
        rest = rest[match.end() :]
    return found


def table() -> dict[str, str]:
    """Row of each fault."""
    lines = (REPOSITORY / "docs" / "faults.md").read_text().splitlines()
    rows = [(match[1], line) for line in lines if (match := _ROW.match(line))]
    assert len(rows) == len(dict(rows)), "a fault has one row"
    return dict(rows)


def test_every_test_that_the_table_names_exists() -> None:
    text = "\n".join(table().values())
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 60
    assert set(named) - injected() == set()


def test_every_fault_that_has_a_test_has_a_row() -> None:
    tested = {fault for name in injected() for fault in ids_of(name)}
    assert tested - set(table()) == set()


def test_every_row_names_tests_of_its_own_fault() -> None:
    for fault, row in table().items():
        columns = [column.strip() for column in row.strip("|").split(" | ")]
        assert len(columns) == 5, fault
        named = re.findall(r"`(test_fault_\w+)`", columns[3])
        assert named, fault
        assert all(fault in ids_of(name) for name in named), fault


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("test_fault_z2_z4_objects_lost", {"Z2", "Z4"}),
        ("test_fault_F2_and_F3_a_hang", {"F2", "F3"}),
        ("test_fault_S7_10_gb_of_zeros", {"S7"}),
        ("test_fault_D1_broken", {"D1"}),
    ],
)
def test_a_name_may_be_of_several_faults(name: str, faults: set[str]) -> None:
    assert ids_of(name) == faults
