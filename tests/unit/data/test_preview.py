import io

import numpy as np
import pytest
from PIL import Image

from tests.memory_store import MemoryDataStore, make_cases
from udt_cluster.data.normalization import Normalization
from udt_cluster.data.preview import render_preview
from udt_cluster.errors import DataError

YELLOW, BLUE = (240, 228, 66), (86, 180, 233)


def store_of(*counts: int, splits=None, **settings) -> MemoryDataStore:
    """Grey pictures, so that every colour in the preview is one of ours; class 1 a square, class 2 one within it."""
    cases = make_cases([f"case{n}" for n in range(len(counts))], num_samples=counts, splits=splits)
    store = MemoryDataStore(cases=cases, size=(32, 32), **settings)
    store.images[:] = 90
    store.labels[:] = 0
    store.labels[:, 8:24, 8:24] = 1
    store.labels[:, 12:20, 12:20] = 2
    return store


def normalization(store: MemoryDataStore, kind: str = "auto") -> Normalization:
    return Normalization.from_fingerprint(kind, store.info.fingerprint, store.info.dtype)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def count_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=-1) < 12).sum())


@pytest.mark.parametrize(
    ("channels", "dtype", "kind"),
    [(1, "uint8", "scale255"), (3, "uint8", "auto"), (2, "float32", "zscore"), (4, "uint16", "percentile")],
)
def test_eight_tiles_with_outlines_in_the_legend_s_colours(channels, dtype, kind):
    store = store_of(*[3] * 10, channels=channels, dtype=dtype)
    picture = pixels(render_preview(store, normalization(store, kind)))
    assert picture.shape[1] == 1800
    # Outlines of 16 and of 8 pixels a side in tiles of about 400: some 800 and 400 pixels each, 2 wide, in eight tiles.
    assert count_of(picture, YELLOW) > 8 * 800
    assert 8 * 400 < count_of(picture, BLUE) < count_of(picture, YELLOW)


def test_tiles_keep_their_shape():
    """A grey picture on the dark sheet is as high as its size says: rows of grey pixels against columns of them."""
    cases = make_cases([f"case{n}" for n in range(8)])
    store = MemoryDataStore(cases=cases, size=(32, 64))
    store.images[:], store.labels[:] = 128, 0
    grey = np.abs(pixels(render_preview(store, normalization(store), recipe="none")).astype(int) - 128).max(axis=-1) < 2
    high, wide = grey.any(axis=1).sum() / 2, grey.any(axis=0).sum() / 4
    assert wide == pytest.approx(2 * high, rel=0.02)
    assert wide > 400


def test_one_seed_gives_one_picture():
    store = store_of(*[2] * 12)
    store.images[:] = np.arange(24).reshape(24, 1, 1, 1) * 10
    first, again, other = (render_preview(store, normalization(store), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "float32"), (2, "uint16")])
def test_the_strong_recipe_can_be_seen(channels, dtype):
    store = store_of(*[3] * 10, channels=channels, dtype=dtype)
    scale = normalization(store)
    strong = render_preview(store, scale, recipe="strong")
    assert strong == render_preview(store, scale.with_context(2), recipe="strong"), "neighbours are not shown"
    pictures = [pixels(png) for png in (strong, render_preview(store, scale, recipe="released"))]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any(-1).mean() > 0.1
    assert count_of(pictures[0], YELLOW) > 8 * 500


def test_captions_break_behind_commas_alone():
    from udt_cluster.data.preview import _in_lines

    lines = _in_lines("rotated +180°, mirrored, zoom 1.30, elastic, brightness +6 %").split("\n")
    assert [line.replace("\xa0", " ") for line in lines] == [
        "rotated +180°, mirrored, zoom 1.30, elastic,", "brightness +6 %"
    ]  # fmt: skip


def test_cases_come_before_slices_and_foreground_before_none():
    store = store_of(*[5] * 12)
    store.labels[:20] = 0  # the first four cases are empty: eight others are left
    render_preview(store, normalization(store))
    assert len({store.sample_case[start] for start, _ in store.reads[:12]}) == 12
    with_foreground = pixels(render_preview(store, normalization(store)))
    assert count_of(with_foreground, YELLOW) > 8 * 800


def test_official_test_cases_are_not_shown():
    store = store_of(4, 4, 4, splits=["test", "train", "test"])
    render_preview(store, normalization(store))
    assert {start for start, _ in store.reads} == {4, 5, 6, 7}


def test_fewer_samples_than_tiles_leave_the_rest_empty():
    few, many = store_of(2), store_of(*[1] * 8)
    counts = [count_of(pixels(render_preview(store, normalization(store))), BLUE) for store in (few, many)]
    assert 0 < counts[0] < counts[1] / 2


def test_an_empty_and_a_full_label_have_no_outline():
    store = store_of(*[1] * 8, num_classes=2)
    store.labels[:4], store.labels[4:] = 0, 1
    assert count_of(pixels(render_preview(store, normalization(store), recipe="none")), YELLOW) < 800  # the legend's


def test_nothing_to_show_is_refused():
    store = store_of(3, splits=["test"])
    with pytest.raises(DataError, match="every case is an official test case"):
        render_preview(store, normalization(store))
