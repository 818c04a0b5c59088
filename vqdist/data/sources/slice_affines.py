"""Affines of slices whose files have none: from (row, column, slice number) to millimetres, RAS+."""

from vqdist.data.sources.volume_limits import Affine
from vqdist.foundation.json_validation import AffineRows

# The OASIS slices show a frame of 256 mm. It holds the T88_111 volume, 176 x 208 voxels of 1 mm, in its middle, with
# the anterior commissure at voxel (88, 123, 75); the lowest slice is plane 72.
_FRAME_MM = 256.0
_COMMISSURE_MM = (128.0, 147.0, 3.0)


def centred_affine(pixel_mm: float, image_size: int) -> AffineRows:
    """Return the affine of slices 1 mm apart with the origin in the middle of slice 0."""
    origin = -(image_size - 1) / 2 * pixel_mm
    return ((pixel_mm, 0.0, 0.0, origin), (0.0, pixel_mm, 0.0, origin), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def oasis_affine(image_size: int) -> AffineRows:
    """Return the affine of the 32 middle OASIS slices with the origin in the anterior commissure."""
    pixel_mm = _FRAME_MM / image_size
    x, y, z = _COMMISSURE_MM
    half = (pixel_mm - 1) / 2  # from the centre of a 1 mm pixel to that of a larger one
    return (
        (pixel_mm, 0.0, 0.0, half - x),
        (0.0, pixel_mm, 0.0, half - y),
        (0.0, 0.0, 1.0, -z),
        (0.0, 0.0, 0.0, 1.0),
    )


def to_rows(affine: Affine) -> AffineRows:
    """Return an affine as JSON values."""
    return tuple(tuple(float(number) for number in row) for row in affine)
