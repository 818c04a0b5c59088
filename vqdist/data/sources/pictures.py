"""Reading of pictures of any format and mode as uint8 slices of one size, padded to a square and resized."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vqdist.data.shards.codecs import PICTURE_ERRORS
from vqdist.foundation.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# Formats that Pillow decodes itself. For EPS, for example, it would start Ghostscript.
_FORMATS = (
    *("PNG", "JPEG", "MPO", "JPEG2000", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "PPM", "TGA"),
    *("PCX", "SGI", "ICO", "QOI", "XBM", "XPM", "SUN", "PSD", "IM", "MSP"),
)
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
_STACKS = ("GIF", "TIFF", "WEBP", "PNG", "AVIF", "IM")
_MAX_PIXELS = 2**26


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def picture_extensions() -> frozenset[str]:
    """Return the extensions of the supported formats, in lower case with their dot."""
    from PIL import Image

    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in _formats())


def load_picture(path: str | Path, *, image_size: int, channels: int) -> np.ndarray:
    """Read a picture, pad it with black to a square and resize it.

    Transparent pixels become black, 16-bit values are scaled to 8 bits, and the EXIF orientation is applied.

    Args:
        path: the file.
        image_size: rows and columns of the result.
        channels: 1 (colour is converted to luma) or 3 (grey is repeated).
    Returns:
        (channels, image_size, image_size) uint8.
    Raises:
        DataError: no picture, a damaged one, an animation or stack, or more than 67 million pixels.
    """
    return to_model_size(read_pixels(path, channels=channels), image_size)


def read_pixels(path: str | Path, *, channels: int) -> np.ndarray:
    """Read a picture in its own size, (H, W) uint8 or, with 3 channels, (H, W, 3); errors as in `load_picture`."""
    with _opened(path) as picture:
        return _to_uint8(picture, channels)


def to_model_size(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Pad pixels, (H, W) or (H, W, 3), to a square and resize it to (C, image_size, image_size)."""
    square = resize(pad_to_square(pixels), (image_size, image_size))
    return square[None] if square.ndim == 2 else np.ascontiguousarray(square.transpose(2, 0, 1))


def has_colour(path: str | Path) -> bool:
    """Whether a picture has colour, by its header or palette; False if it cannot be read."""
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
    """Open a picture without decoding it. Errors of Pillow, in the block too, become a DataError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path, formats=_formats())
        with picture:
            _check(picture, path)
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError.of(str(path), "too many pixels", f"at most {_MAX_PIXELS}") from error
    except PICTURE_ERRORS as error:
        found = f"no readable picture ({str(error)[:200] or type(error).__name__})"
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
    """Scale grey values of more than 8 bits to uint8.

    Args:
        values: any numbers.
        sixteen_bits: scale by the 16-bit range if all values are inside it; otherwise by `robust_range`.
    """
    if sixteen_bits and values.min() >= 0 and values.max() <= 65535:
        return np.round(values / 257).astype(np.uint8)
    low, high = robust_range(values)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Return the values to map to black and white, for a volume or picture of unknown range.

    White is the 99.8th percentile of the foreground, so a few very bright voxels do not darken the rest. Black is 0.
    If many values are below 0 (standardised values, Hounsfield units), black is the 0.2nd percentile of the
    foreground, and the background, which is the median of the border, is black too.

    Raises:
        ValueError: there is no contrast.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("no finite value")
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
    """Centre an image, (H, W) or (H, W, 3), in a black square with at least `side` rows and columns."""
    side = max(side, *image.shape[:2])
    margins = [((side - size) // 2, side - size - (side - size) // 2) for size in image.shape[:2]]
    return np.pad(image, margins + [(0, 0)] * (image.ndim - 2))


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an image, (H, W) or (H, W, 3), uint8 or float32, bilinearly and with antialiasing."""
    from PIL import Image

    if image.shape[:2] == shape:
        return image
    return np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))
