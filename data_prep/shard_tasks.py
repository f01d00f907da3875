"""Writing a store, the tasks' part: whole shards, each put together by one task from the staged cases in it.

A task that has written its shard leaves a record beside the staged cases. A later preparation with the same plan finds
it and the objects, and does nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from data_prep.staging import StagedCase, StagingError
from data_prep.writer import StorePlan, put
from udt_cluster.data.schema import ArrayLayout
from udt_cluster.data.shards import encode_chunk, encode_shard
from udt_cluster.storage import Location, ObjectRecord, in_threads


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a shard takes of one case: [start, stop) of its samples, or of the pixels of its native label."""

    staged: Location
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to write, of `images` and `labels` together or of `native_labels`; small.

    Attributes:
        root: Of the store.
        record: Where the task writes down what it put.
        kind: Which.
        layouts: Of the arrays that it belongs to.
        index: Number of the shard.
        parts: In the order in which they stand in the shard.
    """

    root: Location
    record: Location
    kind: Literal["samples", "native"]
    layouts: tuple[ArrayLayout, ...]
    index: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        records: Of its objects.
        lost: A staged case has gone or is broken; nothing was written.
    """

    records: tuple[ObjectRecord, ...] = ()
    lost: bool = False


def count_shards(plan: StorePlan) -> int:
    """How many tasks there are."""
    return sum(-(-int(ends[-1]) // step) for _, ends, step, _ in _kinds(plan))


def shard_tasks(plan: StorePlan, staged: Sequence[Location], records: Location) -> Iterator[ShardTask]:
    """Every shard of a store.

    Args:
        plan: Of the store.
        staged: Each case of the plan.
        records: Folder of the records; another one for another plan.
    """
    for kind, ends, step, layouts in _kinds(plan):
        for index, start in enumerate(range(0, int(ends[-1]), step)):
            yield ShardTask(
                root=plan.root,
                record=records / f"{kind}-{index}",
                kind=kind,
                layouts=layouts,
                index=index,
                parts=_parts(staged, ends, start, min(start + step, int(ends[-1]))),
            )


def write_shard(task: ShardTask) -> ShardReport:
    """Put one shard, if that has not been done."""
    done = _recorded(task)
    if done is not None:
        return ShardReport(done)
    try:
        pieces = in_threads(lambda part: _read(task, part), task.parts)
    except (FileNotFoundError, StagingError):
        return ShardReport(lost=True)
    columns = _native_chunks(task, pieces) if task.kind == "native" else _sample_chunks(task, pieces)
    put_ = [_put_shard(task, layout, chunks) for layout, chunks in zip(task.layouts, columns, strict=True)]
    task.record.write_bytes(json.dumps([asdict(record) for record in put_]).encode())
    return ShardReport(tuple(put_))


def _kinds(
    plan: StorePlan,
) -> Iterator[tuple[Literal["samples", "native"], npt.NDArray[np.int64], int, tuple[ArrayLayout, ...]]]:
    """What is cut into shards: its name, where each case begins and ends, how much a shard has, and the arrays."""
    layouts = plan.layouts
    native = layouts["native_labels"]
    assert native.shards is not None
    yield "samples", plan.sample_ends, plan.info.shard_samples, (layouts["images"], layouts["labels"])
    yield "native", plan.native_ends, native.shards[0], (native,)


def _parts(staged: Sequence[Location], ends: npt.NDArray[np.int64], start: int, stop: int) -> tuple[Part, ...]:
    """Which cases have something in [start, stop), and what of each."""
    first, last = (int(np.searchsorted(ends, edge, side="right")) - 1 for edge in (start, stop - 1))
    return tuple(
        Part(
            staged=staged[case],
            start=max(start, int(ends[case])) - int(ends[case]),
            stop=min(stop, int(ends[case + 1])) - int(ends[case]),
        )
        for case in range(first, last + 1)
    )


def _recorded(task: ShardTask) -> tuple[ObjectRecord, ...] | None:
    """What an earlier task put, if it is still there."""
    try:
        found = tuple(ObjectRecord(**record) for record in json.loads(task.record.read_bytes()))
        return found if all((task.root / record.key).size() == record.size for record in found) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _read(task: ShardTask, part: Part) -> Any:
    """Chunks of images and of labels, or pixels; what is broken is deleted, so that it is made again."""
    try:
        case = StagedCase.open(part.staged)
        if task.kind == "native":
            return case.native(part.start, part.stop)
        return [case.samples(layout.path, part.start, part.stop, layout.dtype) for layout in task.layouts]
    except StagingError:
        part.staged.delete()
        raise


def _sample_chunks(task: ShardTask, pieces: list[list[list[bytes]]]) -> list[list[bytes]]:
    """Of each array, the chunks of all parts."""
    return [[chunk for piece in pieces for chunk in piece[array]] for array in range(len(task.layouts))]


def _native_chunks(task: ShardTask, pieces: list[npt.NDArray[np.uint8]]) -> list[list[bytes]]:
    """All parts in chunks, the last one filled up with background."""
    size = task.layouts[0].chunks[0]
    pixels = np.concatenate(pieces)
    whole = np.zeros(-(-len(pixels) // size) * size, dtype=np.uint8)
    whole[: len(pixels)] = pixels
    return [[encode_chunk(chunk) for chunk in whole.reshape(-1, size)]]


def _put_shard(task: ShardTask, layout: ArrayLayout, chunks: list[bytes]) -> ObjectRecord:
    assert layout.shards is not None
    key = "/".join([layout.path, "c", str(task.index), *["0"] * (len(layout.shape) - 1)])
    return put(task.root, key, encode_shard(chunks, layout.shards[0] // layout.chunks[0]))
