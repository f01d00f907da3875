"""Which cases are shown: one slice of each of the worst and the best, chosen while the cases go by."""

import heapq
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from udt_cluster.evaluation.figures import Panel, draw_overlay, overlay_name
from udt_cluster.evaluation.metrics import Mask
from udt_cluster.evaluation.summary import CaseScore

_Rank = tuple[float, int]  # mean Dice, then the order of arrival: no two cases are equal
_Kept = tuple[_Rank, Panel]


class Gallery:
    """Keeps one slice of each of the `size` worst and best cases, by mean Dice; nothing else of any case stays.

    Of a bad case it is the slice with the most errors, of a good one the slice with the most foreground.

    Args:
        size: How many of each kind at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._worst: list[_Kept] = []
        self._best: list[_Kept] = []
        self._offered = 0

    def offer(self, row: CaseScore, samples: npt.NDArray[Any], prediction: Mask, reference: Mask, **look: Any) -> None:
        """Keep a case if it is among the worst or the best so far; one without any defined Dice is neither.

        Args:
            row: Its scores.
            samples: Its stored images, (D, C, h, w).
            prediction: (D, H, W) class indices.
            reference: (D, H, W).
            **look: The other fields of :class:`~udt_cluster.evaluation.figures.Panel`.
        """
        dice = row.mean("dice")
        if math.isnan(dice) or not self._size:
            return
        self._offered += 1
        errors = (prediction != reference).sum(axis=(1, 2))
        foreground = ((prediction > 0) | (reference > 0)).sum(axis=(1, 2))

        def panel_of(index: int) -> Panel:
            images = {"image": samples, "prediction": prediction, "reference": reference}
            slices: dict[str, Any] = {name: np.array(array[index]) for name, array in images.items()}
            return Panel(row=row, slice=(index, len(reference)), **slices, **look)

        if self._wanted(self._worst, rank := (-dice, -self._offered)):
            self._keep(self._worst, (rank, panel_of(int(errors.argmax()))))
        if self._wanted(self._best, rank := (dice, self._offered)):
            self._keep(self._best, (rank, panel_of(int(foreground.argmax()))))

    def write(self, folder: Path, class_names: Sequence[str]) -> None:
        """Draw them: ``worst_1_<case>.png`` is the worst of all, ``best_1_<case>.png`` the best."""
        for kind, number, panel in self._ranked():
            folder.mkdir(exist_ok=True)
            picture = draw_overlay(panel, class_names, title=f"{kind}, rank {number}")
            (folder / overlay_name(f"{kind}_{number}", panel.row.case)).write_bytes(picture)

    def _wanted(self, heap: list[_Kept], rank: _Rank) -> bool:
        return len(heap) < self._size or rank > heap[0][0]

    def _keep(self, heap: list[_Kept], entry: _Kept) -> None:
        if len(heap) < self._size:
            heapq.heappush(heap, entry)
        else:
            heapq.heapreplace(heap, entry)

    def _ranked(self) -> Iterator[tuple[str, int, Panel]]:
        """Kind, rank and panel; where there are fewer cases than pictures asked for, none is shown twice."""
        half = self._offered // 2
        for name, heap, count in (("worst", self._worst, self._offered - half), ("best", self._best, half)):
            ranked = sorted(heap, key=lambda entry: entry[0], reverse=True)[:count]
            yield from ((name, number, panel) for number, (_, panel) in enumerate(ranked, start=1))
