"""Annotations of Aperio ImageScope: which pixels they enclose, and what is refused before it does harm."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_prep import adapters
from data_prep.case import CaseError
from data_prep.readers import ReaderError
from data_prep.readers.annotations import MAX_ANNOTATION_BYTES, read_outlines
from udt_cluster.config.data import DataConfig
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

Corners = list[tuple[float, float]]
SQUARE: Corners = [(2, 3), (7, 3), (7, 9), (2, 9)]


def region(corners: Corners, **attributes: object) -> str:
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return f'<Region Id="1" Zoom="0.1"{more}><Attributes/><Vertices>{vertices}</Vertices></Region>'


def annotation(*regions: str, before: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{before}<Annotations MicronsPerPixel="0.252000"><Annotation Id="1" '
        f'Name="" Type="4"><Attributes><Attribute Name="Description"/></Attributes><Regions><RegionAttributeHeaders/>'
        f"{''.join(regions)}</Regions><Plots/></Annotation></Annotations>"
    ).encode()


def blob(random: np.random.Generator, center: tuple[float, float], radius: float) -> Corners:
    """A freehand line around a centre, not convex and sometimes crossing itself."""
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False) + random.normal(0, 0.15, 24)
    radii = radius * random.uniform(0.5, 1.3, 24)
    points = [(center[0] + r * math.cos(a), center[1] + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]
    return [(round(float(x), 3), round(float(y), 3)) for x, y in points]


def winds(corners: Corners, x: float, y: float) -> bool:
    """Whether a closed line winds around a point: the sum of the angles under which its edges are seen."""
    total = 0.0
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        ax, ay, bx, by = ax - x, ay - y, bx - x, by - y
        total += math.atan2(ax * by - ay * bx, ax * bx + ay * by)
    return abs(round(total / (2 * math.pi))) > 0


def test_pixels_whose_centres_lie_within_are_enclosed() -> None:
    mask = read_outlines(annotation(region(SQUARE))).mask(12, 10)
    expected = np.zeros((12, 10), np.uint8)
    expected[3:9, 2:7] = 1
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)
    moved: Corners = [(x + 0.49, y - 0.49) for x, y in SQUARE]
    assert np.array_equal(read_outlines(annotation(region(moved))).mask(12, 10), expected)


def test_freehand_lines_agree_with_a_sum_of_angles() -> None:
    random = np.random.default_rng(5)
    for center, radius in (((20, 15), 9), ((0, 0), 12), ((38, 29), 8), ((20, 15), 30)):
        corners = blob(random, center, radius)
        mask = read_outlines(annotation(region(corners))).mask(30, 40)
        expected = [[winds(corners, x + 0.5, y + 0.5) for x in range(40)] for y in range(30)]
        assert np.array_equal(mask, np.array(expected, np.uint8))


def test_many_nuclei_agree_with_pillow_at_sixteen_times_the_resolution() -> None:
    random = np.random.default_rng(6)
    nuclei = [blob(random, (random.uniform(0, 120), random.uniform(0, 100)), 7) for _ in range(40)]
    fine = Image.new("L", (120 * 16, 100 * 16))
    for corners in nuclei:
        ImageDraw.Draw(fine).polygon([(x * 16, y * 16) for x, y in corners], fill=1)
    expected = np.asarray(fine)[8::16, 8::16]
    mask = read_outlines(annotation(*map(region, nuclei))).mask(100, 120)
    assert mask.sum() > 2000
    assert np.mean(mask != expected) < 0.005


def test_a_loop_leaves_no_hole_and_direction_does_not_matter() -> None:
    twice = [*SQUARE, *SQUARE]
    once = read_outlines(annotation(region(SQUARE))).mask(12, 10)
    for corners in (twice, SQUARE[::-1]):
        assert np.array_equal(read_outlines(annotation(region(corners))).mask(12, 10), once)
    both = read_outlines(annotation(region(SQUARE), region(SQUARE[::-1]))).mask(12, 10)
    assert np.array_equal(both, once)


def test_negative_regions_are_holes_wherever_they_stand() -> None:
    hole = region([(3, 4), (5, 4), (5, 6), (3, 6)], NegativeROA=1)
    for regions in ((hole, region(SQUARE)), (region(SQUARE), hole)):
        mask = read_outlines(annotation(*regions)).mask(12, 10)
        assert mask.sum() == 30 - 4
        assert not mask[4:6, 3:5].any()


def test_lines_of_one_or_two_corners_and_empty_annotations_enclose_nothing() -> None:
    for regions in ((), (region([]), region([(1, 1)]), region([(1, 1), (8, 8)]))):
        assert not read_outlines(annotation(*regions)).mask(12, 10).any()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<ASAP_Annotations><Annotations/></ASAP_Annotations>", r"its root is not <Annotations>"),
        (annotation(region(SQUARE))[:-40], "broken XML"),
        (b"", "broken XML"),
        (annotation(region(SQUARE), before="<?xml version='1.0' encoding='nonsense'?>"), "broken XML"),
        (annotation(region(SQUARE)).replace(b'X="7"', b'X="7,5"', 1), "a vertex has no X that is a position"),
        (annotation(region([(1, 1), (2, math.nan), (3, 1)])), "a vertex has no Y that is a position"),
        (annotation(region([(1, 1), (1e300, 2), (3, 1)])), "a vertex has no X that is a position"),
        (annotation(region(SQUARE).replace('X="2" ', "", 1)), "a vertex has no X that is a position"),
        (annotation(region(SQUARE, Type=2)), r"region 1 .*than 0 \(freehand\) or 1 \(rectangle\)"),
    ],
)
def test_what_is_no_annotation_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ReaderError, match=reason):
        read_outlines(data)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("bcdefgh", "cdefghi", strict=True)
)
FOREIGN = '<!DOCTYPE a [<!ENTITY i SYSTEM "file:///etc/hostname">'


@pytest.mark.parametrize("start", [BOMB + "]>", FOREIGN + "]>", '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">'])
def test_document_types_and_entities_are_refused(start: str) -> None:
    data = annotation(region(SQUARE)).replace(b'Name=""', b'Name="x"').replace(b"<Plots/>", b"<Plots>&i;</Plots>")
    with pytest.raises(ReaderError, match="document type"):
        read_outlines(data.replace(b"<Annotations ", f"{start}<Annotations ".encode(), 1))


def test_outlines_of_another_picture_are_refused() -> None:
    far = [region([(x + 500, y) for x, y in SQUARE])] * 3
    with pytest.raises(ReaderError, match="3 of 4 outlines lie outside of the picture, which has 10 x 12 pixels"):
        read_outlines(annotation(region(SQUARE), *far)).mask(12, 10)
    near: Corners = [(x - 3.5, y - 4) for x, y in SQUARE]
    assert read_outlines(annotation(region(near))).mask(12, 10)[:5, :4].sum() > 10


def test_outlines_that_would_take_hours_are_refused() -> None:
    everything = region([(0, 0), (200, 0), (200, 200), (0, 200)])
    with pytest.raises(ReaderError, match="more than 16 times over"):
        read_outlines(annotation(*[everything] * 17)).mask(200, 200)
    zigzag = region([(5, 0), (6, 3000)] * 1000)
    with pytest.raises(ReaderError, match="an outline of 2000 corners crosses"):
        read_outlines(annotation(zigzag)).mask(3000, 10)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    folder = tmp_path / "MoNuSeg"
    training, test = folder / "MoNuSeg 2018 Training Data", folder / "MoNuSegTestData"
    for images, annotations, slide in (
        (training / "Tissue Images", training / "Annotations", "TCGA-18-5592-01Z-00-DX1"),
        (training / "Tissue Images", training / "Annotations", "TCGA-38-6178-01Z-00-DX1"),
        (test, test, "TCGA-2Z-A9J9-01A-01-TS1"),
    ):
        images.mkdir(parents=True, exist_ok=True)
        annotations.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (200, 100, 150)).save(images / f"{slide}.tif")
        (annotations / f"{slide}.xml").write_bytes(annotation(region(SQUARE), region([(25, 3), (31, 3), (25, 35)])))
    (training / "overlays").mkdir()
    Image.new("RGB", (40, 36)).save(training / "overlays/TCGA-18-5592-01Z-00-DX1.png")
    return folder


def config(source: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"source": str(source), "adapter": "monuseg", **fields})


def test_monuseg_as_published(original: Path) -> None:
    adapter, location, job = adapters.get("monuseg"), Location.parse(original), config(original)
    found = adapter.discover(location, job)
    assert [(case.id, case.group, case.split) for case in found.cases] == [
        ("TCGA-2Z-A9J9-01A-01-TS1", "TCGA-2Z-A9J9", "test"),
        ("TCGA-18-5592-01Z-00-DX1", "TCGA-18-5592", "train"),
        ("TCGA-38-6178-01Z-00-DX1", "TCGA-38-6178", "train"),
    ]
    assert found.patients_known
    assert len(found.files) == 6
    raw = adapter.read(location, found.cases[1], job)
    assert raw.image.shape == (1, 3, 36, 40)
    assert raw.label.shape == (1, 36, 40)
    assert abs(int(raw.label.sum()) - (30 + 6 * 32 / 2)) < 4


def test_monuseg_tiles_of_annotated_pictures(original: Path) -> None:
    adapter, location = adapters.get("monuseg"), Location.parse(original)
    job = config(original, tiles={"size": 16, "overlap": 0})
    found = adapter.discover(location, job)
    assert len(found.cases) == 3 * 9
    assert {case.group for case in found.cases} == {"TCGA-18-5592", "TCGA-2Z-A9J9", "TCGA-38-6178"}
    whole = adapter.read(location, adapter.discover(location, config(original)).cases[0], config(original))
    for case in found.cases[:9]:
        assert case.region is not None
        top, left, height, width = case.region
        tile = adapter.read(location, case, job)
        assert np.array_equal(tile.label, whole.label[:, top : top + height, left : left + width])


def test_monuseg_what_is_wrong_with_an_annotation_names_the_file(original: Path) -> None:
    adapter, location, job = adapters.get("monuseg"), Location.parse(original), config(original)
    case = adapter.discover(location, job).cases[0]
    (original / case.labels[0]).write_bytes(b"<x/>")
    (original / case.images[0]).write_bytes(b"no picture")
    with pytest.raises(CaseError) as error:
        adapter.read(location, case, job)
    first, second = error.value.problems
    assert first.startswith("MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.tif: not an image of the allowed formats")
    assert second.startswith("MoNuSegTestData/TCGA-2Z-A9J9-01A-01-TS1.xml: its root is not <Annotations>")


def test_monuseg_annotations_have_a_largest_size(original: Path) -> None:
    adapter, location, job = adapters.get("monuseg"), Location.parse(original), config(original)
    case = adapter.discover(location, job).cases[0]
    with (original / case.labels[0]).open("r+b") as file:
        file.truncate(MAX_ANNOTATION_BYTES + 1)
    with pytest.raises(CaseError, match=r"TS1\.xml: has more than 64 MiB; split it"):
        adapter.read(location, case, job)


def test_fault_d7_monuseg_pictures_and_annotations_without_a_partner_are_listed(original: Path) -> None:
    (original / "MoNuSeg 2018 Training Data/Annotations/TCGA-18-5592-01Z-00-DX1.xml").unlink()
    (original / "MoNuSeg 2018 Training Data/Tissue Images/TCGA-38-6178-01Z-00-DX1.tif").unlink()
    with pytest.raises(DataError) as error:
        adapters.get("monuseg").discover(Location.parse(original), config(original))
    assert [problem.rpartition(": ")[2] for problem in error.value.problems] == [
        "there is no mask for this image",
        "there is no image for this mask",
    ]
