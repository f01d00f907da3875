"""From the values of a mask to class indices, before anything is resized."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.distinct import distinct, replaced
from data_prep.readers import ReaderError

_SHOWN = 8


@dataclass(frozen=True)
class LabelRule:
    """Which value is which class.

    Attributes:
        values: The mask's value of each foreground class, class 1 first; None: a single class, every value above 0
            (instance ids).
    """

    values: tuple[int, ...] | None

    def apply(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Class indices of a mask of any shape.

        Raises:
            ReaderError: values that are no class, each with its number of pixels; values between whole numbers.
        """
        found, counts = distinct(mask)
        index_of = {0: 0} if self.values is None else {0: 0, **{v: i for i, v in enumerate(self.values, start=1)}}
        indices = np.zeros(len(found), dtype=np.uint8)
        unexpected = []
        for position, (value, count) in enumerate(zip(found.tolist(), counts.tolist(), strict=True)):
            if value in index_of:
                indices[position] = index_of[value]
            elif self.values is None and value > 0 and float(value).is_integer():
                indices[position] = 1
            else:
                unexpected.append(f"{value:g} ({count} pixels)")
        if unexpected:
            raise ReaderError(self._complaint(unexpected))
        return replaced(mask, found, indices)

    def _complaint(self, unexpected: list[str]) -> str:
        more = f" and {len(unexpected) - _SHOWN} more values" if len(unexpected) > _SHOWN else ""
        allowed = "0 and whole numbers above" if self.values is None else ", ".join(map(str, sorted({0, *self.values})))
        return f"unexpected label values {', '.join(unexpected[:_SHOWN])}{more}; allowed: {allowed}"
