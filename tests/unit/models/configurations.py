"""Every skip configuration of the study, in groups: what docs/models.md has a row for.

`python -m tests.unit.models.configurations` from the root of the repository writes the tables of docs/models.md anew.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from udt_cluster.config.job import ModelConfig
from udt_cluster.config.problems import flow
from udt_cluster.models import Cost, cost

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
ATTENTIONS = [["cfa"], ["ssa"], ["cfa", "ssa"], ["ssa", "cfa"]]
SUBSETS = [list(subset) for size in (4, 3, 2, 1, 0) for subset in itertools.combinations((1, 2, 3, 4), size)]
HEAD = "| `model:` | parameters | MACs at 224x224 |\n|---|---:|---:|\n"
ROW = re.compile(r"^\| `(?P<model>\{.*\})` \| (?P<parameters>[\d,]+) \| (?P<macs>[\d,]+) \|$", re.MULTILINE)

Settings = dict[str, Any]


def _with(level: int, kind: str, other: str) -> list[str]:
    return [kind if here == level else other for here in (1, 2, 3, 4)]


def _baseline(architecture: str) -> Iterator[Settings]:
    for subset in SUBSETS:
        skips = ["identity" if level in subset else "none" for level in (1, 2, 3, 4)]
        yield {"architecture": architecture, "skips": skips}
    yield {"architecture": architecture, "skips": ["zero"] * 4}


def _ladder() -> Iterator[Settings]:
    yield {"architecture": "r34_unet"}
    yield from ({"skips": ["dat"] * 4, "attention": attention} for attention in ATTENTIONS)
    yield from ({"skips": [kind] * 4} for kind in ("dra_spatial", "dra_channel"))


def _levels() -> Iterator[Settings]:
    yield from ({"skips": [kind] * 4} for kind in ("none", "identity"))
    for kind in ("none", "identity", "dat", "dra_spatial"):
        yield from ({"skips": _with(level, kind, "dra_channel")} for level in (1, 2, 3, 4))
    yield from ({"skips": _with(level, "dra_channel", "none")} for level in (1, 2, 3, 4))


def _sizes() -> Iterator[Settings]:
    yield from ({"num_layers": layers} for layers in (1, 2, 3, 6, 8))
    yield from ({"num_heads": heads} for heads in (1, 2, 8))
    yield from ({"num_heads": heads, "embed_dim": 32 * heads} for heads in (1, 2, 8))
    yield from ({"mlp_ratio": ratio} for ratio in (1, 4))


GROUPS: dict[str, list[Settings]] = {
    "ladder": list(_ladder()),
    "unet": list(_baseline("unet")),
    "r34_unet": list(_baseline("r34_unet")),
    "levels": list(_levels()),
    "scales": [{"scales": subset} for subset in SUBSETS if subset],
    "attention": [{"attention": attention} for attention in ATTENTIONS],
    "sizes": list(_sizes()),
}


def measured(settings: Settings) -> Cost:
    """For three channels and one class, as the published numbers."""
    return cost(ModelConfig(**settings), in_channels=3, num_classes=1, size=(224, 224))


def rows(text: str) -> list[tuple[str, int, int]]:
    """Settings, parameters and multiply-accumulates of every row of the page."""
    found = ROW.finditer(text)
    return [(row["model"], *(int(row[name].replace(",", "")) for name in ("parameters", "macs"))) for row in found]  # type: ignore[misc]


def _table(group: list[Settings]) -> str:
    costs = ((settings, measured(settings)) for settings in group)
    return HEAD + "".join(f"| `{flow(settings)}` | {it.parameters:,} | {it.macs:,} |\n" for settings, it in costs)


def _written(text: str) -> str:
    for name, group in GROUPS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        assert text.count(begin) == text.count(end) == 1, name
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{_table(group)}{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(_written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
