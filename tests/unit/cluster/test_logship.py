"""Output on its way to storage: all of it, in order, once; and what a person gets to read of it."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from udt_cluster.cluster.client.joblogs import LogReader, readable
from udt_cluster.cluster.logship import SOURCE, Piecewise, Tail, collect_rest, piece_name, split_piece
from udt_cluster.errors import StorageUnreachableError
from udt_cluster.storage import Location

WRITES = """
import os, sys, time
from udt_cluster.cluster.logship import ship_own_output
from udt_cluster.storage import Location
with ship_own_output(Location.parse(sys.argv[1]), every=0.05) as shipper:
    print("first", flush=True)
    for _ in range(200):
        if os.path.exists(sys.argv[2]):
            break
        time.sleep(0.05)
    print("complaint", file=sys.stderr, flush=True)
    print("half a li", end="", flush=True)
    {end}
"""


def write(folder: Path, end: str) -> Location:
    """Run a process that ships its output until its first piece is there, and then ends like this."""
    stream = Location.parse(folder / "logs" / "r" / "a0-r0")
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        out.write("of an earlier task\n")
        out.flush()
        arguments = [str(stream.local_path), str(stream.local_path / piece_name(0))]
        subprocess.run(
            [sys.executable, "-c", WRITES.format(end=end), *arguments], stdout=out, stderr=err, check=False, timeout=60
        )
    return stream


def text_of(stream: Location) -> str:
    found = sorted(entry.key for entry in stream.entries() if entry.key.endswith(".log"))
    return b"".join(split_piece((stream / key).read_bytes())[0] for key in found).decode()


def test_all_is_shipped_when_the_process_ends_well(tmp_path: Path) -> None:
    stream = write(tmp_path, "pass")
    assert sorted(text_of(stream).splitlines()) == ["complaint", "first", "half a li"]
    assert not (stream / SOURCE).exists(), "nothing is left to be collected"


def test_the_last_words_of_a_dead_process_are_collected_once(tmp_path: Path) -> None:
    stream = write(tmp_path, "os._exit(1)")
    source = json.loads((stream / SOURCE).read_bytes())
    assert "half a li" not in text_of(stream)
    assert "half a li\n" in collect_rest(stream, source)
    assert sorted(text_of(stream).splitlines()) == ["complaint", "first", "half a li"]
    assert not (stream / SOURCE).exists()
    collect_rest(stream, source)
    assert sorted(text_of(stream).splitlines()) == ["complaint", "first", "half a li"]


class AwayFolder:
    """A folder of a storage that answers every other time."""

    def __init__(self) -> None:
        self.asked = 0
        self.held: dict[str, bytes] = {}

    def __truediv__(self, key: str) -> "AwayObject":
        return AwayObject(self, key)


class AwayObject:
    def __init__(self, folder: AwayFolder, key: str) -> None:
        self.folder, self.key = folder, key

    def write_bytes(self, data: bytes) -> None:
        self.folder.asked += 1
        if self.folder.asked % 2:
            raise StorageUnreachableError("away")
        assert self.key not in self.folder.held, "a piece is never replaced by another"
        self.folder.held[self.key] = data


def test_storage_that_is_away_delays_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("")
    folder = AwayFolder()
    pieces = Piecewise(folder, {"out": Tail(str(path), 0)}, 0)  # type: ignore[arg-type]
    for number in range(10):
        with path.open("a") as file:
            file.write(f"line {number}\n")
        with suppress(StorageUnreachableError):
            pieces.ship()
    for _ in range(3):
        with suppress(StorageUnreachableError):
            pieces.ship()
    text = b"".join(split_piece(folder.held[key])[0] for key in sorted(folder.held)).decode()
    assert text == "".join(f"line {number}\n" for number in range(10))


def test_a_long_line_does_not_stop_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"x" * (3 << 20) + b"\nend\n")
    folder = Location.parse(tmp_path / "stream")
    pieces = Piecewise(folder, {"out": Tail(str(path), 0)}, 0)
    while pieces.ship():
        pass
    assert len(text_of(folder)) == (3 << 20) + 5


def put(logs: Location, stream: str, number: int, text: str) -> None:
    (logs / stream / piece_name(number)).write_bytes(b'#udt {"out": 7}\n' + text.encode())


def test_logs_are_the_drivers_and_one_ranks_or_all(tmp_path: Path) -> None:
    logs = Location.parse(tmp_path / "glas-1" / "logs")
    put(logs, "driver", 0, "stage train\n")
    put(logs, "glas-1-f0-s1/a0-r0", 0, "epoch 1\n")
    put(logs, "glas-1-f0-s1/a0-r1", 0, "warning\n")
    put(logs, "glas-1-f0-s1/a1-r0", 0, "epoch 2\n")
    assert "".join(LogReader(logs, 0).all()) == "stage train\nepoch 1\nepoch 2\n"
    assert "".join(LogReader(logs, 1).all()) == "stage train\nwarning\n"
    everything = "".join(LogReader(logs, None).all()).splitlines()
    assert everything[0] == "stage train"
    assert set(everything[1:]) == {
        "[f0-s1 attempt 0 rank 0] epoch 1",
        "[f0-s1 attempt 0 rank 1] warning",
        "[f0-s1 attempt 1 rank 0] epoch 2",
    }


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    logs = Location.parse(tmp_path / "logs")
    put(logs, "driver", 0, "a\n")
    reader = LogReader(logs)
    assert list(reader.all()) == ["a\n"]
    assert list(reader.more()) == list(reader.all()) == []
    put(logs, "driver", 1, "b\n")
    put(logs, "driver", 2, "c\n")
    assert list(reader.more()) == ["b\n", "c\n"]
    put(logs, "r-f0-s1/a0-r0", 0, "new\n")
    assert list(reader.more()) == []
    assert list(reader.all()) == ["new\n"]
    assert reader.driver_position() == 7


def test_what_ray_says_to_itself_is_not_shown() -> None:
    lines = """\
:job_id:02000000
:actor_name:RayTrainWorker
Setting up process group for: env:// [rank=0, world_size=2]
(TrainController pid=10355) [State Transition] INITIALIZING -> SCHEDULING.
2026-11-23 04:00:44,675\tINFO job_manager.py:581 -- Runtime env is setting up.
(raylet) A worker died or was killed while executing a task by an unexpected system error.
Running entrypoint for job glas-udtransnet-9ce68e27: python -m udt_cluster.cluster.driver.run
[2026-11-23 04:01:21,623 E 10355 10388] core_worker.cc:2465: Actor with class name: 'PreemptionWatcher'
/x/site-packages/ray/data/options.py:436: RayDeprecationWarning: `exclude_resources` is deprecated.
  self.exclude_resources = exclude_resources
  kept: this one is indented too
04:01:34 epoch 1/2 step 8 train_loss 1.0098 val_dice 0.6767 3.3 s
Traceback (most recent call last):
  File "/x/train.py", line 3, in train
Reporting training result 1: TrainingReport(checkpoint=None, metrics={})
(0.5, 0.5) are the means
"""
    assert readable(lines).splitlines() == [
        "  kept: this one is indented too",
        "04:01:34 epoch 1/2 step 8 train_loss 1.0098 val_dice 0.6767 3.3 s",
        "Traceback (most recent call last):",
        '  File "/x/train.py", line 3, in train',
        "(0.5, 0.5) are the means",
    ]
