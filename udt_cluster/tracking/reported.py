"""Which (metric, step) a run has already, in a few bytes each."""

_BITS = 10
_MASK = (1 << _BITS) - 1


class Reported:
    """A set of (key, step): one bit for each step of a metric that is logged at every step.

    A day of a thousand points a second is 11 MB; as a set of pairs it would be 10 GB.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, dict[int, int]] = {}

    def add(self, key: str, step: int) -> None:
        """Put a pair in."""
        blocks = self._blocks.setdefault(key, {})
        block = step >> _BITS
        blocks[block] = blocks.get(block, 0) | 1 << (step & _MASK)

    def __contains__(self, point: tuple[str, int]) -> bool:
        key, step = point
        return bool(self._blocks.get(key, {}).get(step >> _BITS, 0) >> (step & _MASK) & 1)
