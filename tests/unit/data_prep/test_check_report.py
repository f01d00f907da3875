"""The report of a check as JSON, as lines and as a page; how often files are read; what becomes of tasks that die."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import InProcessExecutor, adapters
from data_prep.case import Case, RawCase
from data_prep.check import ROWS, CheckReport, Finding, check_source
from data_prep.check.facts import Facts, Intensity, Sample
from data_prep.check.finding import row_of
from data_prep.check.look import look
from data_prep.check.report import ordered
from data_prep.executor import Died
from udt_cluster.config.data import DataConfig
from udt_cluster.storage import Location

EVIL = "<script>alert(1)</script>\"' onerror=x & \x1b[31m\n"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(6):
        rng = np.random.default_rng(number)
        blocks = np.kron(rng.integers(0, 255, (8, 8, 3), np.uint8), np.ones((4, 6, 1), np.uint8))
        label = np.zeros((32, 48), np.uint8)
        label[4:20, 8:20] = 255
        for folder, values in (("images", blocks), ("masks", label)):
            path = tmp_path / "source" / folder / f"c{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return tmp_path / "source"


def config(source: Path, **fields: object) -> DataConfig:
    base = {"source": str(source), "adapter": "image_folder", "group_by": "case", "size": (32, 32), "splits": {"k": 2}}
    return DataConfig.model_validate({**base, **fields})


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "every tag is closed"

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_data(self, data: str) -> None:
        self.text += data


def report(findings: int = 3, *, picture: bytes | None = None) -> CheckReport:
    found = [
        Finding(row="D3", severity=severity, case=EVIL, file=EVIL, message=EVIL, remedy=EVIL, cases=(EVIL,), count=9)
        for severity in ("refused", "warning", "note")
        for _ in range(findings)
    ]
    channel = Intensity(minimum=-3.0, low=-1.0, mean=0.5, high=2.0, maximum=9.0, std=1.0)
    facts = Facts(sizes={(32, 48): 3}, sites={EVIL: 2}, intensities=(channel, channel), depths={1: 3, 90: 2})
    if picture:
        found = [Finding(**{**vars(finding), "picture": picture}) for finding in found]
    samples = tuple(Sample(case=EVIL, picture=picture) for _ in range(12) if picture)
    counts = {"cases": 3, "refused": findings, "warning": findings}
    return CheckReport(source=EVIL, adapter=EVIL, findings=tuple(found), counts=counts, facts=facts, samples=samples)


def test_the_page_escapes_whatever_files_are_called() -> None:
    page = report().to_html()
    read = Reader(page)
    assert read.open == []
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in read.text, "it is there to be read"
    assert "\x1b" not in page


def test_the_page_needs_nothing_else(pairs: Path) -> None:
    page = check_source(config(pairs), executor=InProcessExecutor()).to_html()
    read = Reader(page)
    assert read.tags["img"] == 6
    assert read.tags["svg"] >= 3
    links = [value for name, value in read.attributes if name in ("src", "href", "action", "data")]
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not {"link", "script", "iframe", "object"} & set(read.tags)
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert all(value for name, value in read.attributes if name == "alt")


def test_the_page_stays_small_whatever_is_wrong() -> None:
    noise = np.random.default_rng(0).bytes(40_000)
    page = report(1000, picture=noise).to_html()
    assert len(page.encode()) < 5_000_000
    assert "and 700 more" in page


def test_json_is_json_and_has_no_pictures(pairs: Path) -> None:
    found = check_source(config(pairs, classes=["gland"], label_values=[254]), executor=InProcessExecutor())
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["blocks"] is True
    assert {finding["row"] for finding in plain["findings"]} == {"D3"}
    assert plain["findings"][0]["case"] == "c0"
    assert all(set(finding) == set(plain["findings"][0]) for finding in plain["findings"])
    assert "picture" not in plain["findings"][0]
    assert found.findings[0].picture is not None


def test_numbers_agree_with_a_count_of_their_own(pairs: Path) -> None:
    found = check_source(config(pairs), executor=InProcessExecutor())
    files = list(pairs.rglob("*.png"))
    assert found.counts["bytes"] == sum(path.stat().st_size for path in files)
    pixels = [np.asarray(Image.open(path)) for path in sorted(files)]
    labels = [values for values in pixels if values.ndim == 2]
    assert found.facts.classes[1].pixels == {"train": sum(int((label > 0).sum()) for label in labels)}
    assert found.facts.sizes == {(32, 48): 6}
    assert len(found.facts.intensities) == 3


def test_lines_say_where_what_and_what_to_do() -> None:
    lines = report(2).to_lines(limit=1)
    assert lines[0].startswith("refused  D3  <script>")
    assert "and 1 more" in "".join(lines)
    assert not any("\n" in line or "\x1b" in line for line in lines), "a name can neither forge a line nor colour it"
    assert lines[-1] == "refused: 2 findings must be mended before training"
    assert CheckReport(source="s", adapter="a", findings=(), counts={}).to_lines()[-1] == "passed"


def test_refused_comes_first_then_the_order_of_the_rows() -> None:
    rows = [("S9", "warning"), ("D1", "note"), ("D7", "refused"), ("D1", "warning"), ("D2", "refused")]
    found = ordered([Finding(row=row, severity=severity, message="") for row, severity in rows])
    assert [finding.row for finding in found] == ["D2", "D7", "D1", "S9", "D1"]


class Watching(InProcessExecutor):
    """Runs tasks as they are asked for, remembers how many there were, and may lose one."""

    def __init__(self, lost: str = "") -> None:
        self.tasks: Counter[str] = Counter()
        self._lost = lost

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], *, description: str) -> Iterator[Any]:
        for item in items:
            self.tasks[function.__name__] += 1
            is_lost = function is look and item.case.id == self._lost
            yield Died("killed by signal 9") if is_lost else function(item)


def test_every_file_is_read_once_by_one_task_a_case(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()
    read_bytes = Location.read_bytes

    def counted(self: Location, **part: int | None) -> bytes:
        reads[self.name] += 1
        return read_bytes(self, **part)

    monkeypatch.setattr(Location, "read_bytes", counted)
    executor = Watching()
    steps: list[tuple[int, int, str]] = []
    check_source(config(pairs), executor=executor, on_progress=lambda *step: steps.append(step), pictures=False)
    assert executor.tasks == {"look": 6}
    assert set(reads.values()) == {2}, "once the image, once the mask of that name"
    assert steps == [(number, 6, "cases") for number in range(1, 7)]


def test_an_adapter_may_read_a_file_twice_and_it_counts_once(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapters.get("image_folder")
    read = type(adapter).read

    def twice(self: object, source: Location, case: Case, job: DataConfig) -> RawCase:
        read(adapter, source, case, job)
        return read(adapter, source, case, job)

    monkeypatch.setattr(type(adapter), "read", twice)
    with Image.open(pairs / "images/c0.png") as image:
        image.save(pairs / "images/c0.jpg")
    (pairs / "images/c0.png").unlink()
    found = check_source(config(pairs), executor=InProcessExecutor(), pictures=False)
    assert [(finding.row, finding.count) for finding in found.findings] == [("D5", 1)]


def test_a_task_that_dies_is_a_bad_case_and_the_others_are_not_lost(pairs: Path) -> None:
    found = check_source(config(pairs), executor=Watching(lost="c2"), pictures=False)
    (finding,) = [f for f in found.findings if f.severity == "refused"]
    assert (finding.row, finding.case) == ("D1", "c2")
    assert "killed by signal 9" in finding.message
    assert found.counts["good_cases"] == 5


def test_nothing_is_written(pairs: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    check_source(config(pairs), executor=InProcessExecutor())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_every_row_has_a_title_and_messages_find_their_rows() -> None:
    assert list(ROWS) == ["D1", "D2", "D3", "D4", "D5", "D6", "D7", "S7", "S8", "S9"]
    assert row_of("something nobody has seen") == "D1"
    assert row_of("something nobody has seen", "D7") == "D7"
    assert row_of("its header claims 720,000,002,400 bytes; at most 8,589,934,592 are read") == "D1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("D1", "broken or truncated NIfTI (BadGzipFile); copy it again, or convert it again"),
        ("D1", "truncated: 100 bytes, its header says 3,000; copy it again"),
        ("D1", "claims 8,000 bytes of pixels; 300 bytes cannot hold them"),
        ("D1", "has no data set label; the file holds 1 in all"),
        ("D2", "the mask has (3, 4, 5) voxels (D, H, W), the image (3, 4, 6)"),
        ("D2", "the mask lies 1.0 voxels away from the image (their affines differ)"),
        ("D2", "is turned against the images, or has no pixels of 1.0 mm; resample it to their grid"),
        ("D2", "b.dcm has 10 x 10 pixels, a.dcm 12 x 12: one size a series; leave the odd one out"),
        ("D3", "unexpected label values 3 (5 pixels); allowed: 0, 1, 2"),
        ("D3", "a coloured mask; store one value per class (grey or palette), or name the colours"),
        ("D3", "segments overlap in 9 pixels of a slice; every pixel can have one class only"),
        ("D5", "int64 values beyond +-2^24 cannot be kept exactly; rescale the image to 16 bits"),
        ("D5", "3 of 100 values are NaN or infinite; mend them in the source, or leave the case out"),
        ("D5", "EXIF says that it is to be turned (orientation 6); turn the pixels and clear the tag"),
        ("D5", "has 4 dimensions (3, 3, 3, 9); a volume has three: store one frame per file"),
        ("D5", "compressed as JPEG 2000, which nothing here decodes; store it uncompressed (gdcmconv --raw)"),
        ("D7", "there is no mask for this image"),
        ("D7", "may not be read; check its owner and mode"),
        ("D7", "several masks for the series of a.dcm; keep one"),
        ("D7", "the series that it segments is not here"),
        ("D7", "patient001_frame01: listed in train.list, but there is no patient001_frame01.h5"),
        (
            "S8",
            "more than 89,478,485 pixels; cut it into smaller files first (a small file like this may be an attack)",
        ),
        ("S8", "not an image of the allowed formats (PNG, JPEG, TIFF, BMP, GIF)"),
        ("S8", "not a DICOM file: 'DICM' is not where PS3.10 puts it; export it again"),
        ("S8", "it has a document type (DTD), which an annotation of ImageScope has not; remove <!DOCTYPE ...>"),
        ("S8", "a deflated DICOM file, which may unpack to any size; store it uncompressed"),
    ],
)
def test_messages_of_the_readers_find_their_rows(row: str, message: str) -> None:
    assert row_of(message) == row
