"""Reading of pictures of any format and mode as uint8 slices of one size, padded to a square and resized."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vqdist.data.shards.codecs import PICTURE_ERRORS
from vqdist.data.shards.png import check_png_chunks
from vqdist.data.sources.tiff_checksums import check_tiff_data
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import print_message

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
_ORIENTATION_TAG = 274
SIXTEEN_BITS = (0.0, 65535.0)
_TWELVE_BITS = 4095  # the highest value that most scanners write, in files of 16 bits


@dataclass(frozen=True)
class PictureBytes:
    """A picture that is not a file of its own, for example a member of a tar; `name` names it in messages."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


PictureSource = str | Path | PictureBytes
GreyKind = Literal["integer", "float"]  # numbers in a grey picture of more than 8 bits
GreyRanges = Mapping[GreyKind, tuple[float, float]]  # the values of black and white


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


def load_picture(
    path: PictureSource,
    *,
    image_size: int,
    channels: int,
    read_ranges: Callable[[], GreyRanges] | None = None,
    report: Callable[[str], None] = print_message,
) -> np.ndarray:
    """Read a picture, pad it with black to a square and resize it.

    Transparent pixels become black, 16-bit values are scaled to 8 bits, and the EXIF orientation is applied. Float
    values, integers beyond 16 bits, and those of 12 bits in a 16-bit file are scaled by `read_ranges` or else by the
    picture's own `robust_range`.

    Args:
        path: the file.
        image_size: rows and columns of the result.
        channels: 1 (colour is converted to luma) or 3 (grey is repeated).
        read_ranges: returns the values of black and white, if they are common to several pictures; called only for a
            grey picture of more than 8 bits.
        report: called with a message if the EXIF data cannot be read. The picture is used as it is stored.
    Returns:
        (channels, image_size, image_size) uint8.
    Raises:
        DataError: no picture, a damaged one, an animation or stack, or more than 67 million pixels.
    """
    return to_model_size(read_pixels(path, channels=channels, read_ranges=read_ranges, report=report), image_size)


def read_pixels(
    path: PictureSource,
    *,
    channels: int,
    read_ranges: Callable[[], GreyRanges] | None = None,
    report: Callable[[str], None] = print_message,
) -> np.ndarray:
    """Read a picture in its own size, (H, W) uint8 or, with 3 channels, (H, W, 3); the rest as in `load_picture`."""
    with _opened(path) as picture:
        _check_checksums(picture, path)
        return _to_uint8(_turn_upright(picture, path, report), channels, read_ranges)


def to_model_size(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Pad pixels, (H, W) or (H, W, 3), to a square and resize it to (C, image_size, image_size)."""
    square = resize(pad_to_square(pixels), (image_size, image_size))
    return square[None] if square.ndim == 2 else np.ascontiguousarray(square.transpose(2, 0, 1))


def measure_grey_range(path: PictureSource) -> tuple[GreyKind, tuple[float, float] | None] | None:
    """Return the kind of numbers in a grey picture of more than 8 bits, and its values of black and white.

    Returns:
        None: the picture has 8 bits, or colour, or cannot be read. A range of None: it has no contrast.
    """
    try:
        with _opened(path) as picture:
            if not _has_many_bits(picture):
                return None
            _check_checksums(picture, path)
            values = np.asarray(picture)
    except DataError:
        return None
    kind = _grey_kind(picture)
    if kind == "integer" and uses_sixteen_bits(values):
        return kind, SIXTEEN_BITS
    try:
        return kind, robust_range(values)
    except ValueError:
        return kind, None


def has_colour(path: PictureSource) -> bool:
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
def _opened(path: PictureSource) -> Iterator["Image.Image"]:
    """Open a picture without decoding it. Errors of Pillow, in the block too, become a DataError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(path.data) if isinstance(path, PictureBytes) else path, formats=_formats())
        with picture:
            _check(picture, path)
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError.of(str(path), "too many pixels", f"at most {_MAX_PIXELS}") from error
    except PICTURE_ERRORS as error:
        found = f"no readable picture ({str(error)[:200] or type(error).__name__})"
        raise DataError.of(str(path), found, "a whole picture") from error


