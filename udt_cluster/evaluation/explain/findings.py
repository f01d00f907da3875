"""What was found in all members of a model, put together: the numbers of explain.json and of its tables."""

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from udt_cluster.evaluation.explain.channels import summarized
from udt_cluster.evaluation.explain.effect import CaseEffect, case_rows, mean_by_group, summarize_effects
from udt_cluster.evaluation.explain.look import CaseLook
from udt_cluster.evaluation.explain.measure import ENCODER, SKIP, MemberFindings
from udt_cluster.evaluation.explain.network import LEVELS

Row = dict[str, Any]
TABLES = ("zeroed.csv", "shuffled.csv", "cka.csv", "channels.csv", "attention.csv", "cfa.csv")
_LEAST_GROUPS_SAID = 6


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was found.

    Attributes:
        members: One entry for each network.
        looks: The cases that are drawn.
        class_names: By index, the background first.
        skips: Kind of each level, level 1 first.
    """

    members: Sequence[MemberFindings]
    looks: Sequence[CaseLook]
    class_names: tuple[str, ...]
    skips: tuple[str, ...]

    @property
    def effects(self) -> list[CaseEffect]:
        """Of all members."""
        return [effect for member in self.members for effect in member.effects]

    @property
    def cases(self) -> dict[str, str]:
        """Group of each case."""
        return {one.case: one.group for member in self.members for one in member.similarity}

    def effect_rows(self) -> list[Row]:
        """A row for each change and class."""
        return summarize_effects(self.effects, self.class_names) if self.effects else []

    def similarity_rows(self) -> list[Row]:
        """A row for each level and side: the mean over cases with its interval, and CKA of all cases together."""
        rows = []
        for level in LEVELS:
            for side in (ENCODER, SKIP):
                found = [s for m in self.members for s in m.similarity if (s.level, s.side) == (level, side)]
                if not found:
                    continue
                mean = mean_by_group([one.cka for one in found], [one.group for one in found])
                pooled = [member.pooled[level, side] for member in self.members]
                rows.append(
                    {
                        "level": level,
                        "side": side,
                        "cka": mean.mean,
                        "low": mean.low,
                        "high": mean.high,
                        "cases": mean.cases,
                        "groups": mean.groups,
                        "pooled": _mean(pooled),
                    }
                )
        return rows

    def channel_rows(self) -> list[Row]:
        """A row for each skip of each member."""
        return [
            {"member": member.member, "level": level}
            | summarized([row for row in member.channels if row.level == level])
            for member in self.members
            for level in member.kinds
        ]

    def attention_rows(self) -> list[Row]:
        """A row for each map of attention between places, of the cases that are drawn."""
        names = ("kind", "block", "level", "head", "on_object", "object_share")
        return [
            {
                "case": look.case,
                "slice": look.slice[0],
                "place": look.chosen,
                **{name: getattr(found, name) for name in names},
                **{f"scale_{scale}": found.scales.get(scale) for scale in LEVELS},
            }
            for look in self.looks
            for found in look.maps
        ]

    def fusion_rows(self, scales: Sequence[int]) -> list[Row]:
        """How much the channels of each scale take, in CFA, from those of each scale: shares that sum to 1."""
        return [
            {"member": member.member, "block": block, "of_level": to, "from_level": source, "share": share}
            for member in self.members
            for (kind, block), weights in member.maps.items()
            if kind == "cfa"
            for to, row in zip(scales, _by_scale(weights.numpy(), len(scales)), strict=True)
            for source, share in zip(scales, row, strict=True)
        ]

    def warnings(self, *, head_merge: str | None, heads: int, patients_known: bool) -> list[str]:
        """What a reader must know before believing it."""
        groups = set(self.cases.values())
        said = []
        if not patients_known:
            said.append(
                "patients are not known: every case counts as a group of its own, and where some are of one patient "
                "the intervals are too narrow"
            )
        if len(groups) < _LEAST_GROUPS_SAID:
            said.append(f"{len(groups)} groups are too few for intervals: six are the least; take these as examples")
        if any(not member.donors.of for member in self.members):
            said.append("one case alone cannot be given the skips of another: nothing was shuffled")
        elif any(not member.donors.other_groups for member in self.members):
            said.append("one group has more than half of the cases: shuffled skips may come from the same patient")
        if len(self.members) > 1:
            said.append(
                f"the model is an ensemble of {len(self.members)} networks: each is measured alone, on its own cases; "
                "pictures, channels and maps on the page are of the first"
            )
        if not any(member.kinds for member in self.members):
            said.append("this network has no skip: there is nothing to zero or to shuffle")
        if head_merge == "released" and heads > 1:
            said.append(
                "head_merge is released: behind the attention of scales 2 to 4 tokens get mixed, so that what a token "
                "looked at is not what arrives at its place"
            )
        return said


def _by_scale(weights: np.ndarray[Any, Any], scales: int) -> list[list[float]]:
    """(S*E, S*E) whose rows sum to 1 -> (S, S) mean share that channels of one scale take from another's."""
    width = len(weights) // scales
    table = weights.reshape(scales, width, scales, width).sum(3).mean(1)
    return [[float(share) for share in row] for row in table]


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else math.nan


def write_tables(folder: Path, findings: Findings, scales: Sequence[int]) -> None:
    """One CSV for each kind of finding; a table without rows has its header alone. Undefined numbers are empty."""
    effects = findings.effects
    for kind in ("zeroed", "shuffled"):
        rows = case_rows([effect for effect in effects if effect.change.kind == kind], findings.class_names)
        _write(folder / f"{kind}.csv", _EFFECT_COLUMNS, rows)
    similarity = [asdict(one) for member in findings.members for one in member.similarity]
    _write(folder / "cka.csv", ("member", "case", "group", "level", "side", "cka"), similarity)
    channels = [{"member": member.member, **asdict(row)} for member in findings.members for row in member.channels]
    _write(folder / "channels.csv", _CHANNEL_COLUMNS, channels)
    _write(folder / "attention.csv", _ATTENTION_COLUMNS, findings.attention_rows())
    _write(folder / "cfa.csv", ("member", "block", "of_level", "from_level", "share"), findings.fusion_rows(scales))
    maps = {
        f"member{member.member}_{kind}_{place}": weights.numpy().astype(np.float32)
        for member in findings.members
        for (kind, place), weights in member.maps.items()
    }
    if maps:
        np.savez_compressed(folder / "maps.npz", **maps)  # type: ignore[arg-type]


_EFFECT_COLUMNS = ("member", "case", "group", "level", "class", "dice", "dice_changed", "drop")
_CHANNEL_COLUMNS = (
    *("member", "level", "kind", "channel", "skip_mean", "skip_active", "gate_mean", "gate_active", "received"),
)
_ATTENTION_COLUMNS = (
    *("case", "slice", "place", "kind", "block", "level", "head", "on_object", "object_share"),
    *(f"scale_{level}" for level in LEVELS),
)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row[name]) for name in columns])


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else value
