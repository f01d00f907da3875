"""The validation picture: image, reference and prediction of a few slices, side by side."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from udt_cluster.training.metrics import defined_mean, dice, pixel_counts
from udt_cluster.training.protocols import EvalBatch

ROWS = 4
TILE = 224
_GAP, _HEADER, _CAPTION, _LEGEND = 10, 30, 24, 32
_COLUMNS = ("image", "reference", "prediction")
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 33, 36), (110, 114, 120)
# Okabe and Ito's colours, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/).
_COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)],
    dtype=np.float32,
)
_OPACITY = 0.35


@dataclass(frozen=True)
class _Row:
    """One slice on the host: pixels float32 (H,W,3) in 0..255, class maps (H,W)."""

    case: int
    slice: int
    foreground: int
    pixels: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    val_dice: float


class Gallery:
    """Of the first cases that come by, the slice with most foreground each.

    Args:
        class_names: Names of the classes, the background first.
        rows: At most so many cases.
    """

    def __init__(self, class_names: Sequence[str], *, rows: int = ROWS) -> None:
        self._class_names = tuple(class_names)
        self._rows = rows
        self._best: dict[int, _Row] = {}

    def __len__(self) -> int:
        return len(self._best)

    def add(self, batch: EvalBatch, prediction: Tensor) -> None:
        """Offer a batch with its predicted classes int64 (B,H,W)."""
        foreground = (batch.labels > 0).sum((1, 2)).tolist()
        for index, (case, number) in enumerate(zip(batch.case.tolist(), batch.slice.tolist(), strict=True)):
            seen = self._best.get(case)
            room = seen is not None or len(self._best) < self._rows
            if room and (seen is None or foreground[index] > seen.foreground):
                self._best[case] = self._row(batch, prediction, index, (case, number, foreground[index]))

    def _row(self, batch: EvalBatch, prediction: Tensor, index: int, name: tuple[int, int, int]) -> _Row:
        one = slice(index, index + 1)
        counts = pixel_counts(prediction[one], batch.labels[one], num_classes=len(self._class_names))
        return _Row(
            *name,
            pixels=_visible(batch.shown[index]),
            reference=batch.labels[index].cpu().numpy(),
            prediction=prediction[index].cpu().numpy(),
            val_dice=defined_mean(dice(counts[0])),
        )

    def render(self) -> bytes:
        """The picture as PNG."""
        rows = [self._best[case] for case in sorted(self._best)]
        height = _HEADER + len(rows) * (TILE + _CAPTION) + _LEGEND
        canvas = Image.new("RGB", (len(_COLUMNS) * (TILE + _GAP) + _GAP, height), _PAPER)
        draw = ImageDraw.Draw(canvas)
        for column, title in enumerate(_COLUMNS):
            _centred(draw, _left(column) + TILE // 2, _HEADER // 2, title, size=15, colour=_INK)
        for index, row in enumerate(rows):
            self._draw_row(canvas, draw, _HEADER + index * (TILE + _CAPTION), row)
        self._draw_legend(draw, height - _LEGEND // 2)
        buffer = io.BytesIO()
        canvas.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def _draw_row(self, canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: _Row) -> None:
        tiles = [row.pixels, _overlaid(row.pixels, row.reference), _overlaid(row.pixels, row.prediction)]
        for column, tile in enumerate(tiles):
            canvas.paste(_fitted(tile), (_left(column), top))
        shown = "no foreground" if np.isnan(row.val_dice) else f"Dice {row.val_dice:.3f}"
        text = f"case {row.case}, slice {row.slice}    {shown} in this slice"
        _centred(draw, canvas.width // 2, top + TILE + _CAPTION // 2, text, size=13, colour=_FAINT)

    def _draw_legend(self, draw: ImageDraw.ImageDraw, middle: int) -> None:
        left = _GAP
        for index, name in enumerate(self._class_names[1:], start=1):
            colour = tuple(int(part) for part in _COLOURS[(index - 1) % len(_COLOURS)])
            draw.rectangle((left, middle - 6, left + 12, middle + 6), fill=colour)
            draw.text((left + 18, middle), name, fill=_INK, font=ImageFont.load_default(13), anchor="lm")
            left += 18 + int(draw.textlength(name, font=ImageFont.load_default(13))) + 16


def _visible(image: Tensor) -> np.ndarray:
    """Float32 (H,W,3) in 0..255 of a normalised image (C,H,W), stretched from its 1st to its 99th percentile."""
    x_CHW = image.detach().float().cpu()
    low, high = torch.quantile(x_CHW.flatten()[:: max(1, x_CHW.numel() // 100_000)], torch.tensor([0.01, 0.99]))
    scaled = ((x_CHW - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    three = scaled if scaled.shape[0] == 3 else scaled[:1].expand(3, -1, -1)
    return np.asarray(three.movedim(0, -1) * 255, dtype=np.float32)


def _overlaid(pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Classes as a tint with a full-colour outline, so that what lies below stays visible."""
    colour = _COLOURS[(np.maximum(classes, 1) - 1) % len(_COLOURS)]
    opacity = np.where(_outline(classes), 1.0, np.where(classes > 0, _OPACITY, 0.0))[..., None]
    return np.asarray(pixels * (1 - opacity) + colour * opacity)


def _outline(classes: np.ndarray) -> np.ndarray:
    """Foreground pixels with a neighbour (of 4) of another class."""
    padded = np.pad(classes, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge = np.any([neighbour != classes for neighbour in neighbours], axis=0)
    return np.asarray(edge & (classes > 0))


def _fitted(pixels: np.ndarray) -> Image.Image:
    """A square tile; the image keeps its aspect ratio and is centred on black."""
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (TILE, TILE))
    resized = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    tile.paste(resized, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _left(column: int) -> int:
    return _GAP + column * (TILE + _GAP)


def _centred(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, *, size: int, colour: tuple[int, int, int]) -> None:
    draw.text((x, y), text, fill=colour, font=ImageFont.load_default(size), anchor="mm")
