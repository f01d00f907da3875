"""Which samples made up each global batch, written down step by step: what `verify-resume` compares.

::

    <folder>/step-00000007/a1-r0-of-2.json     sample indices of rank 0 of 2 in attempt 1
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from udt_cluster.storage import Location

if TYPE_CHECKING:
    from udt_cluster.training.protocols import Batch, TrainLoader

_KEY = re.compile(r"step-(\d+)/a(\d+)-r(\d+)-of-(\d+)\.json")

Batches = dict[int, dict[int, tuple[int, ...]]]
"""Step -> attempt -> the samples of the global batch, ascending; only steps that every rank has written."""


class TracedLoader:
    """A training loader that writes down each step's samples before it hands them out."""

    def __init__(self, loader: "TrainLoader", folder: Location, *, attempt: int, rank: int, world_size: int) -> None:
        self._loader, self._folder = loader, folder
        self._name = f"a{attempt}-r{rank}-of-{world_size}.json"

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self._loader.steps_per_epoch

    @property
    def wait_seconds(self) -> float:
        """Seconds waited for data since the epoch began."""
        return self._loader.wait_seconds

    def epoch(self, epoch: int, *, start_step: int = 0) -> "Iterator[Sequence[Batch]]":
        """The loader's steps, each written down first."""
        first = epoch * self.steps_per_epoch + start_step + 1
        for step, batches in enumerate(self._loader.epoch(epoch, start_step=start_step), first):
            samples = [int(sample) for batch in batches for sample in batch.samples]
            (self._folder / f"step-{step:08d}/{self._name}").write_bytes(json.dumps(samples).encode())
            yield batches


def global_batches(folder: Location) -> Batches:
    """What the ranks of a run have written down."""
    parts: dict[tuple[int, int], dict[int, list[int]]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for entry in folder.entries():
        if match := _KEY.fullmatch(entry.key):
            step, attempt, rank, size = (int(group) for group in match.groups())
            parts.setdefault((step, attempt), {})[rank] = json.loads((folder / entry.key).read_bytes())
            sizes[step, attempt] = size
    found: Batches = {}
    for (step, attempt), ranks in sorted(parts.items()):
        if len(ranks) == sizes[step, attempt]:
            found.setdefault(step, {})[attempt] = tuple(sorted(sample for part in ranks.values() for sample in part))
    return found


def differing_steps(expected: Batches, found: Batches) -> list[int]:
    """Steps whose global batch is another one, in any attempt, or is missing."""
    whole = {step: next(iter(attempts.values())) for step, attempts in expected.items()}
    missing = whole.keys() - found.keys()
    wrong = {step for step, attempts in found.items() if any(batch != whole.get(step) for batch in attempts.values())}
    return sorted(missing | wrong)
