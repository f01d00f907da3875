"""Many tests at once: p values that keep the chance of a single false finding where one test has it."""

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979), in the order given.

    NaN (no test was possible) stays NaN and does not count as a test.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for done, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - done)))
        corrected[index] = highest
    return corrected
