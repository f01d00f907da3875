"""The spool: what was appended and not marked as sent is there after any crash."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udt_cluster.tracking import spool as spool_module
from udt_cluster.tracking.backlog import together
from udt_cluster.tracking.spool import Record, Spool


def values(spool: Spool) -> list[object]:
    return [record.value["n"] for record in spool.unsent()]


def reopened(spool: Spool) -> Spool:
    spool.close()
    return Spool(spool.path)


def test_unsent_lines_survive(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool")
    records = spool.append([{"n": 0}, {"n": 1}])
    spool.append([{"n": 2}])
    spool.mark_sent(records[0].end)
    again = reopened(spool)
    assert values(again) == [1, 2]
    (record,) = again.append([{"n": 3}])
    again.mark_sent(record.end)
    last = reopened(again)
    assert values(last) == []
    last.remove()
    assert list((tmp_path / "deep").iterdir()) == []


def test_torn_line_is_removed_and_what_follows_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append([{"n": 0}])
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b'{"n": 1')
    again = Spool(spool.path)
    again.append([{"n": 2}])
    assert values(again) == [0, 2]
    again.close()


@pytest.mark.parametrize("mark", ["", "many", "999999"])
def test_broken_mark_sends_all_again(tmp_path: Path, mark: str) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append([{"n": 0}])
    (tmp_path / "spool.sent").write_text(mark)
    assert values(spool) == [0]
    spool.close()


def test_full_disk_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append([{"n": 0}])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            spool.append([{"n": 1}])
    spool.append([{"n": 2}])
    assert values(spool) == [0, 2]
    spool.close()


@given(lines=st.lists(st.integers(), max_size=8), sent=st.integers(0, 8), cut=st.integers(0, 200))
def test_nothing_unsent_is_lost_wherever_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[int], sent: int, cut: int
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "s")
    records = spool.append([{"n": number} for number in lines])
    if records[:sent]:
        spool.mark_sent(records[:sent][-1].end)
    spool.close()
    os.truncate(spool.path, max(spool.size - cut, 0))
    whole = [record for record in records if record.end <= max(spool.size - cut, 0)]
    again = Spool(spool.path)
    kept = values(again)
    again.close()
    expected = [record.value["n"] for record in whole]
    assert kept in (expected[sent:], expected)  # a mark beyond the end counts for nothing
    assert kept == expected[sent:] or spool.size - cut < records[:sent][-1].end


def test_batches_hold_a_thousand_points_or_one_picture() -> None:
    metrics = [Record(n, {"step": n, "metrics": {"a": 0.0, "b": 0.0}}) for n in range(1, 701)]
    picture = Record(701, {"picture": "p", "name": "v", "step": 1})
    assert together([*metrics, picture]) == metrics[:500]
    assert together([*metrics[:3], picture]) == metrics[:3]
    assert together([picture, *metrics]) == [picture]
    assert together([]) == []
    large = Record(1, {"step": 1, "metrics": {str(n): 0.0 for n in range(1500)}})
    assert together([large, picture]) == [large]


def test_what_was_delivered_is_dropped_from_the_file_and_the_rest_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    records = spool.append([{"n": number} for number in range(100)])
    spool.mark_sent(records[9].end)
    assert spool.compact() == 0, "most of it is still to be sent"
    spool.mark_sent(records[94].end)
    assert spool.compact() == records[94].end
    assert spool.size == spool.path.stat().st_size == records[-1].end - records[94].end
    assert values(spool) == [95, 96, 97, 98, 99]
    (more,) = spool.append([{"n": 100}])
    spool.mark_sent(spool.read(0)[1].end)
    again = reopened(spool)
    assert values(again) == [97, 98, 99, 100]
    assert again.size == more.end
    again.close()


@pytest.mark.parametrize("crash_at", ["spool", "spool.sent"])
def test_a_crash_while_the_file_is_made_smaller_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    spool = Spool(tmp_path / "spool")
    records = spool.append([{"n": number} for number in range(100)])
    spool.mark_sent(records[94].end)
    real = spool_module._replace

    def crash(path: Path, data: bytes) -> None:
        if path.name == crash_at:
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "_replace", crash)
        with pytest.raises(KeyboardInterrupt):
            spool.compact()
    again = reopened(spool)
    assert values(again) == [95, 96, 97, 98, 99]
    again.append([{"n": number} for number in range(100, 300)])  # beyond the mark of before the crash
    last = reopened(again)
    assert values(last) == [95, 96, 97, 98, 99, *range(100, 300)]
    last.close()


def test_lines_longer_than_a_piece_and_lines_that_are_no_json(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append([{"n": 0}, {"n": 1, "long": "x" * 3 * 2**18}, {"n": 2}])
    with spool.path.open("ab") as file:
        file.write(b"\xff{no json\n" * 100_000 + b'{"n": 3}\n' + b"x" * 2**19)
    again = reopened(spool)
    assert values(again) == [0, 1, 2, 3]
    assert spool.path.stat().st_size == again.size
    os.truncate(again.path, 5)
    with pytest.raises(OSError, match="cut off"):
        again.read(0)
    again.close()
