"""The page of an explanation: one HTML file that needs nothing else."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import udt_cluster.evaluation.explain.page_text as text
from udt_cluster.evaluation.explain.charts import KIND_NAMES, effect_of
from udt_cluster.evaluation.explain.findings import Findings
from udt_cluster.evaluation.explain.look import CaseLook
from udt_cluster.evaluation.explain.pictures import (
    CHANNELS,
    DROPS,
    NETWORK,
    SIMILARITY,
    case_name,
    map_name,
    map_title,
)
from udt_cluster.pages import STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MORE_CSS = """
figure { margin: 0 0 14px; } figure.card img { width: 100%; border-radius: 6px; display: block; background: #fff; }
figure.card img { padding: 6px; } .card + h3 { margin-top: 18px; }
figure.narrow img { max-width: 560px; margin: 0 auto; } figcaption { font-size: 13px;
  max-width: 84ch; margin-top: 8px; }
.notes { margin: 16px 0 0; padding: 10px 14px 10px 32px; border-radius: 10px; } .scroll { overflow-x: auto; }
.method p { max-width: 84ch; } td.reading { color: var(--faint); font-size: 13px; } th.number { text-align: right; }
.lead { max-width: 84ch; } td.number, .kind { white-space: nowrap; }
.maps { grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); }
"""
Row = Mapping[str, Any]
Pictures = Mapping[str, bytes]


def render(report: Mapping[str, Any], findings: Findings, pictures: Pictures) -> str:
    """The page.

    Args:
        report: What explain.json holds.
        findings: The same, and the cases that are drawn.
        pictures: By file name.
    """
    title = f"Skips of {report['about'].get('model', report['architecture'])}"
    body = "".join(
        [
            _header(report, title),
            '<main id="main">',
            *_effects(report, pictures),
            *_similarity(report, pictures),
            *_channels(report, pictures),
            *_cases(findings, pictures),
            *_maps(findings, pictures),
            _method(report),
            "</main>",
            "<footer>udt-cluster explain. Tables and pictures lie beside this page. It shows pictures of patients: "
            "keep it where the data is.</footer>",
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        f"<style>{STYLE}{_MORE_CSS}</style></head><body>{body}</body></html>\n"
    )


def _text(value: object) -> str:
    return escape("".join(sign if sign.isprintable() else "\ufffd" for sign in str(value)), quote=True)


def _header(report: Mapping[str, Any], title: str) -> str:
    about = ", ".join(f"{_text(name)} <code>{_text(value)}</code>" for name, value in report["about"].items())
    dice = next((row["dice"] for row in report["effects"]), math.nan)
    tiles = [
        (str(report["cases"]), "cases"),
        (str(report["groups"]), "groups"),
        (_number(dice), "Dice, intact"),
        (str(sum(kind not in ("none", "zero") for kind in report["skips"])), "levels with a skip"),
        *([(str(report["members"]), "members")] if report["members"] > 1 else []),
    ]
    items = "".join(f"<li><b>{number}</b><span>{label}</span></li>" for number, label in tiles)
    notes = "".join(f"<li>{_text(warning)}</li>" for warning in report["warnings"])
    notes = f'<ul class="notes warning">{notes}</ul>' if notes else ""
    return (
        f'<header><a class="skip" href="#main">Skip to the findings</a><h1>{_text(title)}</h1>'
        f'<p class="source">{about}</p><ul class="tiles">{items}</ul>{notes}</header>'
    )


def _figure(pictures: Pictures, name: str, *, alternative: str, caption: str, kind: str = "") -> str:
    """A picture in a card; `caption` is HTML."""
    if name not in pictures:
        return ""
    data = base64.b64encode(pictures[name]).decode()
    image = f'<img alt="{_text(alternative)}" src="data:image/png;base64,{data}">'
    return f'<figure class="card {kind}">{image}<figcaption>{caption}</figcaption></figure>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = (0,)) -> str:
    """A table of HTML cells; columns that are not `words` are set as numbers."""

    def marked(index: int) -> str:
        return "" if index in words else ' class="number"'

    top = "".join(f'<th scope="col"{marked(index)}>{head}</th>' for index, head in enumerate(heads))
    lines = "".join(
        "<tr>" + "".join(f"<td{marked(index)}>{cell}</td>" for index, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="card scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _effects(report: Mapping[str, Any], pictures: Pictures) -> Iterator[str]:
    rows = report["effects"]
    yield "<section><h2>What each skip is worth to this network</h2>"
    yield _figure(pictures, NETWORK, alternative="The network with the Dice lost at each skip", caption=text.NETWORK)
    if not rows:
        yield "</section>"
        return
    levels = list(dict.fromkeys(row["level"] for row in rows))
    heads = ["level", "skip", "Dice", "zeroed", "lost", "95 % interval", "shuffled", "lost", "95 % interval", "reading"]
    cells = [_effect_cells(report, level) for level in levels]
    yield _table(heads, cells, words=(0, 1, 9))
    yield _classes(report, levels)
    yield "<h2>Case by case</h2>"
    yield _figure(pictures, DROPS, alternative="Dice lost by each case at each level", caption=text.DROPS)
    yield "</section>"


def _effect_cells(report: Mapping[str, Any], level: str) -> list[str]:
    zeroed, shuffled = (effect_of(report["effects"], kind, level) for kind in ("zeroed", "shuffled"))
    assert zeroed is not None
    kind = _kind(report["skips"][int(level) - 1]) if level.isdigit() else ""
    cells = [level, kind, _number(zeroed["dice"])]
    for row in (zeroed, shuffled):
        cells += ["-", "-", "-"] if row is None else [_number(row["dice_changed"]), _number(row["drop"]), _ends(row)]
    return [*cells, f'<span class="faint">{text.reading(zeroed, shuffled)}</span>']


def _classes(report: Mapping[str, Any], levels: Sequence[str]) -> str:
    """Dice lost by each class, where there are several."""
    names = report["class_names"][1:]
    if len(names) < 2:
        return ""
    found = {(row["kind"], row["level"], row["class"]): row["drop"] for row in report["effects"]}
    cells = [
        [f"{kind}, {level}", *(_number(found.get((kind, level, name), math.nan)) for name in names)]
        for kind in ("zeroed", "shuffled")
        for level in levels
    ]
    return f"<h3>Dice lost, by class</h3>{_table(['change, level', *map(_text, names)], cells)}"


def _similarity(report: Mapping[str, Any], pictures: Pictures) -> Iterator[str]:
    yield "<section><h2>The semantic gap, measured</h2>"
    yield _figure(pictures, SIMILARITY, alternative="CKA at both ends of each skip", caption=text.SIMILARITY)
    heads = ["level", "linear CKA of", "mean of cases", "95 % interval", "all cases together", "cases"]
    cells = [
        [
            str(row["level"]),
            text.COLUMNS[row["side"]],
            _number(row["cka"]),
            _range(row["low"], row["high"]),
            _number(row["pooled"]),
            str(row["cases"]),
        ]
        for row in report["similarity"]
    ]
    yield _table(heads, cells, words=(0, 1))
    yield "</section>"


def _channels(report: Mapping[str, Any], pictures: Pictures) -> Iterator[str]:
    rows = [row for row in report["channels"] if row["member"] == 0]
    if not rows:
        return
    yield "<section><h2>Which channels pass</h2>"
    yield _figure(pictures, CHANNELS, alternative="Output of each channel, by level", caption=text.CHANNELS)
    heads = ["level", "skip", "channels", "dead", "gate never open", "gate open at", "channels for 90 %", "strongest"]
    cells = [
        [
            str(row["level"]),
            _kind(row["kind"]),
            str(row["channels"]),
            f"{row['dead']} ({row['dead'] / row['channels']:.0%})",
            "-" if row["gate_closed"] is None else str(row["gate_closed"]),
            "-" if row["gate_active"] is None else f"{row['gate_active']:.0%} of places",
            f"{row['most']} ({row['most'] / row['channels']:.0%})",
            ", ".join(map(str, row["strongest"])),
        ]
        for row in rows
    ]
    yield _table(heads, cells, words=(0, 1, 7))
    yield "</section>"


def _cases(findings: Findings, pictures: Pictures) -> Iterator[str]:
    if not findings.looks:
        return
    yield "<section><h2>On images</h2>"
    for look in findings.looks:
        yield _case(look, pictures, findings.class_names)
    yield "</section>"


def _case(look: CaseLook, pictures: Pictures, class_names: Sequence[str]) -> str:
    words = {"worst": "the worst", "best": "the best", "median": "the median", "between": "in between"}
    index, depth = look.slice
    where = f", slice {index + 1} of {depth}" if depth > 1 else ""
    head = f"<h3>{_text(look.case)}, {words[look.why]}: Dice {_number(look.dice)}{where}</h3>"
    changes = _figure(
        pictures,
        case_name("zeroed", look),
        alternative=f"Masks of {look.case} with each skip zeroed",
        caption=text.CHANGES,
    )
    attention = _figure(
        pictures,
        case_name("attention", look),
        alternative=f"Attention of {look.chosen} in {look.case}",
        caption=text.ATTENTION.format(chosen=_text(look.chosen)),
    )
    return head + changes + attention


def _maps(findings: Findings, pictures: Pictures) -> Iterator[str]:
    maps = findings.members[0].maps
    if not maps:
        return
    yield f'<section><h2>Attention between channels</h2><p class="lead faint">{text.MAPS}</p><div class="grid maps">'
    for kind, place in sorted(maps):
        title = map_title(kind, place)
        yield _figure(
            pictures, map_name(kind, place), alternative=f"Attention between channels: {title}", caption=title
        )
    yield "</div></section>"


def _method(report: Mapping[str, Any]) -> str:
    donors = text.DONORS_OTHER if report["donors_of_other_groups"] else text.DONORS_ANY
    return f'<section class="method"><h2>How this was measured</h2>{text.METHOD.format(donors=donors)}</section>'


def _kind(kind: str) -> str:
    return f'<span class="kind">{KIND_NAMES[kind]}</span>'


def _number(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\u2212")


def _ends(row: Row) -> str:
    return _range(row["drop_low"], row["drop_high"])


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "too few groups"
    return f"{_number(low)} to {_number(high)}"
