"""One picture per case: image, reference, prediction and difference side by side, with scores and a legend."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from udt_cluster.data import geometry
from udt_cluster.evaluation.metrics import Mask
from udt_cluster.evaluation.summary import CaseScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (after Okabe and Ito), in the order in which they stand out on grey
# MR slices and on pink H&E alike.
_CLASS_COLORS = ("#00b4ff", "#ff6ec7", "#00d68f", "#ff8c00", "#c0ff33", "#b08968", "#a99cff", "#e0e0e0")
_MISSED, _EXTRA, _CONFUSED = "#ff2d20", "#ffd60a", "#8f3fff"  # none of them a colour of a class
_DIFFERENCES = (("missed", _MISSED), ("too much", _EXTRA), ("another class", _CONFUSED))
_INK, _FAINT, _PAPER = "#1d2433", "#667085", "#ffffff"
_HEAD, _FOOT, _WIDTH, _DPI = 0.95, 0.55, 13.6, 110  # inches above and below the pictures, and of the whole


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one picture shows.

    Attributes:
        row: The case's scores (of the whole case, not of the slice).
        image: Stored sample of the slice, (C, h, w).
        prediction: (H, W) class indices at native size.
        reference: (H, W).
        slice: Index of the slice, and how many there are.
        aspect: Height of a pixel over its width.
        resize: How the sample was made of the image.
        is_canonical: Rows run to the patient's front and columns to the right (RAS), as volumes with an affine do; the
            picture is then turned to the radiological view: front at the top, the patient's right at the left.
    """

    row: CaseScore
    image: npt.NDArray[Any]
    prediction: Mask
    reference: Mask
    slice: tuple[int, int]
    aspect: float
    resize: Literal["stretch", "pad"]
    is_canonical: bool = False


def overlay_name(rank: str, case: str) -> str:
    """File name of a case's picture: the id with everything but letters, digits, dot, dash and underscore replaced."""
    return f"{rank}_{re.sub(r'[^A-Za-z0-9._-]+', '-', case)[:80]}.png"


def draw_overlay(panel: Panel, class_names: Sequence[str], *, title: str) -> bytes:
    """The picture as PNG.

    Args:
        panel: What to show.
        class_names: By class index, the background first.
        title: Why the case is shown: "worst, rank 1".
    """
    from matplotlib.figure import Figure  # half a second, needed for pictures only

    height, width = panel.reference.shape
    ratio = min(max(height * panel.aspect / width, 0.3), 2.5)
    column = (_WIDTH - 0.5) / 4
    total = ratio * column + _HEAD + _FOOT
    figure = Figure(figsize=(_WIDTH, total), dpi=_DPI, facecolor=_PAPER)
    axes = figure.subplots(1, 4)
    figure.subplots_adjust(
        left=0.2 / _WIDTH, right=1 - 0.2 / _WIDTH, bottom=_FOOT / total, top=1 - _HEAD / total, wspace=0.025
    )
    picture = displayed(panel.image, (height, width), panel.resize)
    if panel.is_canonical:
        picture = picture[::-1, ::-1]
        panel = replace(panel, prediction=panel.prediction[::-1, ::-1], reference=panel.reference[::-1, ::-1])
    _draw_plain(axes[0], picture, panel.aspect)
    _draw_classes(axes[1], picture, panel.reference, aspect=panel.aspect)
    _draw_classes(axes[2], picture, panel.prediction, aspect=panel.aspect)
    _draw_difference(axes[3], picture, panel)
    for axis, name in zip(axes, ("image", "reference", "prediction", "difference"), strict=True):
        axis.set_title(name, fontsize=11, color=_FAINT, loc="left", pad=5)
    _write_head(figure, panel, title=title, total=total)
    _write_legend(figure, panel, class_names, total=total)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def displayed(
    image: npt.NDArray[Any], native_size: tuple[int, int], resize: Literal["stretch", "pad"]
) -> npt.NDArray[np.float32]:
    """A stored sample (C, h, w) at native size as RGB (H, W, 3) in 0..1.

    Three channels of 8 bits are colours as they are; anything else is its first channel in grey, between its 1st and
    99th percentile.
    """
    native = geometry.restore(torch.from_numpy(image[None].astype(np.float32)), native_size, resize)[0].numpy()
    if len(image) == 3 and image.dtype == np.uint8:
        return np.clip(native.transpose(1, 2, 0) / 255, 0, 1)
    low, high = np.percentile(native[0], (1, 99))
    grey = np.clip((native[0] - low) / max(float(high - low), 1e-12), 0, 1)
    return np.repeat(grey[..., None], 3, axis=2)


def _draw_plain(axis: "Axes", picture: npt.NDArray[np.float32], aspect: float) -> None:
    axis.imshow(picture, interpolation="bilinear", aspect=aspect)
    axis.set_axis_off()


