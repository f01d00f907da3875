"""What the driver keeps of every prepared case: a hundred thousand of them are some tens of megabytes."""

import json
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from data_prep.case import CaseSummary
from data_prep.staging import staged_path
from udt_cluster.storage import Location


@dataclass(frozen=True)
class StagedPlaces(Sequence[Location]):
    """Where cases wait; a place is made when it is asked for.

    Attributes:
        staging: Of the data set.
        keys: Of the cases.
    """

    staging: Location
    keys: Sequence[str]

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Location: ...

    @overload
    def __getitem__(self, index: slice) -> "StagedPlaces": ...

    def __getitem__(self, index: int | slice) -> "Location | StagedPlaces":
        if isinstance(index, slice):
            return StagedPlaces(self.staging, self.keys[index])
        return self.staging / staged_path(self.keys[index])


@dataclass(eq=False)
class KeptCases:
    """Summaries, packed: numbers as machines hold them, and equal texts once."""

    _keys: list[str] = field(default_factory=list)
    _summaries: list[CaseSummary] = field(default_factory=list)
    _metas: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, CaseSummary]]:
        """Key and summary of each."""
        return zip(self._keys, self._summaries, strict=True)

    def add(self, key: str, summary: CaseSummary) -> None:
        """One more.

        Args:
            key: Under which its pixels wait.
            summary: Of the case.
        """
        meta = self._metas.setdefault(json.dumps(dict(summary.meta), sort_keys=True), summary.meta)
        packed = replace(
            summary,
            group=summary.id if summary.group == summary.id else sys.intern(summary.group),
            split=sys.intern(summary.split),
            site=sys.intern(summary.site),
            dtype=sys.intern(summary.dtype),
            meta=meta,
            foreground=array("i", summary.foreground),
            hashes=array("Q", summary.hashes),
            turned=array("Q", summary.turned),
            spacing=array("d", summary.spacing),
            affine=array("d", summary.affine),
        )
        self._keys.append(key)
        self._summaries.append(packed)
