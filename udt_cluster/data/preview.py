"""A picture of what the network will see: augmented, normalised training tiles with the outlines of their labels."""

import io
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from udt_cluster.data.augment import apply, draw
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.order import Indices, case_samples, epoch_order
from udt_cluster.data.splits import TEST
from udt_cluster.data.store import DataStore
from udt_cluster.errors import DataError

ROWS, COLUMNS = 2, 4
_TILES = ROWS * COLUMNS
_LOOKED_AT = 3 * _TILES
_DETAIL_LETTERS = 46  # that fit into the width of a tile
_WIDTH, _MARGIN, _GAP, _HEADER, _CAPTION, _FOOTER = 12.0, 0.18, 0.11, 1.0, 0.42, 0.62  # inches
_BACKGROUND, _TEXT, _FAINT = "#14181d", "#f2f4f6", "#9aa4af"
# Okabe and Ito's colours for the colour-blind, those that show on tissue and on grey first.
_COLOURS = ("#f0e442", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#ffffff")


@dataclass(frozen=True)
class _Tile:
    image: NDArray[np.float32]
    label: NDArray[np.int64]
    caption: str
    detail: str


def render_preview(store: DataStore, normalization: Normalization, *, seed: int = 0, recipe: str = "released") -> bytes:
    """Eight training samples of different cases, as an epoch would serve them, with their labels outlined.

    Args:
        store: The data-set version.
        normalization: Of the job; neighbouring slices are not shown.
        seed: Chooses samples and augmentation; one seed always gives the same picture.
        recipe: A key of `augment.RECIPES`.

    Returns:
        A PNG, 1800 pixels wide; about 1150 high where samples are square.

    Raises:
        DataError: the data set has no training samples.
    """
    tiles = _tiles(store, normalization.with_context(0), seed=seed, recipe=recipe)
    figure, places = _sheet(store.info.size)
    window = _window([tile.image for tile in tiles], normalization)
    for place, tile in zip(places, tiles, strict=False):
        _draw(figure.add_axes(place), tile, window, classes=store.info.num_classes)
    _inscribe(figure, store, normalization, recipe)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor=_BACKGROUND, metadata={"Software": None})
    return out.getvalue()