def _check(picture: "Image.Image", path: PictureSource) -> None:
    if picture.width * picture.height > _MAX_PIXELS:
        raise DataError.of(str(path), f"{picture.height} x {picture.width} pixels", f"at most {_MAX_PIXELS}")
    frames = getattr(picture, "n_frames", 1) if picture.format in _STACKS else 1
    if frames > 1:
        raise DataError.of(str(path), f"{frames} frames", "a single picture")


def _check_checksums(picture: "Image.Image", path: PictureSource) -> None:
    """Compare the checksums that the format has with the data."""
    try:
        with io.BytesIO(path.data) if isinstance(path, PictureBytes) else open(path, "rb") as file:
            if picture.format == "PNG":
                check_png_chunks(file)
            elif picture.format == "TIFF":
                check_tiff_data(file, getattr(picture, "tag_v2", {}))
    except ValueError as error:
        found = f"a damaged {picture.format} ({error})"
        raise DataError.of(str(path), found, "a whole picture: copy or download it again") from error


def _turn_upright(picture: "Image.Image", path: PictureSource, report: Callable[[str], None]) -> "Image.Image":
    """Decode a picture and apply its EXIF orientation.

    Pillow's `exif_transpose` also rewrites the EXIF data, which fails if any other tag is invalid.
    """
    from PIL import Image

    picture.load()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid tags
            exif = picture.getexif()
            if not exif:
                Image.Exif().load(picture.info.get("exif") or b"")  # raises what the reader of JPEG has ignored
            orientation = exif.get(_ORIENTATION_TAG, 1)
    except PICTURE_ERRORS as error:
        found = str(error)[:100] or type(error).__name__
        report(f"{path}: EXIF data cannot be read ({found}); the picture is used as it is stored")
        return picture
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    method = methods.get(orientation) if isinstance(orientation, int) else None
    return picture if method is None else picture.transpose(method)


def _has_many_bits(picture: "Image.Image") -> bool:
    """Whether a picture is grey with more than 8 bits."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;")


def _grey_kind(picture: "Image.Image") -> GreyKind:
    return "float" if picture.mode == "F" else "integer"


def _to_uint8(picture: "Image.Image", channels: int, read_ranges: Callable[[], GreyRanges] | None) -> np.ndarray:
    """Return (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    if _has_many_bits(picture):
        limits = read_ranges().get(_grey_kind(picture)) if read_ranges else None
        grey = scale_grey(np.asarray(picture), sixteen_bits=picture.mode != "F", limits=limits)
        return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    if channels == 1 and picture.mode != "L":
        picture = picture.convert("RGB").convert("L") if picture.mode != "1" else picture.convert("L")
    return np.asarray(picture.convert("L" if channels == 1 else "RGB"))


def scale_grey(values: np.ndarray, *, sixteen_bits: bool, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Scale grey values of more than 8 bits to uint8.

    Args:
        values: any numbers.
        sixteen_bits: without limits, scale by the 16-bit range if the values use it; otherwise by `robust_range`.
            Without contrast, 0 and values below are black.
        limits: the values of black and white.
    Raises:
        ValueError: no value is finite.
    """
    if limits is None and sixteen_bits and uses_sixteen_bits(values):
        limits = SIXTEEN_BITS
    try:
        low, high = limits or robust_range(values)
    except NoContrastError:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def uses_sixteen_bits(values: np.ndarray) -> bool:
    """Return whether integers fill the 16-bit range: from 0 to 65535, and some above 4095.

    Lower ones are those of a scanner with 12 bits, of which the 16-bit range would leave 17 grey levels.
    """
    return bool(values.min() >= SIXTEEN_BITS[0] and _TWELVE_BITS < values.max() <= SIXTEEN_BITS[1])


class NoContrastError(ValueError):
    """A picture or volume has the same value everywhere."""


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Return the values to map to black and white, for a volume or picture of unknown range.

    White is the 99.8th percentile of the foreground, so a few very bright voxels do not darken the rest. Black is 0.
    If many values are below 0 (standardised values, Hounsfield units), black is the 0.2nd percentile of the
    foreground, and the background, which is the median of the border, is black too.

    Raises:
        NoContrastError: nearly all values are equal, and not above 0.
        ValueError: no value is finite.
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
        raise NoContrastError("the same value everywhere")
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
    # A copy, because an array that Pillow owns cannot be written to and torch warns about it.
    return np.array(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))
