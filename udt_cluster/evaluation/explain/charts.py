"""The numbers of an explanation as figures: the U with its skips, drops of each case, similarity, use of channels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from udt_cluster.evaluation.explain.channels import ChannelUse
from udt_cluster.evaluation.explain.effect import MEAN_OF_CLASSES
from udt_cluster.evaluation.explain.network import LEVELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, LINE, PAPER = "#1d2433", "#616b7c", "#dfe2e8", "#ffffff"
COLORS = {"zeroed": "#2463b8", "shuffled": "#d9730d", "encoder": "#616b7c", "skip": "#2463b8"}
KIND_NAMES = {
    "identity": "identity",
    "dat": "DAT",
    "dra_channel": "DRA-C",
    "dra_spatial": "DRA-S",
    "none": "no skip",
    "zero": "zeros",
}
_DPI = 130
_Rows = Sequence[Mapping[str, Any]]


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple["Figure", BytesIO]]:
    """A figure of so many inches; when the block ends its PNG is in the buffer."""
    from matplotlib.figure import Figure  # half a second, needed for pictures only

    drawn, buffer = Figure(figsize=(width, height), dpi=_DPI, facecolor=PAPER, layout="constrained"), BytesIO()
    yield drawn, buffer
    drawn.savefig(buffer, format="png", facecolor=PAPER)


def bare(axis: "Axes", *, title: str = "", grid: Literal["", "y"] = "") -> None:
    """Take away what is no data."""
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(side == "bottom")
    axis.spines["bottom"].set_color(LINE)
    axis.tick_params(colors=FAINT, labelsize=9, length=0)
    if grid:
        axis.grid(axis=grid, color=LINE, linewidth=0.8)
        axis.set_axisbelow(True)
    axis.set_title(title, loc="left", fontsize=10, color=FAINT)


def effect_of(rows: _Rows, kind: str, level: str) -> Mapping[str, Any] | None:
    """The row of the mean over classes of one change."""
    found = (row for row in rows if (row["kind"], row["level"], row["class"]) == (kind, level, MEAN_OF_CLASSES))
    return next(found, None)


def draw_network(rows: _Rows, skips: Sequence[str]) -> bytes:
    """The U: encoder at the left, decoder at the right, each skip as thick as the Dice that falls without it.

    Args:
        rows: As `summarize_effects` makes them.
        skips: Kind of each level, level 1 first.
    """
    largest = max([row["drop"] for row in rows if row["kind"] == "zeroed" and row["level"] != "all"], default=0.0)
    with figure(9.2, 4.3) as (drawn, buffer):
        axis = drawn.add_subplot()
        axis.set(xlim=(0, 10), ylim=(-0.15, 5.1))
        axis.set_axis_off()
        for level, kind in zip(LEVELS, skips, strict=True):
            _draw_level(axis, level, kind, effect_of(rows, "zeroed", str(level)), largest=max(largest, 1e-3))
        _box(axis, 5.0, 0.25, 1.6, "e5")
        for level in LEVELS[:-1]:
            _arrow(axis, (_left(level), _high(level) - 0.22), (_left(level + 1), _high(level + 1) + 0.24))
            _arrow(axis, (10 - _left(level + 1), _high(level + 1) + 0.24), (10 - _left(level), _high(level) - 0.22))
        _arrow(axis, (_left(4), _high(4) - 0.22), (4.4, 0.5))
        _arrow(axis, (5.6, 0.5), (10 - _left(4), _high(4) - 0.22))
        axis.text(_left(1), 4.98, "encoder", ha="center", color=FAINT, fontsize=9)
        axis.text(10 - _left(1), 4.98, "decoder", ha="center", color=FAINT, fontsize=9)
    return buffer.getvalue()


def _left(level: int) -> float:
    return 0.9 + 0.48 * (level - 1)


def _high(level: int) -> float:
    return 4.6 - 1.08 * (level - 1)


def _box(axis: "Axes", x: float, y: float, width: float, text: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.07"
    axis.add_patch(
        FancyBboxPatch((x - width / 2, y - 0.2), width, 0.4, boxstyle=style, facecolor="#eceff4", edgecolor="#b8c0cc")
    )
    axis.text(x, y, text, ha="center", va="center", color=INK, fontsize=10)


def _arrow(axis: "Axes", start: tuple[float, float], stop: tuple[float, float]) -> None:
    axis.annotate("", stop, start, arrowprops={"arrowstyle": "-|>", "color": "#b8c0cc", "lw": 1.2})


def _draw_level(axis: "Axes", level: int, kind: str, row: Mapping[str, Any] | None, *, largest: float) -> None:
    """Both boxes of a level and its skip."""
    y, left = _high(level), _left(level)
    _box(axis, left, y, 1.1, f"e{level}")
    _box(axis, 10 - left, y, 1.1, f"u{level}")
    start, stop = left + 0.62, 10 - left - 0.62
    if row is None:
        axis.plot([start, stop], [y, y], color="#b8c0cc", lw=1.2, ls=(0, (1, 3)))
        axis.text(5, y + 0.1, f"level {level}: {KIND_NAMES[kind]}", ha="center", va="bottom", color=FAINT, fontsize=9)
        return
    drop = row["drop"]
    width = 1.0 + 9.0 * min(max(drop / largest, 0.0), 1.0)
    color = COLORS["zeroed"] if drop > 0 else "#8b95a5"
    axis.plot([start, stop - 0.1], [y, y], color=color, lw=width, solid_capstyle="butt")
    axis.plot([stop], [y], marker=">", color=color, markersize=6 + 0.7 * width)
    text = f"level {level}, {KIND_NAMES[kind]}:  {signed(-drop)} Dice{_interval(row)}"
    axis.text(5, y + 0.13, text, ha="center", va="bottom", color=INK, fontsize=9.5)


def _interval(row: Mapping[str, Any]) -> str:
    if row["drop_low"] is None:
        return ""
    return f"  ({signed(-row['drop_high'])} to {signed(-row['drop_low'])})"


def signed(value: float) -> str:
    """A difference with its sign: `−0.123`, `+0.010`; `0.000` has none."""
    if np.isnan(value):
        return "undefined"
    text = f"{value:+.3f}"
    return "0.000" if text[1:] == "0.000" else text.replace("-", "\u2212")


def draw_drops(rows: _Rows, cases: Mapping[tuple[str, str], Sequence[float]], levels: Sequence[str]) -> bytes:
    """The drop of every case, level by level, with mean and interval.

    Args:
        rows: As `summarize_effects` makes them.
        cases: Drops by kind of change and level; NaN is left out.
        levels: From left to right.
    """
    with figure(9.2, 3.4) as (drawn, buffer):
        axis = drawn.add_subplot()
        draw = np.random.default_rng(0)
        for step, kind in ((-0.17, "zeroed"), (0.17, "shuffled")):
            for place, level in enumerate(levels):
                values = np.asarray(cases.get((kind, level), ()), dtype=float)
                values, row = values[~np.isnan(values)], effect_of(rows, kind, level)
                if row is None or not len(values):
                    continue
                x = place + step + draw.uniform(-0.07, 0.07, len(values))
                axis.plot(x, values, "o", ms=4, color=COLORS[kind], alpha=0.35, mew=0)
                _draw_mean(axis, place + step, row["drop"], (row["drop_low"], row["drop_high"]), COLORS[kind])
            axis.plot([], [], "o", color=COLORS[kind], label=kind)
        axis.axhline(0, color=FAINT, lw=0.8)
        bare(axis, grid="y")
        axis.set_xticks(range(len(levels)), [_level_name(level) for level in levels])
        axis.set_ylabel("Dice lost", color=FAINT, fontsize=9)
        axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    return buffer.getvalue()


def _level_name(level: str) -> str:
    return f"level {level}" if level.isdigit() else "all levels"


def _draw_mean(
    axis: "Axes", x: float, mean: float, ends: tuple[float | None, float | None], color: str, *, wide: float = 0.11
) -> None:
    axis.plot([x - wide, x + wide], [mean, mean], color=color, lw=2.6, solid_capstyle="butt")
    if ends[0] is not None and ends[1] is not None:
        axis.plot([x, x], [ends[0], ends[1]], color=color, lw=1.6)


def draw_similarity(rows: _Rows) -> bytes:
    """Linear CKA with the decoder's feature, at both ends of each skip.

    Args:
        rows: With `level`, `side`, `cka`, `low`, `high`.
    """
    labels = {"encoder": "encoder feature, before the skip", "skip": "what the skip hands over"}
    with figure(9.2, 2.9) as (drawn, buffer):
        axis = drawn.add_subplot()
        for step, side in ((-0.08, "encoder"), (0.08, "skip")):
            found = [row for row in rows if row["side"] == side and not np.isnan(row["cka"])]
            for row in found:
                x = LEVELS.index(row["level"]) + step
                axis.plot([x], [row["cka"]], "o", ms=8, color=COLORS[side])
                if row["low"] is not None:
                    axis.plot([x, x], [row["low"], row["high"]], color=COLORS[side], lw=1.8)
            axis.plot([], [], "o", color=COLORS[side], label=labels[side])
        bare(axis, grid="y")
        axis.set_xticks(range(len(LEVELS)), [f"level {level}" for level in LEVELS])
        axis.set(xlim=(-0.5, len(LEVELS) - 0.5), ylim=(min(-0.03, *(row["low"] or 0.0 for row in rows)), 1.03))
        axis.set_ylabel("CKA with u", color=FAINT, fontsize=9)
        axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    return buffer.getvalue()


def draw_channels(rows: Sequence[ChannelUse]) -> bytes:
    """For each level its channels by how much they put out, the strongest first, and how far DRA's gates open."""
    levels = sorted({row.level for row in rows})
    with figure(9.2, 2.7) as (drawn, buffer):
        for axis, level in zip(np.ravel(drawn.subplots(1, len(levels))), levels, strict=True):
            chosen = sorted((row for row in rows if row.level == level), key=lambda row: -row.skip_mean)
            x = np.arange(len(chosen))
            top = max(chosen[0].skip_mean, 1e-12)
            axis.fill_between(x, [row.skip_mean / top for row in chosen], step="mid", color="#5b8fd0", lw=0)
            if chosen[0].gate_active is not None:
                opened = [row.gate_active for row in chosen]
                axis.plot(x, opened, ".", ms=3, color=COLORS["shuffled"])
            bare(axis, title=f"level {level}, {KIND_NAMES[chosen[0].kind]}")
            axis.set(ylim=(0, 1.03), xlim=(-1, len(chosen)))
            axis.set_xlabel("channels, strongest first", color=FAINT, fontsize=8)
    return buffer.getvalue()


