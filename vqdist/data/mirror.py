"""Mirror images of slices: which sides change places. The slices of this package have the subject's left at the top."""

from torch import Tensor

from vqdist.config.schema import Mirror

# The side of a tensor that ends in rows and columns, (..., H, W).
AXES: dict[Mirror, int] = {"rows": -2, "columns": -1}


def mirror_images(images: Tensor, mirror: Mirror) -> Tensor:
    """Return images (..., H, W) with their rows or columns in reverse; as they are for "none"."""
    return images.flip(AXES[mirror]) if mirror in AXES else images
