"""Pictures and masks: what comes out of each kind of file, and what is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.labels import LabelRule
from data_prep.readers import ReaderError, read_mask, read_picture
from data_prep.readers.pictures import read_colors

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def paletted(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values, mode=None).convert("P") if values.ndim == 3 else Image.new("P", values.shape[::-1])
    image.putpalette([0, 0, 0, 200, 30, 30, 10, 90, 250, 7, 7, 7])
    image.putdata(values.ravel().tolist())
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_colours_are_channels_first_and_exact(kind: str) -> None:
    assert np.array_equal(read_picture(saved(Image.fromarray(COLOUR), kind)), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(read_picture(saved(Image.fromarray(GREY), kind)), GREY[None])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_fault_d5_16_bits_stay_16_bits(kind: str) -> None:
    deep = GREY.astype(np.uint16) * 181 + 40000 - 39820
    deep[0, 0] = 40000
    found = read_picture(saved(Image.fromarray(deep), kind))
    assert found.dtype == np.uint16
    assert np.array_equal(found[0], deep)


def test_float_tiff_stays_float() -> None:
    values = GREY.astype(np.float32) / 7
    assert np.array_equal(read_picture(saved(Image.fromarray(values), "TIFF"))[0], values)


def test_one_bit_pictures_are_black_and_white_but_masks_are_0_and_1() -> None:
    bits = saved(Image.fromarray(GREY > 100))
    assert set(np.unique(read_picture(bits))) == {0, 255}
    assert np.array_equal(read_mask(bits), (GREY > 100).astype(np.uint8))


def test_fault_d5_palette_masks_are_indices_and_not_brightness() -> None:
    values = np.array([[0, 1, 2], [3, 2, 1]], dtype=np.uint8)
    data = saved(paletted(values))
    assert np.array_equal(read_mask(data), values)
    assert read_picture(data)[:, 0, 1].tolist() == [200, 30, 30]


def test_opaque_alpha_is_dropped_and_transparency_refused() -> None:
    opaque = np.dstack([COLOUR, np.full_like(GREY, 255)])
    assert np.array_equal(read_picture(saved(Image.fromarray(opaque))), COLOUR.transpose(2, 0, 1))
    opaque[1, 1, 3] = 254
    with pytest.raises(ReaderError, match="transparent pixels"):
        read_picture(saved(Image.fromarray(opaque)))


def test_grey_masks_stored_as_rgb_are_read_and_coloured_ones_refused() -> None:
    assert np.array_equal(read_mask(saved(Image.fromarray(np.dstack([GREY] * 3)))), GREY)
    with pytest.raises(ReaderError, match="coloured mask"):
        read_mask(saved(Image.fromarray(COLOUR)))


def test_fault_d3_jpeg_masks_are_refused_whatever_they_are_called() -> None:
    with pytest.raises(ReaderError, match="JPEG mask"):
        read_mask(saved(Image.fromarray(GREY), "JPEG"))


def test_fault_d5_exif_rotation_is_refused_and_upright_is_not() -> None:
    exif = Image.Exif()
    for orientation, refused in ((1, False), (6, True), (3, True)):
        exif[0x0112] = orientation
        data = saved(Image.fromarray(COLOUR), "JPEG", exif=exif)
        if refused:
            with pytest.raises(ReaderError, match=f"orientation {orientation}"):
                read_picture(data)
        else:
            assert read_picture(data).shape == (3, 3, 4)


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def test_fault_d5_16_bits_per_colour_are_refused_and_not_cut_to_8() -> None:
    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    with pytest.raises(ReaderError, match="16 bits per colour"):
        read_picture(_png(2, 2, 16, 2, rows))


@pytest.mark.parametrize("side", [14000, 10000])
def test_fault_s8_image_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    """Beyond twice its limit Pillow raises; up to there it only warns."""
    bomb = _png(side, side, 1, 0, bytes(side * (side // 8 + 1)))
    assert len(bomb) < 40_000
    with pytest.raises(ReaderError, match="more than 89,478,485 pixels"):
        read_picture(bomb)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
FITS = b"SIMPLE  =                    T / conforms to FITS standard".ljust(80) + b"END".ljust(2800)


@pytest.mark.parametrize("data", [EPS, FITS, b"%PDF-1.4", b"", b"hello", b"GIF89a"])
def test_fault_s8_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(ReaderError, match=r"allowed formats \(PNG, JPEG, TIFF, BMP, GIF\)|broken"):
        read_picture(data)


def test_formats_outside_the_list_are_refused_although_pillow_reads_them() -> None:
    for kind in ("PPM", "WEBP", "TGA"):
        with pytest.raises(ReaderError, match="allowed formats"):
            read_picture(saved(Image.fromarray(COLOUR), kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_pictures_are_found(kind: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(ReaderError):
        read_picture(data[: int(len(data) * keep)])


def test_several_frames_and_cmyk_are_refused() -> None:
    frames = saved(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.fromarray(GREY)])
    with pytest.raises(ReaderError, match="several frames"):
        read_picture(frames)
    with pytest.raises(ReaderError, match="mode CMYK"):
        read_picture(saved(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"))


@pytest.mark.parametrize("harm", [lambda d: d[:200] + b"\xff" * 40 + d[240:], lambda d: d[:40] + d[80:]])
def test_corrupt_png_is_an_error_of_ours(harm: Callable[[bytes], bytes]) -> None:
    data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)))
    with pytest.raises(ReaderError, match="broken"):
        read_picture(harm(data))


@pytest.mark.parametrize("compression", ["jpeg", "webp"])
def test_fault_D3_tiff_masks_compressed_with_loss_are_refused_and_others_read(compression: str) -> None:
    values = np.zeros((32, 32), np.uint8)
    values[8:24, 8:24] = 255
    data = saved(Image.fromarray(values), "TIFF", compression="jpeg")
    entry, number = struct.pack("<HHI", 259, 3, 1), {"jpeg": 7, "webp": 50001}[compression]
    data = data.replace(entry + struct.pack("<H", 7), entry + struct.pack("<H", number))
    for read in (read_mask, read_colors):
        with pytest.raises(ReaderError, match=rf"compressed as {compression}.*export it again as PNG"):
            read(data)
    for kept in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma"):
        assert np.array_equal(read_mask(saved(Image.fromarray(values), "TIFF", compression=kept)), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_fault_D5_tiff_with_white_as_0_is_refused(dtype: type) -> None:
    """Pillow turns the values of 8 bits and leaves those of 16."""
    black_is_zero = saved(Image.fromarray(GREY.astype(dtype)), "TIFF")
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert black_is_zero.count(entry) == 1
    white_is_zero = black_is_zero.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0))
    for read in (read_mask, read_picture):
        assert np.array_equal(np.squeeze(read(black_is_zero)), GREY)
        with pytest.raises(ReaderError, match=r"0 is white.*export it again with 0 as black"):
            read(white_is_zero)


def test_fault_D5_transparent_colours_and_indices_are_refused_where_a_pixel_has_them() -> None:
    indices = np.array([[0, 1, 2], [2, 2, 1]], dtype=np.uint8)
    deep = Image.fromarray(GREY.astype(np.uint16) * 256)
    cases = [
        *((Image.fromarray(GREY), "PNG", key, key == 20) for key in (20, 21)),
        *((deep, "PNG", key, key == 5120) for key in (5120, 5121)),
        *((Image.fromarray(COLOUR), "PNG", key, key[0] == 0) for key in ((0, 255, 0), (1, 255, 0))),
        *((paletted(indices), "PNG", key, key == b"\xff\0") for key in (b"\xff\0", b"\xff\xff\xff\0")),
        *((paletted(indices), "GIF", key, key == 0) for key in (0, 3)),
    ]
    for image, kind, key, refused in cases:
        data = saved(image, kind, transparency=key)
        if refused:
            with pytest.raises(ReaderError, match="transparent pixels"):
                read_picture(data)
        else:
            assert read_picture(data).shape[1:] == image.size[::-1]


def _disc(side: int = 64) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return np.where((rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side / 3) ** 2, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("harm", ["smoothed", "compressed"])
def test_fault_D3_single_class_masks_that_were_smoothed_or_compressed_are_refused(harm: str) -> None:
    mask = Image.fromarray(_disc())
    if harm == "smoothed":
        mask = mask.resize((96, 96), Image.Resampling.BILINEAR)
    else:
        mask = Image.open(io.BytesIO(saved(mask, "JPEG", quality=80)))
    with pytest.raises(ReaderError, match=r"look smoothed.*\b0 \(\d+ pixels\).*again as PNG without smoothing"):
        LabelRule(None).read(saved(mask))


def test_fault_D3_numbers_of_instances_are_no_smoothing() -> None:
    stripes = np.repeat(np.arange(256, dtype=np.uint8), 16).reshape(64, 64)
    some = np.zeros((64, 64), np.uint8)
    some[:20, :20], some[30:50, :20], some[:20, 30:60] = 12, 130, 255
    for mask in (_disc(), _disc() // 255, stripes, stripes // 16, some):
        assert np.array_equal(LabelRule(None).read(saved(Image.fromarray(mask))), mask > 0)


def test_fault_D3_released_instance_masks_pass(udt_test_data: Path) -> None:
    masks = sorted((udt_test_data / "glas").rglob("labelcol/*.png"))
    assert masks
    for mask in masks:
        assert LabelRule(None).read(mask.read_bytes()).max() == 1