def _draw_classes(axis: "Axes", picture: npt.NDArray[np.float32], mask: Mask, *, aspect: float) -> None:
    """Each class as a contour over a faint fill."""
    _draw_plain(axis, picture, aspect)
    for index in np.unique(mask[mask > 0]):
        _fill(axis, mask == index, class_color(int(index)), aspect=aspect, alpha=0.22)
        draw_contour(axis, mask == index, class_color(int(index)))


def _draw_difference(axis: "Axes", picture: npt.NDArray[np.float32], panel: Panel) -> None:
    """What is wrong, filled, on a pale grey image; the reference's outline to find one's way."""
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    _draw_plain(axis, 0.35 + 0.45 * grey, panel.aspect)
    ours, theirs = panel.prediction, panel.reference
    wrong = (
        ((theirs > 0) & (ours == 0), _MISSED),
        ((theirs == 0) & (ours > 0), _EXTRA),
        ((theirs > 0) & (ours > 0) & (theirs != ours), _CONFUSED),
    )
    for where, color in wrong:
        _fill(axis, where, color, aspect=panel.aspect, alpha=0.9)
    for index in np.unique(theirs[theirs > 0]):
        draw_contour(axis, theirs == index, _INK, width=0.9, halo=False)


def _fill(axis: "Axes", where: npt.NDArray[np.bool_], color: str, *, aspect: float, alpha: float) -> None:
    from matplotlib.colors import to_rgb

    layer = np.zeros((*where.shape, 4), np.float32)
    layer[where] = (*to_rgb(color), alpha)
    axis.imshow(layer, interpolation="nearest", aspect=aspect)


def draw_contour(
    axis: "Axes", where: npt.NDArray[np.bool_], color: str, *, width: float = 1.5, halo: bool = True
) -> None:
    """The outline of a mask, closed where it meets the border, with a dark halo so that it is seen on any tissue."""
    from matplotlib.patheffects import Normal, Stroke

    height, width_px = where.shape
    rows, columns = np.arange(-1, height + 1), np.arange(-1, width_px + 1)
    effects = [Stroke(linewidth=width + 1.4, foreground="#00000099"), Normal()] if halo else None
    axis.contour(
        columns, rows, np.pad(where, 1).astype(float), [0.5], colors=[color], linewidths=width, path_effects=effects
    )
    axis.set(xlim=(-0.5, width_px - 0.5), ylim=(height - 0.5, -0.5))


def _write_head(figure: "Figure", panel: Panel, *, title: str, total: float) -> None:
    left, index, depth = 0.2 / _WIDTH, *panel.slice
    top = 1 - 0.16 / total
    name = f"case {panel.row.case}" if panel.row.case.isdecimal() else panel.row.case
    name = name if len(name) <= 60 else name[:57] + "..."
    figure.text(left, top, name, fontsize=15, fontweight="bold", color=_INK, va="top")
    where = f", slice {index + 1} of {depth}" if depth > 1 else ""
    scores = [f"Dice {panel.row.mean('dice'):.3f}"]
    if "hd95" in next(iter(panel.row.scores.values())):
        hd95 = panel.row.mean("hd95")
        scores.append(f"HD95 {hd95:.1f} {panel.row.unit}" if np.isfinite(hd95) else "HD95 undefined")
    figure.text(1 - left, top, "   ".join(scores), fontsize=15, fontweight="bold", color=_INK, va="top", ha="right")
    view = ", radiological view" if panel.is_canonical else ""
    scope = "; scores are of the whole volume" if depth > 1 else ""
    text = f"{title}{where}{view}{scope}"
    figure.text(left, 1 - 0.48 / total, text, fontsize=10, color=_FAINT, va="top")


def _write_legend(figure: "Figure", panel: Panel, class_names: Sequence[str], *, total: float) -> None:
    """Classes with their Dice at the left, under what they colour; kinds of errors at the right."""
    from matplotlib.patches import Patch

    classes = [
        Patch(facecolor=class_color(index), label=f"{class_names[index]}  {_shown(values['dice'])}")
        for index, values in panel.row.scores.items()
    ]
    kinds = _DIFFERENCES if len(classes) > 1 else _DIFFERENCES[:2]
    errors = [Patch(facecolor=color, label=name) for name, color in kinds]
    style: dict[str, Any] = {
        "frameon": False, "fontsize": 10, "labelcolor": _INK, "handlelength": 1.0, "handleheight": 1.0,
        "columnspacing": 1.6, "handletextpad": 0.5, "borderpad": 0.0, "borderaxespad": 0.0,
    }  # fmt: skip
    bottom = (_FOOT - 0.2) / total
    for handles, where, x in ((classes, "upper left", 0.2), (errors, "upper right", _WIDTH - 0.2)):
        ncols = min(len(handles), 8)
        figure.legend(handles=handles, loc=where, bbox_to_anchor=(x / _WIDTH, bottom), ncols=ncols, **style)


def _shown(dice: float) -> str:
    return "in neither mask" if np.isnan(dice) else f"Dice {dice:.3f}"


def class_color(index: int) -> str:
    """The colour of a class by its index, from 1; the same in every picture."""
    return _CLASS_COLORS[(index - 1) % len(_CLASS_COLORS)]
