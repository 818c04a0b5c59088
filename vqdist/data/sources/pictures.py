"""Pictures of any format and mode, as uint8 slices of one size: padded to a square and resized, never distorted."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vqdist.foundation.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# Formats that Pillow decodes by itself: EPS, for one, would start Ghostscript.
_FORMATS = (
    *("PNG", "JPEG", "MPO", "JPEG2000", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "TGA"),
    *("PCX", "SGI", "ICO", "QOI", "XBM", "XPM", "SUN", "PSD", "IM", "MSP"),
)
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_STACKS = ("GIF", "TIFF", "WEBP", "PNG", "AVIF", "IM")
_MAX_PIXELS = 2**26
_BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError),
    *(struct.error, zlib.error, OverflowError, MemoryError),
)


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def picture_extensions() -> frozenset[str]:
    """Return the extensions of the formats that are read, in lower case with their dot."""
    from PIL import Image

    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in _formats())


def load_picture(path: str | Path, *, image_size: int, channels: int) -> np.ndarray:
    """Read a picture of any format and mode and bring it to one size.

    Transparent parts become black; 16-bit values are scaled to 8 bits; EXIF rotation is applied.

    Args:
        path: the file.
        image_size: rows and columns of the result.
        channels: 1 (colour becomes luma) or 3 (grey is repeated).
    Returns:
        (C, image_size, image_size) uint8.
    Raises:
        DataError: no picture, a broken one, an animation or stack, or one of more than 67 million pixels.
    """
    with _opened(path) as picture:
        pixels = _to_uint8(picture, channels)
    square = resize(pad_to_square(pixels), (image_size, image_size))
    return square[None] if channels == 1 else np.ascontiguousarray(square.transpose(2, 0, 1))


def has_colour(path: str | Path) -> bool:
    """Whether the header of a picture says colour; False for a file that cannot be read."""
    try:
        with _opened(path) as picture:
            if picture.mode in ("P", "PA"):
                palette = np.array(picture.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
                return bool((palette != palette[:, :1]).any())
            return picture.mode not in _GREY_MODES and not picture.mode.startswith("I;")
    except DataError:
        return False


@contextmanager
def _opened(path: str | Path) -> Iterator["Image.Image"]:
    """Yield a picture that is not decoded yet; what a broken file makes Pillow raise becomes a DataError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=_formats())
        with picture:
            _check(picture, path)
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError.of(str(path), "far too many pixels", f"at most {_MAX_PIXELS}") from error
    except _BROKEN as error:
        found = f"no picture that can be read ({str(error)[:200] or type(error).__name__})"
        raise DataError.of(str(path), found, "a whole picture") from error


def _check(picture: "Image.Image", path: str | Path) -> None:
    if picture.width * picture.height > _MAX_PIXELS:
        raise DataError.of(str(path), f"{picture.height} x {picture.width} pixels", f"at most {_MAX_PIXELS}")
    frames = getattr(picture, "n_frames", 1) if picture.format in _STACKS else 1
    if frames > 1:
        raise DataError.of(str(path), f"{frames} frames", "a single picture")


def _to_uint8(picture: "Image.Image", channels: int) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint8."""
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(picture)
    if turned.mode in ("I", "F") or turned.mode.startswith("I;"):
        grey = scale_grey(np.asarray(turned), sixteen_bits=turned.mode != "F")
        return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
    if turned.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, (0, 0, 0, 255)), turned)
    if channels == 1 and turned.mode != "L":
        turned = turned.convert("RGB").convert("L") if turned.mode != "1" else turned.convert("L")
    return np.asarray(turned.convert("L" if channels == 1 else "RGB"))


def scale_grey(values: np.ndarray, *, sixteen_bits: bool) -> np.ndarray:
    """Return numbers of more than 8 bits as uint8: 0 to 65535 by their range, all else by their own."""
    if sixteen_bits and values.min() >= 0 and values.max() <= 65535:
        return np.round(values / 257).astype(np.uint8)
    low, high = robust_range(values)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Return the values that become black and white, for a volume or picture of unknown range.

    White is the 99.8th percentile of what is not background, so that a few hot voxels do not darken the
    rest. Black is 0; only where much lies below 0 (standardised values, Hounsfield units) it is the 0.2nd
    percentile, and the background, the middle value of the border, becomes black too.

    Raises:
        ValueError: no contrast at all.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("not one finite value")
    inside = finite[finite > 0]
    high = float(np.percentile(inside, 99.8)) if inside.size else 0.0
    low = float(np.percentile(finite, 1))
    if low < -0.02 * high or not inside.size:
        border = np.concatenate([np.take(values, (0, -1), axis).ravel() for axis in range(values.ndim)])
        inside = finite[finite != np.nan_to_num(np.median(border))]
        low, high = np.percentile(inside, (0.2, 99.8)).tolist() if inside.size else (0.0, 0.0)
    else:
        low = 0.0
    if not high > low:
        raise ValueError("the same value everywhere")
    return low, high


def pad_to_square(image: np.ndarray, side: int = 0) -> np.ndarray:
    """Put an image, (H, W) or (H, W, 3), into the middle of a black square, at least `side` wide."""
    side = max(side, *image.shape[:2])
    margins = [((side - size) // 2, side - size - (side - size) // 2) for size in image.shape[:2]]
    return np.pad(image, margins + [(0, 0)] * (image.ndim - 2))


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an image, (H, W) or (H, W, 3), uint8 or float32; shrinking averages, so that nothing aliases."""
    from PIL import Image

    if image.shape[:2] == shape:
        return image
    return np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))
