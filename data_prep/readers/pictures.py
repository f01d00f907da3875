"""PNG, JPEG, TIFF, BMP and GIF by Pillow, with a policy for everything that Pillow would decide silently.

Policies: only these five formats, by content and not by name; at most Pillow's bomb limit (89 million pixels); one
frame; EXIF orientation other than upright is refused, because nobody knows whether the mask was drawn before or after
turning; alpha must be opaque everywhere, and no pixel may have a colour that stands for transparency; a TIFF counts
from black; CMYK, Lab and 16 bits per colour are refused (converting loses something); a paletted image takes its
colours, a paletted mask its indices (or its colours, where classes are given by colour), and white must not come before
black in it; masks are never compressed with loss.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from data_prep.readers.base import ReaderError, store_precision

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_LOSSLESS = (
    "raw",
    "tiff_raw_16",
    "packbits",
    "tiff_lzw",
    "tiff_deflate",
    "tiff_adobe_deflate",
    "lzma",
    "zstd",
    "tiff_ccitt",
    "group3",
    "group4",
    "tiff_thunderscan",
)
_TRANSPARENT = "transparent pixels; flatten the image on the background that you mean"


def read_picture(data: bytes) -> npt.NDArray[Any]:
    """An image, (C, H, W) in source precision; C = 1 or 3.

    Raises:
        ReaderError: it is broken, or a policy of this module refuses it.
    """
    image = _open(data)
    if image.mode == "P":
        image = image.convert("RGB")
    pixels = _without_alpha(image)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(store_precision(planes))


def read_mask(data: bytes) -> npt.NDArray[Any]:
    """The values of a mask, (H, W); palette indices where it has a palette.

    Raises:
        ReaderError: it is broken, compressed with loss, or coloured, or a policy of this module refuses it.
    """
    image = _open(data, is_mask=True)
    if image.mode == "P":
        values = np.asarray(image)
        _refuse_inverted(image, values)
        return values
    values = _without_alpha(image)
    if values.ndim == 3:
        if np.any(values != values[..., :1]):
            raise ReaderError(
                "a coloured mask; store one value per class (grey or palette), or name the colours where the adapter "
                "takes data.label_colors"
            )
        values = values[..., 0]
    return values.astype(np.uint8) if values.dtype == bool else values


def read_colors(data: bytes) -> npt.NDArray[np.uint8]:
    """The colours of a mask, (H, W, 3): red, green, blue; greys and palettes as they look.

    Raises:
        ReaderError: it is broken, compressed with loss, has more than 8 bits per colour, or a policy of this module
            refuses it.
    """
    image = _open(data, is_mask=True)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "YCbCr"):
        raise ReaderError(f"mode {image.mode} has no 8-bit colours; export the mask as 8-bit RGB")
    if image.mode in ("LA", "RGBA"):
        _without_alpha(image)
    return np.asarray(image.convert("RGB"))


def picture_size(file: BinaryIO) -> tuple[int, int]:
    """Height and width of an image, from its header alone.

    Raises:
        ReaderError: no image of the allowed formats, or one beyond the bomb limit; the other policies are for those
            who read it.
    """
    with _reader_errors(), Image.open(file, formats=_FORMATS) as image:
        return image.height, image.width


def _open(data: bytes, *, is_mask: bool = False) -> Image.Image:
    """Decode wholly, so that a truncated file is found here."""
    with _reader_errors():
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _refuse(image, data)
        if is_mask:
            _refuse_loss(image)
        image.load()
        if _has_transparent_color(image):
            raise ReaderError(_TRANSPARENT)
    return image


@contextmanager
def _reader_errors() -> Iterator[None]:
    """All that Pillow raises for a bad file becomes a ReaderError; the bomb limit is a limit, not a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except ReaderError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise ReaderError(
            f"more than {limit} pixels; cut it into smaller files first (a small file like this may be an attack)"
        ) from error
    except UnidentifiedImageError as error:
        raise ReaderError(f"not an image of the allowed formats ({', '.join(_FORMATS)})") from error
    except _BROKEN as error:
        raise ReaderError(f"broken or truncated ({type(error).__name__}); copy it again") from None


def _refuse_inverted(image: Image.Image, indices: npt.NDArray[Any]) -> None:
    """Black and white where white is index 0: by colour it is the opposite of what it is by index."""
    used = np.unique(indices)
    colors = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if len(used) == 2 and used[-1] < len(colors) and np.array_equal(colors[used], [[255] * 3, [0] * 3]):
        raise ReaderError(
            f"a palette with white as index {used[0]} and black as index {used[1]}: which of them is background? Save "
            "it as grey PNG with 0 as background"
        )


def _refuse(image: Image.Image, data: bytes) -> None:
    if getattr(image, "is_animated", False):  # n_frames would look at each: minutes where a TIFF claims many
        raise ReaderError("several frames in one file; store one image per file")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation != 1:
        raise ReaderError(
            f"EXIF says that it is to be turned (orientation {orientation}); turn the pixels and clear the tag, so "
            "that image and mask agree"
        )
    _refuse_white_is_zero(image)
    if image.mode not in (*_GREY, "P", "RGB", "RGBA", "LA", "YCbCr"):
        raise ReaderError(f"mode {image.mode} is not supported; convert it to grey or RGB")
    if image.mode in ("RGB", "RGBA", "LA") and _bits_per_sample(image, data) > 8:
        raise ReaderError(
            "16 bits per colour, of which Pillow would keep 8; convert it to 8 bits per colour, or to 16-bit grey"
        )


def _refuse_loss(mask: Image.Image) -> None:
    if mask.format == "JPEG":
        raise ReaderError("a JPEG mask: compression changes label values; export it again as PNG")
    compression = mask.info.get("compression", "raw")
    if mask.format == "TIFF" and compression not in _LOSSLESS:
        raise ReaderError(
            f"a TIFF mask compressed as {compression}: compression with loss changes label values; export it again as "
            "PNG, or as TIFF with LZW or deflate"
        )


def _refuse_white_is_zero(image: Image.Image) -> None:
    """A missing tag means the same to Pillow, except in old JPEG."""
    if image.format != "TIFF" or image.info.get("compression") == "tiff_jpeg":
        return
    if getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC, 0) == 0:
        raise ReaderError(
            "a TIFF in which 0 is white (photometric interpretation 0, or none): 8-bit values would come inverted and "
            "16-bit values would not; export it again with 0 as black (photometric interpretation 1), or as PNG"
        )


def _has_transparent_color(image: Image.Image) -> bool:
    """PNG and GIF may name a colour or palette index that is not opaque; whether any pixel has it."""
    key = image.info.get("transparency")
    if key is None:
        return False
    if image.mode in ("1", "L", "P", "RGB"):
        return bool(np.any(np.asarray(image.convert("RGBA"))[..., -1] != 255))
    return isinstance(key, int) and image.mode in _GREY and bool(np.any(np.asarray(image) == key))


def _bits_per_sample(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, 8)
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _without_alpha(image: Image.Image) -> npt.NDArray[Any]:
    """(H, W) or (H, W, 3), native byte order."""
    if image.mode == "YCbCr":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if image.mode in ("RGBA", "LA"):
        if np.any(pixels[..., -1] != 255):
            raise ReaderError(_TRANSPARENT)
        pixels = pixels[..., :3] if image.mode == "RGBA" else pixels[..., 0]
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
