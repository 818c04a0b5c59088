"""Distributed training of a VQ-VAE and a gated PixelCNN on brain MRI slices."""

import importlib
from typing import TYPE_CHECKING, Any

from vqdist.foundation.installation import check_installation

check_installation()  # before an import of a package that may be missing

if TYPE_CHECKING:
    from vqdist.data.sources.pictures import load_picture
    from vqdist.models.io import load_model, save_model
    from vqdist.models.pixelcnn import PixelCNN
    from vqdist.models.quantizer import VectorQuantizer
    from vqdist.models.vqvae import VQVAE

__version__ = "0.1.0"
__all__ = ["VQVAE", "PixelCNN", "VectorQuantizer", "load_model", "load_picture", "save_model"]

_HOMES = {
    "VQVAE": "vqdist.models.vqvae",
    "PixelCNN": "vqdist.models.pixelcnn",
    "VectorQuantizer": "vqdist.models.quantizer",
    "load_model": "vqdist.models.io",
    "load_picture": "vqdist.data.sources.pictures",
    "save_model": "vqdist.models.io",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds, and `--help` does without it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> "list[str]":  # quoted: an error before Python 3.9
    return sorted([*globals(), *__all__])
