"""A sweep's spaces as plain dimensions, and the settings that a point in them stands for.

Pure: no point is chosen here. :mod:`udt_cluster.search` proposes points, :mod:`udt_cluster.config.searches` refuses
spaces that cannot be meant.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from udt_cluster.config.tune import Space, Subsets

SKIPS = "model.skips"
LEVELS = (1, 2, 3, 4)
Point = Mapping[str, Any]
"""A value for each dimension that is open in it, by the dimension's name."""


@dataclass(frozen=True)
class Dimension:
    """One thing that is chosen.

    Attributes:
        name: `model.num_heads`; of the skips of each level `model.skips.1`.
        values: What there is to choose from; empty for a range.
        low, high: Ends of a range, both included.
        kind: `choice`, `grid`, `int`, `uniform` or `log`.
        when: Values of earlier dimensions without which it is not open, each a tuple of those that will do.
    """

    name: str
    kind: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    when: Mapping[str, tuple[Any, ...]] = ()  # type: ignore[assignment]

    def is_open(self, point: Point) -> bool:
        """Whether it is chosen at all, given what was chosen before."""
        return all(name in point and point[name] in wanted for name, wanted in dict(self.when).items())

    @property
    def countable(self) -> tuple[Any, ...] | None:
        """Every value; None where they cannot be counted."""
        if self.kind == "int":
            return tuple(range(int(self.low), int(self.high) + 1))
        return self.values or None


def dimensions(search: Mapping[str, Space]) -> tuple[Dimension, ...]:
    """The spaces in the order in which they are chosen: each after those that its `when` names."""
    made = {field: tuple(_of_field(field, space)) for field, space in search.items()}
    ordered: list[Dimension] = []
    for field in in_order(search):
        ordered += made[field]
    return tuple(ordered)


def in_order(search: Mapping[str, Space]) -> list[str]:
    """The fields, each after those that its `when` names; what is left of a circle comes last."""
    left, done = list(search), []
    while ready := [field for field in left if all(name in done for name in search[field].when)]:
        done += ready
        left = [field for field in left if field not in ready]
    return done + left


def _of_field(field: str, space: Space) -> Iterator[Dimension]:
    when = {name: tuple(value) if isinstance(value, list) else (value,) for name, value in space.when.items()}
    if space.is_range:
        yield Dimension(field, space.kind, low=space.bounds[0], high=space.bounds[1], when=when)
    elif space.subsets is not None:
        yield from (Dimension(f"{field}.{level}", "choice", (True, False), when=when) for level in LEVELS)
    elif space.each is not None:
        yield from (Dimension(f"{field}.{level}", "choice", space.each, when=when) for level in LEVELS)
    else:
        yield Dimension(field, space.kind, space.values, when=when)


def settings_at(point: Point, search: Mapping[str, Space], *, architecture: str) -> dict[str, Any]:
    """What the job is changed to at a point, by field: `{"model.num_heads": 4}`.

    Args:
        point: A value for each open dimension.
        search: The spaces.
        architecture: The job's own network, which says what a skip is where the point does not.
    """
    found = {name: value for name, value in point.items() if not name.startswith(f"{SKIPS}.")}
    levels = [point[f"{SKIPS}.{level}"] for level in LEVELS if f"{SKIPS}.{level}" in point]
    if levels:
        subsets = search[SKIPS].subsets
        network = str(found.get("model.architecture", architecture))
        found[SKIPS] = levels if subsets is None else [_kind(subsets, there, network) for there in levels]
    return found


def _kind(subsets: Subsets | bool, there: bool, architecture: str) -> str:
    chosen = subsets if isinstance(subsets, Subsets) else Subsets()
    if not there:
        return chosen.absent
    return chosen.present or ("dra_channel" if architecture == "udtransnet" else "identity")


def random_point(search: Mapping[str, Space], dice: random.Random) -> dict[str, Any]:
    """A point, each value of each dimension as likely as the others."""
    point: dict[str, Any] = {}
    for dim in dimensions(search):
        if dim.is_open(point):
            point[dim.name] = _drawn(dim, dice)
    return point


def _drawn(dim: Dimension, dice: random.Random) -> Any:
    if dim.values:
        return dice.choice(dim.values)
    if dim.kind == "int":
        return dice.randint(int(dim.low), int(dim.high))
    if dim.kind == "log":
        return math.exp(dice.uniform(math.log(dim.low), math.log(dim.high)))
    return dice.uniform(dim.low, dim.high)


def count_points(search: Mapping[str, Space]) -> float:
    """How many points there are, conditions left aside; infinite with a continuous space."""
    counts = [len(values) if (values := dim.countable) else math.inf for dim in dimensions(search)]
    return math.prod(counts)


def all_points(search: Mapping[str, Space], *, only: str = "") -> Iterator[dict[str, Any]]:
    """Every point of countable spaces, the last dimension fastest; each once, whatever its conditions close.

    Args:
        search: The spaces.
        only: Dimensions of this kind alone, `grid`.
    """
    chosen = [dim for dim in dimensions(search) if not only or dim.kind == only]
    seen: set[tuple[tuple[str, str], ...]] = set()
    for values in itertools.product(*(dim.countable or () for dim in chosen)):
        point: dict[str, Any] = {}
        for dim, value in zip(chosen, values, strict=True):
            if dim.is_open(point) or only:
                point[dim.name] = value
        key = tuple((name, repr(value)) for name, value in point.items())
        if key not in seen:
            seen.add(key)
            yield point