def draw_map(weights: npt.NDArray[np.float64], *, parts: Sequence[str]) -> bytes:
    """A map between channels, times their number: 1 is an even choice.

    Args:
        weights: (C, C), what each row takes of each column; rows sum to 1.
        parts: Names of equal runs of channels, within which rows are put in order of how choosy they are, columns of
            how much they are taken.
    """
    relative = _ordered(weights, max(len(parts), 1)) * weights.shape[1]
    from matplotlib.colors import TwoSlopeNorm

    with figure(4.6, 4.0) as (drawn, buffer):
        axis = drawn.add_subplot()
        top = max(float(np.percentile(relative, 99.5)), 1.0 + 1e-6)
        low = min(float(np.percentile(relative, 0.5)), 1.0 - 1e-6)
        shown = axis.imshow(relative, cmap="PuOr_r", norm=TwoSlopeNorm(1.0, low, top), interpolation="antialiased")
        size = weights.shape[0] / max(len(parts), 1)
        for index in range(1, len(parts)):
            axis.axhline(index * size - 0.5, color=INK, lw=0.7)
            axis.axvline(index * size - 0.5, color=INK, lw=0.7)
        bare(axis)
        middles = [(index + 0.5) * size for index in range(len(parts))]
        axis.set_xticks(middles, parts)
        axis.set_yticks(middles, parts, rotation=90, va="center")
        axis.set_xlabel("channels whose value is taken, most taken first", color=FAINT, fontsize=8)
        axis.set_ylabel("channels that take, choosiest first", color=FAINT, fontsize=8)
        bar = drawn.colorbar(shown, ax=axis, shrink=0.8, ticks=[low, 1.0, (1 + top) / 2, top], format="%.2g")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, colors=FAINT, length=0)
    return buffer.getvalue()


def _ordered(weights: npt.NDArray[np.float64], parts: int) -> npt.NDArray[np.float64]:
    """Rows by spread and columns by sum, the largest first, within each part."""
    size = len(weights) // parts
    starts = range(0, len(weights), size)
    rows = np.concatenate([start + np.argsort(-weights[start : start + size].std(1)) for start in starts])
    columns = np.concatenate([start + np.argsort(-weights[:, start : start + size].sum(0)) for start in starts])
    ordered: npt.NDArray[np.float64] = weights[rows][:, columns]
    return ordered
