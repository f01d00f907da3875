"""One case as pictures: masks with and without skips, and attention laid over the image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from udt_cluster.evaluation.explain.attention import PlaceMap, sharpest
from udt_cluster.evaluation.explain.charts import FAINT, INK, figure, signed
from udt_cluster.evaluation.explain.look import CaseLook, Picture
from udt_cluster.evaluation.figures import class_color, draw_contour
from udt_cluster.evaluation.metrics import Mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOST, _GAINED = "#ff2d20", "#ffd60a"
_WIDTH, _HEAD = 9.2, 0.42
_MOST_OPAQUE = 0.8
_PLACE = "#00d68f"


def draw_changes(look: CaseLook) -> bytes:
    """The image with the reference, the prediction, and the prediction with each skip zeroed.

    What the prediction loses against the intact network is red, what it gains is yellow.
    """
    columns = 2 + len(look.zeroed)
    with _panels(look, 1, columns) as (axes, buffer):
        first, second, *others = axes[0]
        _plain(first, look, "reference")
        _outlines(first, look.reference)
        _plain(second, look, "prediction")
        _outlines(second, look.intact)
        for axis, (change, mask) in zip(others, look.zeroed.items(), strict=True):
            name = "no skip at all" if change.level == "all" else f"level {change.level} zeroed"
            drop = look.drops.get(change, float("nan"))
            _plain(axis, look, f"{name}\n{signed(-drop)} Dice", dim=True)
            _fill(axis, (look.intact > 0) & (mask != look.intact), _LOST, look)
            _fill(axis, (mask > 0) & (mask != look.intact), _GAINED, look)
            _outlines(axis, mask)
    return buffer.getvalue()


def attention_rows(look: CaseLook) -> list[tuple[str, list[int]]]:
    """What the picture of a case's attention has: a name for each row, and which maps are in it, by level."""
    rows = []
    blocks = sorted({found.block for found in look.maps if found.kind == "ssa"})
    if blocks:
        last = [index for index, found in enumerate(look.maps) if found.block == blocks[-1]]
        means = [index for index in last if look.maps[index].head is None]
        rows.append((f"SSA, block {blocks[-1]}, mean of heads", means))
        sharp = [_sharpest_index(look.maps, last, look.maps[index].level) for index in means]
        if heads := [index for index in sharp if index is not None]:
            rows.append(("SSA, its most selective head", heads))
    if spatial := [index for index, found in enumerate(look.maps) if found.kind == "dra_spatial"]:
        rows.append(("DRA-S", sorted(spatial, key=lambda index: look.maps[index].level)))
    return rows


def _sharpest_index(maps: Sequence[PlaceMap], chosen: Sequence[int], level: int) -> int | None:
    found = sharpest([maps[index] for index in chosen if maps[index].level == level])
    return None if found is None else next(index for index in chosen if maps[index] is found)


def draw_attention(look: CaseLook) -> bytes | None:
    """Where the tokens of the place look, one column per level; None for a network without such attention."""
    rows = attention_rows(look)
    if not rows:
        return None
    with _panels(look, len(rows), 1 + max(len(indices) for _, indices in rows)) as (axes, buffer):
        for axis in axes.ravel():
            axis.set_axis_off()
        for line, (name, indices) in zip(axes, rows, strict=True):
            _plain(line[0], look, name)
            draw_contour(line[0], look.place, _PLACE, width=1.6)
            for axis, index in zip(line[1:], indices, strict=False):
                found = look.maps[index]
                head = f", head {found.head}" if found.head is not None else ""
                title = f"level {found.level}{head}\non object {found.on_object:.0%} (area {found.object_share:.0%})"
                _overlay(axis, look, look.overlays[index], title)
    return buffer.getvalue()


@contextmanager
def _panels(look: CaseLook, rows: int, columns: int) -> Iterator[tuple[Any, BytesIO]]:
    """Axes (rows, columns) for pictures of the case's shape, and the buffer that has the PNG in the end."""
    height, width = look.reference.shape
    ratio = min(max(height * look.aspect / width, 0.4), 2.0)
    with figure(_WIDTH, (ratio * _WIDTH / columns + _HEAD) * rows) as (drawn, buffer):
        yield drawn.subplots(rows, columns, squeeze=False), buffer


def _plain(axis: "Axes", look: CaseLook, title: str, *, dim: bool = False) -> None:
    picture = look.picture
    if dim:
        picture = 0.4 + 0.45 * picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    axis.imshow(picture, interpolation="bilinear", aspect=look.aspect)
    axis.set_axis_off()
    axis.set_title(title, fontsize=7.5, color=INK if not dim else FAINT, loc="left", pad=4)


def _outlines(axis: "Axes", mask: Mask) -> None:
    for index in np.unique(mask[mask > 0]):
        draw_contour(axis, mask == index, class_color(int(index)), width=1.2)


def _fill(axis: "Axes", where: Any, color: str, look: CaseLook) -> None:
    from matplotlib.colors import to_rgba

    layer = np.zeros((*where.shape, 4), np.float32)
    layer[where] = to_rgba(color, 0.75)
    axis.imshow(layer, interpolation="nearest", aspect=look.aspect)


def _overlay(axis: "Axes", look: CaseLook, values: Picture, title: str) -> None:
    """Attention in colour over a pale image; the scale ends at the map's own 1st and 99th percentile."""
    from matplotlib import colormaps

    _plain(axis, look, title, dim=True)
    low, high = np.percentile(values, (1, 99))
    share = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    layer = colormaps["inferno"](share)
    layer[..., 3] = 0.25 + (_MOST_OPAQUE - 0.25) * share
    axis.imshow(layer, interpolation="bilinear", aspect=look.aspect)
    draw_contour(axis, look.place, _PLACE, width=1.0)
