"""Pseudonyms of cases, patients and sites: a keyed hash, whose key and whose table back stay on this machine.

`<home>/pseudonyms/key` is made once; `<home>/pseudonyms/<dataset>.csv` says which pseudonym was which case, so that a
table of scores can be traced back by whoever may. Both are readable by their owner alone, and neither is ever stored
beside the data.
"""

import csv
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_prep.case import Case, Discovery
from data_prep.source import natural_order
from udt_cluster.errors import DataError

FOLDER = "pseudonyms"
_KEY_BYTES = 32
_HEX_DIGITS = 20
_SHORTEST_WITHIN = 4
_COLUMNS = ("pseudonym", "case", "group_pseudonym", "group", "site_pseudonym", "site")


@dataclass(frozen=True)
class Pseudonyms:
    """Names of one data set's cases, patients and sites, and what takes their place.

    The same key, data set and name always give the same pseudonym: 80 bits of HMAC-SHA256.

    Attributes:
        dataset: Name of the data set; two data sets of one patient have nothing in common.
        folder: Where the key and the tables are.
    """

    dataset: str
    folder: Path
    _key: bytes = field(repr=False)

    @classmethod
    def open(cls, home: Path, dataset: str) -> "Pseudonyms":
        """Read the key of this machine, or make it.

        Args:
            home: `UDT_HOME`.
            dataset: As in storage.

        Raises:
            DataError: the key file is there, and is none or may be read by others.
        """
        folder = home / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(dataset, folder, _key_of(folder / "key"))

    @property
    def table(self) -> Path:
        """The table that leads back."""
        return self.folder / f"{self.dataset}.csv"

    def of(self, name: str) -> str:
        """The pseudonym of one name."""
        digest = hmac.new(self._key, f"{self.dataset}\0{name}".encode("utf-8", "surrogateescape"), "sha256")
        return f"p{digest.hexdigest()[:_HEX_DIGITS]}"

    def apply(self, discovery: Discovery) -> Discovery:
        """The same discovery under pseudonyms, in their order; the table is brought up to date.

        Ids, groups and sites are replaced, and the names of each in the warnings. Keys of files stay: without them
        nothing could be read, and they are not stored.

        Raises:
            DataError: two names have one pseudonym (it would take 10^12 cases to see it).
        """
        renamed = {name: self.of(name) for case in _all(discovery) for name in _names(case)}
        if len(set(renamed.values())) < len(renamed):
            raise DataError(f"{self.folder}: two names have one pseudonym; delete the key, and prepare again")
        self._remember(_all(discovery), renamed)

        def hidden(case: Case) -> Case:
            return replace(case, id=renamed[case.id], group=renamed[case.group], site=renamed.get(case.site, ""))

        return replace(
            discovery,
            cases=tuple(sorted(map(hidden, discovery.cases), key=lambda case: natural_order(case.id))),
            warnings=tuple(_concealed(warning, renamed) for warning in discovery.warnings),
            left_out=tuple(replace(entry, case=hidden(entry.case)) for entry in discovery.left_out),
        )

    def originals(self) -> dict[str, str]:
        """The case that each pseudonym stands for, of everything that was ever prepared here under this name."""
        return {row[0]: row[1] for row in self._rows()}

    def _rows(self) -> set[tuple[str, ...]]:
        if not self.table.exists():
            return set()
        with self.table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = (tuple(row) for row in csv.reader(file) if row[:1] != [_COLUMNS[0]])
            return {(*row, *[""] * (len(_COLUMNS) - len(row))) for row in rows}

    def _remember(self, cases: Iterable[Case], renamed: dict[str, str]) -> None:
        rows: set[tuple[str, ...]] = {
            (renamed[case.id], case.id, renamed[case.group], case.group, renamed.get(case.site, ""), case.site)
            for case in cases
        }
        known = {row[:4] for row in rows}
        rows |= {row for row in self._rows() if row[-1] or row[:4] not in known}
        scratch = self.table.with_name(f".{self.table.name}.{secrets.token_hex(8)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *sorted(rows, key=lambda row: row[1])])
        scratch.replace(self.table)


def _all(discovery: Discovery) -> list[Case]:
    return [*discovery.cases, *(entry.case for entry in discovery.left_out)]


def _key_of(path: Path) -> bytes:
    """Several processes may be the first at once: the first link wins, and all read what it holds."""
    if not path.exists():
        scratch = path.with_name(f".key.{secrets.token_hex(8)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:  # noqa: PTH123
            file.write(secrets.token_hex(_KEY_BYTES))
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise DataError(
            f"{path} may be read by others (mode {mode:04o}); whoever has it can find out who a pseudonym stands for. "
            f"Run: chmod 600 {path}"
        )
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DataError(
            f"{path} is no key. Bring the file back from a backup; with a new one all pseudonyms become others."
        )
    return key


def _concealed(text: str, renamed: dict[str, str]) -> str:
    """All at once, the longest first: no name is looked for in a pseudonym."""
    names = sorted((name for name in renamed if name in text), key=len, reverse=True)
    return re.sub("|".join(map(_pattern, names)), lambda found: renamed[found[0]], text) if names else text


def _pattern(name: str) -> str:
    """A short name stands for itself only as a whole word: the patient `a` is not in every sentence."""
    return re.escape(name) if len(name) >= _SHORTEST_WITHIN else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"


def _names(case: Case) -> tuple[str, ...]:
    return (case.id, case.group, *([case.site] if case.site else []))