def _sheet(size: tuple[int, int]) -> tuple[Figure, list[tuple[float, float, float, float]]]:
    """An empty sheet, and where the tiles go: (left, bottom, width, height) in parts of it, row by row."""
    wide = (_WIDTH - 2 * _MARGIN - (COLUMNS - 1) * _GAP) / COLUMNS
    high = wide * size[0] / size[1]
    total = _HEADER + ROWS * high + (ROWS - 1) * _CAPTION + _FOOTER
    corners = [
        (_MARGIN + column * (wide + _GAP), total - _HEADER - high - row * (high + _CAPTION))
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    figure = Figure(figsize=(_WIDTH, total), dpi=150, facecolor=_BACKGROUND)
    return figure, [(left / _WIDTH, bottom / total, wide / _WIDTH, high / total) for left, bottom in corners]


def _tiles(store: DataStore, normalization: Normalization, *, seed: int, recipe: str) -> list[_Tile]:
    samples, images, labels = _chosen(store, seed)
    drawn = draw(recipe, seed=seed, epoch=0, samples=samples, size=store.info.size)
    raw = images if images.dtype == torch.uint8 else images.float()  # not every operation knows uint16
    moved, moved_labels = apply(raw, labels, drawn, normalization=normalization)
    colour = store.info.channels == 3 and store.info.dtype == "uint8"
    return [
        _Tile(
            image=normalized.numpy(),
            label=label.numpy(),
            caption=_caption(store, int(sample)),
            detail=_in_lines(drawn.describe(row, colour=colour)),
        )
        for row, (sample, normalized, label) in enumerate(
            zip(samples, normalization(moved), moved_labels.long(), strict=True)
        )
    ]


def _in_lines(words: str) -> str:
    """As wide as a tile, broken behind commas alone."""
    unbroken = words.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return textwrap.fill(unbroken, _DETAIL_LETTERS)


def _chosen(store: DataStore, seed: int) -> tuple[Indices, torch.Tensor, torch.Tensor]:
    """Eight samples of an epoch: new cases before known ones, and those with a foreground before those without."""
    training = [case for case, split in enumerate(store.cases.splits) if split != TEST]
    order = epoch_order(case_samples(store.cases, training), seed=seed, epoch=0)
    if not len(order):
        raise DataError(f"{store.info.dataset} has no training samples to show; every case is an official test case")
    _, first = np.unique(store.sample_case[order], return_index=True)
    seen_before = np.ones(len(order), bool)
    seen_before[first] = False
    candidates = order[np.argsort(seen_before, kind="stable")][:_LOOKED_AT]
    read = [store.read_samples(sample, sample + 1) for sample in candidates.tolist()]
    empty = [not label.any() for _, label in read]
    chosen = np.argsort(empty, kind="stable")[:_TILES]
    images, labels = (torch.from_numpy(np.concatenate([read[row][part] for row in chosen])) for part in (0, 1))
    return candidates[chosen], images, labels


def _caption(store: DataStore, sample: int) -> str:
    case = int(store.sample_case[sample])
    name = store.cases.ids[case]
    short = name if len(name) <= 30 else f"{name[:14]}…{name[-14:]}"
    several = store.cases.num_samples[case] > 1
    return f"{short} · slice {int(store.sample_slice[sample])}" if several else short


def _window(images: list[NDArray[np.float32]], normalization: Normalization) -> tuple[float, float]:
    """The numbers shown as black and as white, the same for all tiles, so that they can be compared."""
    if normalization.kind != "zscore":
        return 0.0, 1.0
    low, high = np.percentile(np.concatenate([image.ravel() for image in images]), (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _draw(axes: Axes, tile: _Tile, window: tuple[float, float], *, classes: int) -> None:
    low, high = window
    channels = tile.image[:3] if len(tile.image) >= 3 else tile.image[:1].repeat(3, axis=0)
    shown = np.clip((channels - low) / (high - low), 0, 1).transpose(1, 2, 0)
    axes.axis("off")
    axes.imshow(shown, interpolation="nearest", aspect="auto")
    for index in range(1, classes):
        inside = tile.label == index
        if inside.any() and not inside.all():
            axes.contour(inside, levels=[0.5], colors=[_colour(index)], linewidths=1.4).set_path_effects(
                [Stroke(linewidth=2.8, foreground="black", alpha=0.55), Normal()]
            )
    axes.set_title(tile.caption, color=_TEXT, fontsize=9, loc="left", pad=4)
    axes.text(
        *(0.02, 0.025), tile.detail, transform=axes.transAxes, color=_TEXT, fontsize=8, va="bottom",
        bbox={"facecolor": _BACKGROUND, "alpha": 0.7, "edgecolor": "none", "pad": 2.5},
    )  # fmt: skip


def _inscribe(figure: Figure, store: DataStore, normalization: Normalization, recipe: str) -> None:
    """Which data set this is, and what the colours mean."""
    info = store.info
    size = f"{info.size[0]} × {info.size[1]}"
    facts = (
        f"version {info.version}   ·   {len(store.cases):,} cases, {store.num_samples:,} samples   ·   {size}, "
        f"{info.resize}   ·   {info.channels} × {info.dtype}, {normalization.kind}   ·   augmentation: {recipe}"
    )
    left, inch = _MARGIN / _WIDTH, 1 / figure.get_figheight()
    figure.text(left, 1 - 0.42 * inch, info.dataset, color=_TEXT, fontsize=15, fontweight="bold")
    figure.text(left, 1 - 0.68 * inch, facts, color=_FAINT, fontsize=9)
    figure.legend(
        handles=_legend(info.class_names, info.fingerprint.class_fractions),
        loc="lower left", bbox_to_anchor=(0.008, 0.08 * inch), ncols=min(6, info.num_classes), frameon=False,
        labelcolor=_TEXT, fontsize=9.5, handlelength=1.4, columnspacing=2.2,
    )  # fmt: skip


def _legend(names: tuple[str, ...], fractions: tuple[float, ...]) -> list[Any]:
    return [
        Line2D([], [], color=_colour(index), linewidth=3, label=f"{name} ({100 * fraction:.2g} % of the pixels)")
        for index, (name, fraction) in enumerate(zip(names, fractions, strict=True))
        if index
    ]


def _colour(index: int) -> str:
    return _COLOURS[(index - 1) % len(_COLOURS)]
