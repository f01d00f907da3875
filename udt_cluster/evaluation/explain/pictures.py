"""Every picture of an explanation, by the name of its file."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from udt_cluster.evaluation.explain.case_pictures import draw_attention, draw_changes
from udt_cluster.evaluation.explain.charts import (
    KIND_NAMES,
    draw_channels,
    draw_drops,
    draw_map,
    draw_network,
    draw_similarity,
)
from udt_cluster.evaluation.explain.findings import Findings
from udt_cluster.evaluation.explain.look import CaseLook

NETWORK, DROPS, SIMILARITY, CHANNELS = "network.png", "drops.png", "similarity.png", "channels.png"


def draw_all(findings: Findings, report: Mapping[str, Any], scales: Sequence[int]) -> dict[str, bytes]:
    """The pictures as PNG; those of cases and maps are of the first member.

    Args:
        findings: What was found.
        report: The same as rows.
        scales: Levels whose tokens the transformer has.
    """
    found = {
        NETWORK: draw_network(report["effects"], findings.skips),
        SIMILARITY: draw_similarity(report["similarity"]),
    }
    if report["effects"]:
        levels = list(dict.fromkeys(row["level"] for row in report["effects"]))
        found[DROPS] = draw_drops(report["effects"], _drops(findings), levels)
        found[CHANNELS] = draw_channels(findings.members[0].channels)
    for (kind, place), weights in findings.members[0].maps.items():
        parts = [f"level {scale}" for scale in scales] if kind == "cfa" else []
        found[map_name(kind, place)] = draw_map(weights.numpy(), parts=parts)
    for look in findings.looks:
        found[case_name("zeroed", look)] = draw_changes(look)
        if (attention := draw_attention(look)) is not None:
            found[case_name("attention", look)] = attention
    return found


def _drops(findings: Findings) -> dict[tuple[str, str], list[float]]:
    drops: dict[tuple[str, str], list[float]] = {}
    for effect in findings.effects:
        drops.setdefault((effect.change.kind, effect.change.level), []).append(effect.drop())
    return drops


def map_name(kind: str, place: int) -> str:
    """File name of a map between channels."""
    return f"maps/cfa_block{place}.png" if kind == "cfa" else f"maps/{kind}_level{place}.png"


def map_title(kind: str, place: int) -> str:
    """What it is called on the page."""
    return f"CFA, block {place}" if kind == "cfa" else f"{KIND_NAMES[kind]}, level {place}"


def case_name(what: str, look: CaseLook) -> str:
    """File name of a picture of a case."""
    return f"cases/{what}_{look.why}_{re.sub(r'[^A-Za-z0-9._-]+', '-', look.case)[:80]}.png"
