"""What workers say of themselves, and what the driver reads when they are dead."""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from udt_cluster.cluster import failures, signs
from udt_cluster.cluster.failures import LastWords
from udt_cluster.cluster.signs import Sign, SignWriter, read_signs, signs_folder, traces_of
from udt_cluster.storage import Location


@pytest.fixture
def folder(tmp_path: Path) -> Location:
    return signs_folder(Location.parse(tmp_path / "jobs" / "j"), "j-f0-s0", 3)


def test_a_rank_says_where_it_began_how_far_it_is_and_when_it_last_got_on(folder: Location) -> None:
    before = time.time()
    writer = SignWriter(folder, Sign(1, node="10.0.0.2", node_id="ab"))
    writer.before_step(5)
    writer.beat()
    writer.before_step(6)
    writer.beat()
    writer.beat()
    writer.before_step(7)
    writer.close()
    (sign,) = read_signs(folder)
    assert (sign.rank, sign.node, sign.node_id, sign.pid) == (1, "10.0.0.2", "ab", os.getpid())
    assert (sign.first_step, sign.step) == (5, 6), "the seventh had begun and was not done"
    assert before <= sign.began_at <= sign.beat_at <= time.time()


def test_before_the_first_step_is_done_there_is_no_beginning(folder: Location) -> None:
    writer = SignWriter(folder, Sign(0))
    writer.before_step(8)
    writer.close()
    (sign,) = read_signs(folder)
    assert (sign.first_step, sign.step, sign.began_at) == (8, 7, 0.0)


def test_signs_are_written_while_training_goes_on(folder: Location) -> None:
    writer = SignWriter(folder, Sign(0))
    writer.before_step(1)
    writer.beat()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and [sign.step for sign in read_signs(folder)] != [1]:
        time.sleep(0.05)
    assert [sign.step for sign in read_signs(folder)] == [1]
    writer.close()


def test_last_words_are_written_at_once(folder: Location) -> None:
    writer = SignWriter(folder, Sign(1, node="beta"))
    writer.last_words(failures.HANG, "made no step")
    traces = traces_of(read_signs(folder))
    assert traces.words == {1: LastWords(failures.HANG, "made no step")}
    assert traces.places == {1: "beta"}
    assert traces.steps == {}, "it had not begun"
    writer.close()


def test_lost_nodes_are_those_of_the_attempt() -> None:
    found = [Sign(0, node="alpha", node_id="a1"), Sign(1, node="beta", node_id="b2")]
    assert traces_of(found, lost_nodes=frozenset({"b2", "c3"})).lost_nodes == frozenset({"beta"})


def test_storage_that_is_away_is_not_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = Location.parse(tmp_path / "file" / "signs")
    writer = SignWriter(folder, Sign(0))
    writer.before_step(1)
    writer.beat()
    writer.close()
    assert read_signs(Location.parse(tmp_path / "nothing")) == []


def test_what_a_node_is_short_of_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signs.shortage() == "", "this machine has enough of all"
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(free=(3 if "shm" in str(path) else 900) << 20)
    )
    assert signs.shortage() == "3 MB left in /dev/shm"


def test_a_sign_of_a_later_version_is_read(folder: Location) -> None:
    (folder / "00000.json").write_bytes(b'{"rank": 0, "step": 4, "first_step": 1, "mood": "fine"}')
    assert traces_of(read_signs(folder)).steps == {0: 4}
