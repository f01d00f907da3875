"""Tiles: they cover the picture, stay in it, keep to their group, and hold the pixels of the whole."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import adapters
from data_prep.adapters import tiles
from data_prep.adapters.tiles import regions
from data_prep.case import CaseError
from data_prep.readers import ReaderError
from data_prep.readers.pictures import picture_size
from udt_cluster.config.data import DataConfig, TilesConfig
from udt_cluster.storage import Location

NAMES = ("a", "a_y0_x0", "b10", "b9")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    for name, (height, width) in zip(NAMES, ((50, 70), (32, 32), (20, 90), (33, 33)), strict=True):
        for kind, values in (("images", (height, width, 3)), ("masks", (height, width))):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = random.integers(0, 2 if kind == "masks" else 255, values, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{name}.png")
    return tmp_path


def job(source: Path, size: int = 32, overlap: int = 4) -> DataConfig:
    return DataConfig.model_validate(
        {
            "source": str(source),
            "adapter": "image_folder",
            "group_by": "case",
            "tiles": {"size": size, "overlap": overlap},
        }
    )


@pytest.mark.parametrize("size", [16, 17, 48])
@pytest.mark.parametrize("overlap", [0, 5, 15])
@pytest.mark.parametrize("shape", [(48, 48), (1, 100), (47, 49), (100, 31), (16, 16)])
def test_tiles_cover_the_picture_once_and_stay_in_it(size: int, overlap: int, shape: tuple[int, int]) -> None:
    covered = np.zeros(shape, int)
    found = regions(*shape, TilesConfig(size=size, overlap=overlap))
    for top, left, height, width in found:
        assert (height, width) == (min(size, shape[0]), min(size, shape[1]))
        assert 0 <= top <= shape[0] - height
        assert 0 <= left <= shape[1] - width
        covered[top : top + height, left : left + width] += 1
    assert covered.min() == 1
    assert len(set(found)) == len(found)
    tops = sorted({region[0] for region in found})
    assert set(np.diff(tops[:-1])) <= {size - overlap}


def test_every_tile_is_a_case_in_the_group_of_its_picture(source: Path) -> None:
    config = job(source)
    found = adapters.get("image_folder").discover(Location.parse(source), config)
    ids = [case.id for case in found.cases]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if i.startswith("b")] == ["b9_y0_x0", "b9_y0_x1", "b9_y1_x0", "b9_y1_x1"] + [
        f"b10_y0_x{left}" for left in (0, 28, 56, 58)
    ]
    assert {case.group for case in found.cases} == set(NAMES)
    assert all(case.id.startswith(f"{case.group}_y") for case in found.cases)
    assert len(found.files) == 8


def test_tiles_hold_the_pixels_of_the_picture(source: Path) -> None:
    adapter, config, location = adapters.get("image_folder"), job(source), Location.parse(source)
    for case in adapter.discover(location, config).cases:
        raw = adapter.read(location, case, config)
        assert case.region is not None
        top, left, height, width = case.region
        with Image.open(source / case.images[0]) as image, Image.open(source / case.labels[0]) as mask:
            box = (left, top, left + width, top + height)
            assert np.array_equal(raw.image[0].transpose(1, 2, 0), np.asarray(image.crop(box))), case.id
            assert np.array_equal(raw.label[0], np.asarray(mask.crop(box))), case.id
        raw.image[:], raw.label[:] = 0, 0  # a tile is the reader's own: writing to it harms no other


def test_a_picture_is_decoded_once_for_its_tiles(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, config, location = adapters.get("image_folder"), job(source), Location.parse(source)
    decoded = []

    def counted(data: bytes) -> np.ndarray:
        decoded.append(len(data))
        return read_picture(data)

    read_picture = tiles.read_picture
    monkeypatch.setattr(tiles, "read_picture", counted)
    cases = [case for case in adapter.discover(location, config).cases if case.group != "a_y0_x0"]
    for case in cases:
        adapter.read(location, case, config)
    assert len(cases) > len(decoded) == 3


def test_a_changed_file_is_read_anew(source: Path) -> None:
    adapter, config, location = adapters.get("image_folder"), job(source), Location.parse(source)
    case = adapter.discover(location, config).cases[0]
    adapter.read(location, case, config)
    Image.new("RGB", (70, 50), (1, 2, 3)).save(source / case.images[0])
    assert adapter.read(location, case, config).image[0, :, 0, 0].tolist() == [1, 2, 3]
    Image.new("RGB", (30, 50)).save(source / case.images[0])
    Image.new("L", (30, 50)).save(source / case.labels[0])
    with pytest.raises(CaseError, match="has changed since the source was listed"):
        adapter.read(location, case, config)


def test_a_broken_picture_is_one_bad_case_and_not_the_end(source: Path) -> None:
    (source / "images/b9.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    adapter, config, location = adapters.get("image_folder"), job(source), Location.parse(source)
    found = adapter.discover(location, config)
    (case,) = [case for case in found.cases if case.group == "b9"]
    with pytest.raises(CaseError, match=r"images/b9\.png: "):
        adapter.read(location, case, config)
    Image.new("RGB", (33, 33)).save(source / "images/b9.png")
    with pytest.raises(CaseError, match="start the preparation again"):
        adapter.read(location, case, config)


def test_a_mask_of_another_size_is_refused_before_it_is_cut(source: Path) -> None:
    Image.new("L", (71, 50)).save(source / "masks/a.png")
    adapter, config, location = adapters.get("image_folder"), job(source), Location.parse(source)
    with pytest.raises(CaseError, match=r"masks/a\.png: the mask has 71 x 50 pixels, the image 70 x 50"):
        adapter.read(location, adapter.discover(location, config).cases[0], config)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_sizes_come_from_headers(kind: str) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    file = Counted(buffer.getvalue())
    assert picture_size(file) == (300, 200)
    assert file.taken < len(buffer.getvalue()) / 4


def test_fault_s8_sizes_beyond_the_bomb_limit_and_other_formats_are_refused() -> None:
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    for data, reason in ((bomb.getvalue(), "more than 89,478,485 pixels"), (b"%PDF-1.4", "allowed formats")):
        with pytest.raises(ReaderError, match=reason):
            picture_size(io.BytesIO(data))
